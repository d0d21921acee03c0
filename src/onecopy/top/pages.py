"""What the pages of one channel and of one process say, line by line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from onecopy._core.lines import escaped
from onecopy._core.sizes import format_size
from onecopy.observer.records import FramesView, QueueView, StreamView
from onecopy.observer.why import explain
from onecopy.observer.words import duration, several, waits_for
from onecopy.top.tables import channels_of, process_label, who

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from onecopy.observer.records import PoolSnapshot, ProcessView, ThingView
    from onecopy.observer.several import PoolLook
    from onecopy.observer.why import Chain
    from onecopy.top.cells import Tone
    from onecopy.top.tables import Channel

__all__ = ["Line", "page"]

_LONGER_THAN = 1.0  # seconds, as `onecopy why`
_MOST = 100  # processes in a list


class Line(NamedTuple):
    """A line of a page; a title stands at the left, and the others are indented."""

    text: str
    tone: Tone = ""
    title: bool = False


def page(look: PoolLook | None, key: tuple[object, ...]) -> list[Line]:
    """Describe what a row stands for.

    Parameters
    ----------
    look : PoolLook or None
        The last look at its pool. None: the pool is not watched any more.
    key : tuple
        The key of a row of the table of channels or of processes.

    Returns
    -------
    list of Line
        At least one.
    """
    if look is None or look.snapshot is None:
        return [Line(escaped(look.problem) if look else "The pool is gone.", "bad")]
    pool = look.snapshot
    if len(key) == 3:
        _, slot, pid = key
        for process in pool.processes:
            if (process.slot, process.pid) == (slot, pid):
                return list(_of_process(pool, process))
        return [Line(f"Process {pid} is gone.", "bad")]
    for thing in channels_of(pool):
        if (thing.kind, thing.index, thing.name) == key[1:]:
            return list(_of_channel(pool, thing))
    return [Line("The channel is gone, or a lock that nobody has any more.", "bad")]


# ---- one channel --------------------------------------------------------------------------------


def _of_channel(pool: PoolSnapshot, thing: Channel) -> Iterator[Line]:
    if not thing.readable:
        yield Line("It cannot be read now: it is damaged, or is changed very fast.", "warn")
    for line in _facts(thing):
        yield Line(line)
    memory = f"{format_size(thing.bytes)} in {several(thing.blocks, 'block')}"
    yield Line(f"memory, with what only it refers to: {memory}")
    yield from _section(*_holders(pool, thing))
    waiting = [
        f"{process_label(process)}: {wait.why.replace('_', ' ')}, for {duration(wait.seconds)}"
        + ("; it is dead" if process.state == "dead" else "")
        for process in pool.processes
        for wait in process.waits
        if wait.thing is not None and wait.thing.index == thing.index
    ]
    yield from _section("Threads that wait", waiting or ["none"])
    yield from _section("Open in", [who(pool, slot) for slot in thing.open_in] or ["no process"])
    yield from _why(chain for chain in _chains(pool) if _mentions(chain, thing))


def _facts(thing: Channel) -> Iterator[str]:
    if isinstance(thing, QueueView):
        yield f"{several(thing.depth, 'message')} can be taken; there is room for {thing.room:,}"
        yield f"{thing.put:,} put{_per(thing.put_rate)}"
        yield f"{thing.taken:,} taken{_per(thing.taken_rate)}"
        if thing.oldest is not None:
            yield f"the oldest message has been there for at least {duration(thing.oldest)}"
        if thing.redelivers:
            yield "it gives unfinished messages of dead processes to others"
        if thing.closed:
            yield "it was shut down"
    elif isinstance(thing, StreamView):
        yield f"{thing.policy}; it keeps {several(thing.depth, 'message')}"
        yield f"{thing.published:,} published{_per(thing.rate)}"
        if thing.closed:
            yield "it was closed"
    elif isinstance(thing, FramesView):
        yield f"{thing.out:,} of {thing.count:,} frames are out, {thing.free:,} are free"
        yield f"a frame has {format_size(thing.frame_bytes)}"
    else:
        for name, value in thing.details.items():
            yield f"{name.replace('_', ' ')}: {value}"


def _per(rate: float | None) -> str:
    return "" if rate is None else f" ({rate:,.1f} per second)"


def _holders(pool: PoolSnapshot, thing: Channel) -> tuple[str, list[str]]:
    if isinstance(thing, QueueView):
        taken = [
            f"{who(pool, each.slot, each.pid)}: {several(each.count, 'message')}"
            for each in thing.takers
        ]
        return "Taken and not finished", taken
    if isinstance(thing, StreamView):
        readers = sorted(thing.subscribers, key=lambda each: -each.lag)
        return "Subscribers", [
            f"{who(pool, each.slot)}: {each.lag:,} behind, missed {each.missed:,}"
            for each in readers
        ] or ["none"]
    if isinstance(thing, FramesView):
        return "Frames that are out", [
            f"{each.frames:,} {'by' if each.slot is not None else 'in'} "
            f"{who(pool, each.slot) if each.slot is not None else each.thing or 'a message'}"
            f"{f', one for at least {duration(each.seconds)}' if each.seconds >= 1 else ''}"
            for each in thing.holders
        ] or ["none"]
    return "Held by", [
        f"{who(pool, each.slot, each.pid)}: {each.role}"
        + (f" of {each.count:,}" if each.count > 1 else "")
        + (f", for {duration(each.seconds)}" if each.seconds is not None else "")
        for each in thing.holders
    ] or ["no process"]


# ---- one process --------------------------------------------------------------------------------


def _of_process(pool: PoolSnapshot, process: ProcessView) -> Iterator[Line]:
    tone: Tone = "" if process.state == "alive" else "warn"
    yield Line(f"{process.state}; slot {process.slot}; parent {process.parent_pid}", tone)
    if not process.same_namespace:
        yield Line(
            "its pid is one of another PID namespace: here it may be another process", "warn"
        )
    if process.command:
        yield Line(escaped(" ".join(process.command)))
    yield Line(f"holds {format_size(process.bytes)} in {several(process.blocks, 'block')}")
    title = "It waited, when it died, for" if process.state == "dead" else "Its threads wait for"
    waits = [
        f"{escaped(waits_for(wait))}, for {duration(wait.seconds)} (thread {wait.thread})"
        for wait in process.waits
    ]
    yield from _section(title, waits or ["nothing in the pool"])
    yield from _section("It has", list(_has(pool, process)) or ["nothing that others wait for"])
    names = [str(thing) for thing in channels_of(pool) if process.slot in thing.open_in]
    yield from _section("It has open", names or ["no channel"])
    chains = (
        chain
        for chain in _chains(pool)
        if process.pid in chain.pids
        or any(culprit.slot == process.slot for culprit in chain.culprits)
    )
    yield from _why(chains)


def _has(pool: PoolSnapshot, process: ProcessView) -> Iterator[str]:
    for frames in pool.frames:
        for holder in frames.holders:
            if holder.slot == process.slot:
                yield f"{holder.frames:,} of {frames.count:,} frames of {frames}"
    for queue in pool.queues:
        for taker in queue.takers:
            if taker.slot == process.slot:
                yield f"{several(taker.count, 'unfinished message')} of {queue}"
    for stream in pool.streams:
        for reader in stream.subscribers:
            if reader.slot == process.slot:
                yield f"a subscription of {stream}: {reader.lag:,} behind"
    for lock in pool.locks:
        for owner in lock.holders:
            if owner.slot == process.slot:
                yield f"{lock}: {owner.role}"


# ---- both ---------------------------------------------------------------------------------------


def _section(title: str, lines: list[str]) -> Iterator[Line]:
    if not lines:
        return
    yield Line("")
    yield Line(title, title=True)
    for line in lines[:_MOST]:
        yield Line(escaped(line))
    if len(lines) > _MOST:
        yield Line(f"and {len(lines) - _MOST:,} more")


def _chains(pool: PoolSnapshot) -> list[Chain]:
    return explain(pool, _LONGER_THAN)


def _mentions(chain: Chain, thing: ThingView) -> bool:
    return re.search(rf"(?<!\w){re.escape(str(thing))}", chain.text, re.IGNORECASE) is not None


def _why(chains: Iterable[Chain]) -> Iterator[Line]:
    yield Line("")
    yield Line("Why (as `onecopy why`)", title=True)
    found = list(chains)
    for chain in found[:_MOST]:
        yield Line(escaped(chain.text))
        for culprit in chain.culprits:
            certain = culprit.fault not in {"could", "nobody"}
            yield Line(f"-> {escaped(culprit.text)}", "bad" if certain else "warn")
    if not found:
        yield Line("no thread has waited for it longer than 1 s")
