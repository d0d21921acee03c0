"""What the three tables show: pools, channels and processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from onecopy._core.lines import escaped, shown
from onecopy.observer.records import FramesView, LockView, QueueView, StreamView
from onecopy.observer.system import short_command
from onecopy.observer.words import duration, several, waits_for
from onecopy.top.cells import Cell, Column, Row, Table, age, number, rate, share, size, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from onecopy.observer.records import (
        LockHolder,
        PoolSnapshot,
        ProcessView,
        ThingView,
    )
    from onecopy.observer.several import PoolLook
    from onecopy.top.cells import Tone

__all__ = [
    "Channel",
    "channel_name",
    "channels",
    "channels_of",
    "holders_of",
    "pools",
    "process_label",
    "processes",
    "who",
]

Channel = QueueView | StreamView | FramesView | LockView

_NOBODY = {"waiter", "notified", "arrived", "inner", "taker"}  # roles that are no ownership

_POOL = Column("pool", "POOL", 90, least=8, most=40)

_POOLS = (
    _POOL,
    Column("full", "FULL", 80, least=5, most=15),
    Column("used", "IN USE", 50, right=True),
    Column("size", "SIZE", 40, right=True),
    Column("processes", "PROCS", 70, right=True),
    Column("channels", "CHANNELS", 30, right=True),
    Column("rate", "MSG/S", 65, right=True),
    Column("waiting", "WAIT", 60, right=True),
    Column("longest", "LONGEST", 20, right=True),
    Column("note", "NOTE", 85, least=10),
)

_CHANNELS = (
    Column("kind", "KIND", 70, least=6, most=10),
    Column("name", "NAME", 100, least=8, most=40),
    Column("full", "FULL", 80, least=5, most=15),
    Column("load", "LOAD", 75, right=True),
    Column("in", "IN/S", 66, right=True),
    Column("out", "OUT/S", 65, right=True),
    Column("total", "TOTAL", 30, right=True),
    Column("waiting", "WAIT", 68, right=True),
    Column("memory", "MEMORY", 20, right=True),
    Column("note", "NOTE", 60, least=20),
)

_PROCESSES = (
    Column("pid", "PID", 100, right=True),
    Column("program", "PROGRAM", 80, least=8, most=40),
    Column("state", "STATE", 85),
    Column("holds", "HOLDS", 60, right=True),
    Column("full", "OF POOL", 15, least=10, most=15),
    Column("member", "MEMBER", 20, right=True),
    Column("waits", "WAITS FOR", 75, least=12),
    Column("since", "SINCE", 65, right=True),
)


# ---- names --------------------------------------------------------------------------------------


def channel_name(thing: ThingView) -> str:
    """Name a channel in one word, or by what it is a part of."""
    if thing.name is not None:
        return shown(thing.name)
    return f"(of {thing.owner})" if thing.owner is not None else f"(block {thing.index})"


def channels_of(pool: PoolSnapshot) -> list[Channel]:
    """Return what has a row in the table of channels.

    Locks without a name that nobody has and nobody waits for are left out: a pool may have
    thousands of them.
    """
    locks = [
        lock for lock in pool.locks if lock.name is not None or holders_of(lock) or lock.waiting
    ]
    return [*pool.queues, *pool.streams, *pool.frames, *locks]


def holders_of(lock: LockView) -> tuple[LockHolder, ...]:
    """Return the processes that have a lock or a share of it."""
    return tuple(each for each in lock.holders if each.role not in _NOBODY)


def process_label(process: ProcessView) -> str:
    """Name a process in a line: its pid and its program."""
    if not process.same_namespace:
        return f"{process.pid} (of another PID namespace)"
    program = short_command(process.command)
    return f"{process.pid} ({program})" if program else f"{process.pid}"


def who(pool: PoolSnapshot, slot: int | None, pid: int = 0) -> str:
    """Name the process of a slot, or say that it is gone."""
    process = pool.process(slot)
    if process is None:
        return f"{pid or 'a process'} (gone)"
    return process_label(process)


# ---- pools --------------------------------------------------------------------------------------


def pools(looks: Sequence[PoolLook]) -> Table:
    """Make the table of pools."""
    return Table(_POOLS, [_pool_row(look) for look in looks], "There is no pool.")


def _pool_row(look: PoolLook) -> Row:
    pool = look.snapshot
    name = words(shown(look.name))
    if pool is None:
        nothing = Cell("-", None, "dim")
        cells = {column.key: nothing for column in _POOLS}
        cells |= {"pool": name, "note": words(look.problem, "bad")}
        return Row((look.path,), cells, escaped(look.problem))
    rates = [queue.put_rate for queue in pool.queues] + [stream.rate for stream in pool.streams]
    known = [each for each in rates if each is not None]
    alive = [process for process in pool.processes if process.state != "dead"]
    waits = [wait.seconds for process in alive for wait in process.waits]
    in_use = pool.used + pool.structure_bytes
    note, tone = _pool_note(pool)
    cells = {
        "pool": name,
        "full": share(in_use, pool.size),
        "used": size(in_use),
        "size": size(pool.size),
        "processes": number(len(pool.processes)),
        "channels": number(len(channels_of(pool))),
        "rate": rate(sum(known) if known or pool.seconds is not None else None),
        "waiting": number(len(waits)),
        "longest": age(max(waits, default=None)),
        "note": words(note, tone, ""),
    }
    return Row((look.path,), cells, f"{name.text}: {escaped(pool.path)}")


def _pool_note(pool: PoolSnapshot) -> tuple[str, Tone]:
    """Say what is special of a pool."""
    dead = sum(process.state == "dead" for process in pool.processes)
    stopped = sum(process.state == "stopped" for process in pool.processes)
    if pool.corrupt:
        return "marked corrupt", "bad"
    if not pool.processes:
        return "no process", "dim"
    if dead == len(pool.processes):
        return ("all dead" if pool.persistent else "all dead; onecopy gc"), "bad"
    parts = [f"{count} {what}" for count, what in ((dead, "dead"), (stopped, "stopped")) if count]
    if pool.truncated:
        parts.append("too many channels to show all")
    return ", ".join(parts), "bad" if dead else "warn"


# ---- channels -----------------------------------------------------------------------------------


def channels(looks: Sequence[PoolLook], *, with_pool: bool) -> Table:
    """Make the table of channels of one or of several pools."""
    rows = []
    for look, pool in _readable(looks):
        for thing in channels_of(pool):
            row = _channel_row(pool, look, thing)
            rows.append(row)
    columns = (_POOL, *_CHANNELS) if with_pool else _CHANNELS
    return Table(columns, rows, _why_nothing(looks, "There is no channel."))


def _readable(looks: Sequence[PoolLook]) -> Iterator[tuple[PoolLook, PoolSnapshot]]:
    for look in looks:
        if look.snapshot is not None:
            yield look, look.snapshot


def _why_nothing(looks: Sequence[PoolLook], otherwise: str) -> str:
    problems = [look.problem for look in looks if look.snapshot is None]
    return escaped(problems[0]) if len(looks) == len(problems) == 1 else otherwise


def _channel_row(pool: PoolSnapshot, look: PoolLook, thing: Channel) -> Row:
    name = channel_name(thing)
    nothing = Cell("-", None, "dim")
    cells = {column.key: nothing for column in _CHANNELS} | {
        "pool": words(shown(look.name)),
        "kind": words(thing.kind.replace("_", " ")),
        "name": words(name),
        "memory": size(thing.bytes),
    }
    note, tone = _read(pool, thing, cells) if thing.readable else ("cannot be read now", "warn")
    cells["note"] = words(note, tone, "")
    about = f"{escaped(str(thing))}{f': {escaped(note)}' if note else ''}"
    return Row((look.path, thing.kind, thing.index, thing.name), cells, about)


def _read(pool: PoolSnapshot, thing: Channel, cells: dict[str, Cell]) -> tuple[str, Tone]:
    """Fill in the cells of a channel; return its note."""
    if isinstance(thing, QueueView):
        return _read_queue(thing, cells)
    if isinstance(thing, StreamView):
        return _read_stream(thing, cells)
    if isinstance(thing, FramesView):
        return _read_frames(pool, thing, cells)
    return _read_lock(pool, thing, cells)


def _read_queue(thing: QueueView, cells: dict[str, Cell]) -> tuple[str, Tone]:
    waiting = thing.producers_waiting + thing.consumers_waiting
    cells |= {
        "full": share(thing.occupied, thing.room),
        "load": Cell(f"{thing.depth:,}/{thing.room:,}", thing.depth),
        "in": rate(thing.put_rate),
        "out": rate(thing.taken_rate),
        "total": number(thing.put),
        "waiting": number(waiting, "warn" if thing.producers_waiting else ""),
    }
    parts = ["shut down"] if thing.closed else []
    if thing.oldest is not None and thing.oldest >= 1:
        parts.append(f"oldest > {duration(thing.oldest)}")
    taken = sum(each.count for each in thing.takers)
    if taken:
        parts.append(f"{taken:,} taken, not finished")
    if thing.producers_waiting:
        parts.append(f"{thing.producers_waiting} waiting to put")
    return ", ".join(parts), "warn" if thing.producers_waiting else ""


def _read_stream(thing: StreamView, cells: dict[str, Cell]) -> tuple[str, Tone]:
    lag = max((each.lag for each in thing.subscribers), default=0)
    missed = sum(each.missed for each in thing.subscribers)
    # Of a stream that waits for nobody it is usual that a reader is far behind.
    tone: Tone = "bad" if thing.policy == "lossless" else ""
    cells |= {
        "full": share(lag, thing.depth, full_is=tone),
        "load": Cell(f"{lag:,}/{thing.depth:,}", lag),
        "in": rate(thing.rate),
        "total": number(thing.published),
        "waiting": number(
            thing.publishers_waiting + thing.readers_waiting,
            "warn" if thing.publishers_waiting else "",
        ),
    }
    parts = ["closed"] if thing.closed else []
    parts += [thing.policy, several(len(thing.subscribers), "reader")]
    if missed:
        parts.append(f"missed {missed:,}")
    if thing.publishers_waiting:
        parts.append(f"{thing.publishers_waiting} waiting to publish")
    return ", ".join(parts), "warn" if missed or thing.publishers_waiting else ""


def _read_frames(pool: PoolSnapshot, thing: FramesView, cells: dict[str, Cell]) -> tuple[str, Tone]:
    cells |= {
        "full": share(thing.out, thing.count),
        "load": Cell(f"{thing.out:,}/{thing.count:,}", thing.out),
        "waiting": number(thing.waiting, "warn" if thing.waiting else ""),
    }
    parts = [
        f"{each.frames} by {who(pool, each.slot)}"
        if each.slot is not None
        else f"{each.frames} in {each.thing or 'a message'}"
        for each in thing.holders
    ]
    return ", ".join(parts), ""


def _read_lock(pool: PoolSnapshot, thing: LockView, cells: dict[str, Cell]) -> tuple[str, Tone]:
    cells["waiting"] = number(thing.waiting, "warn" if thing.waiting else "")
    details = thing.details
    parts = []
    if thing.kind == "barrier":
        there = sum(each.count for each in thing.holders if each.role == "arrived")
        parties = details.get("parties", 0)
        cells |= {
            "full": share(there, parties, full_is=""),
            "load": Cell(f"{there:,}/{parties:,}", there),
        }
        if details.get("broken"):
            parts.append("broken")
    if "is_set" in details:
        parts.append("set" if details["is_set"] else "not set")
    if "value" in details:
        value, initial = details["value"], details.get("initial", 0)
        cells |= {
            "full": share(initial - value, initial),
            "load": Cell(f"{initial - value:,}/{initial:,}", initial - value),
        }
    held = holders_of(thing)
    gone = any(pool.process(each.slot) is None for each in held)
    if held:
        times = [each.seconds for each in held if each.seconds is not None]
        since = f" for {duration(max(times))}" if times else ""
        names = ", ".join(who(pool, each.slot, each.pid) for each in held)
        parts.append(f"held{since} by {names}")
    return ", ".join(parts), "bad" if gone or details.get("broken") else ""


# ---- processes ----------------------------------------------------------------------------------

_STATES: dict[str, Tone] = {"alive": "good", "stopped": "warn", "dead": "bad", "unknown": "dim"}


def processes(looks: Sequence[PoolLook], *, with_pool: bool) -> Table:
    """Make the table of processes of one or of several pools."""
    rows = []
    now = time.time()
    for look, pool in _readable(looks):
        for process in pool.processes:
            row = _process_row(pool, look, process, now)
            rows.append(row)
    columns = (_POOL, *_PROCESSES) if with_pool else _PROCESSES
    return Table(columns, rows, _why_nothing(looks, "No process is a member."))


def _process_row(pool: PoolSnapshot, look: PoolLook, process: ProcessView, now: float) -> Row:
    program = short_command(process.command)
    if not process.same_namespace:
        program = "(other PID namespace)"
    what = ", ".join(dict.fromkeys(escaped(waits_for(wait)) for wait in process.waits))
    if process.more_may_wait:
        what += ", and perhaps more"
    since = max((wait.seconds for wait in process.waits), default=None)
    cells = {
        "pool": words(shown(look.name)),
        "pid": Cell(str(process.pid), process.pid),
        "program": words(program),
        "state": words(process.state, _STATES[process.state]),
        "holds": size(process.bytes),
        "full": share(process.bytes, pool.size),
        "member": age(max(0.0, now - process.joined)),
        "waits": words(what),
        "since": age(since),
    }
    command = " ".join(process.command or ())
    about = f"{process_label(process)}, {process.state}{f': {command}' if command else ''}"
    return Row((look.path, process.slot, process.pid), cells, escaped(about))
