"""What a waiting thread waits for, in words, and which processes could end its wait.

One function for each kind of wait. All that they say follows from one snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onecopy._core.sizes import format_size
from onecopy.observer.records import FramesView, LockView, QueueView, StreamView
from onecopy.observer.words import duration, joined, process_name, several

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from onecopy.observer.records import LockHolder, PoolSnapshot, ProcessView, ThingView, WaitView

__all__ = ["Blocked", "blocked_by"]


@dataclass(frozen=True, slots=True)
class Blocked:
    """What one wait stands on.

    Attributes
    ----------
    role : str
        What the thread is while it waits: "consumer", "producer" and so on.
    subject : str
        What it waits for, and its state: "queue 'jobs', which is empty".
    reason : str
        How `by` is to blame, as a sentence; "" if nothing can be said.
    by : tuple of ProcessView
        The processes that could end the wait.
    surely : bool
        Whether `by` are known to be the cause, or are only those that could be.
    threads : bool
        If the waiter is in `by`: whether another one of its threads is meant.
    """

    role: str
    subject: str
    reason: str
    by: tuple[ProcessView, ...]
    surely: bool
    threads: bool = False


def blocked_by(pool: PoolSnapshot, waiter: ProcessView, wait: WaitView) -> Blocked:
    """Find out what a wait stands on.

    Parameters
    ----------
    pool : PoolSnapshot
        The pool.
    waiter : ProcessView
        The process that waits.
    wait : WaitView
        What one of its threads waits for.

    Returns
    -------
    Blocked
        In words, and as processes.
    """
    if wait.part == "memory" or wait.why == "memory":
        return _memory(pool, waiter)
    if wait.part:
        return _inner(pool, f"the lock of the pool's {wait.part}", pool.inner)
    if wait.thing is None:
        return Blocked("process", "something that is not known any more", "", (), False)
    index = wait.thing.index
    for things in (pool.queues, pool.streams, pool.frames, pool.locks):
        for thing in things:
            if thing.index == index:
                return _on_thing(pool, waiter, wait.why, thing)
    return Blocked("process", f"{wait.thing}", "", (), False)


# ---- which process could do it -------------------------------------------------------------------


def _processes(pool: PoolSnapshot, slots: Iterable[int | None]) -> tuple[ProcessView, ...]:
    wanted = list(dict.fromkeys(slots))
    if not wanted:
        return ()
    by_slot = {process.slot: process for process in pool.processes}
    return tuple(by_slot[slot] for slot in wanted if slot in by_slot)


def _others(
    pool: PoolSnapshot, thing: ThingView, waiter: ProcessView, *whys: str
) -> tuple[ProcessView, ...]:
    """Return the other processes that have a thing open, and do not wait for it in these ways."""

    def waits(process: ProcessView) -> bool:
        return any(
            wait.thing is not None and wait.thing.index == thing.index and wait.why in whys
            for wait in process.waits
        )

    found = _processes(pool, thing.open_in)
    return tuple(each for each in found if each.slot != waiter.slot and not waits(each))


def _could(
    pool: PoolSnapshot, waiter: ProcessView, thing: ThingView, doing: str, *whys: str
) -> tuple[str, tuple[ProcessView, ...], bool]:
    """Return which processes could end a wait, and whether it is the waiter itself.

    First in words, then as records.

    The waiter's other threads count only if no other process could do it: a thread that waits for
    orders in the background explains nothing.
    """
    others = _others(pool, thing, waiter, *whys)
    if others:
        return _who(others, doing, thing), others, False
    if any(
        wait.thing is None or wait.thing.index != thing.index or wait.why not in whys
        for wait in waiter.waits
    ):
        return f"only another thread of the same process could {doing}", (waiter,), True
    return _who((), doing, thing), (), False


def _who(processes: tuple[ProcessView, ...], doing: str, thing: ThingView) -> str:
    """Say that only these could do something."""
    kind = thing.kind.replace("_", " ")
    if not processes:
        return f"no other process that has the {kind} open could {doing}"
    if len(processes) == 1:
        return f"the only other process that could {doing} is {process_name(processes[0])}"
    names = [process_name(each) for each in processes[:4]]
    if len(processes) > 4:
        names.append(f"{len(processes) - 4} others")
    return f"the processes that could {doing} are {joined(names)}"


# ---- queues -------------------------------------------------------------------------------------


def _get(pool: PoolSnapshot, waiter: ProcessView, thing: QueueView) -> Blocked:
    if thing.depth:
        subject = f"{thing}, which has {several(thing.depth, 'message')}"
        return Blocked("consumer", subject, "it will get one as soon as it runs", (), False)
    reason, by, own = _could(pool, waiter, thing, "put a message", "get", "read_or_end")
    return Blocked("consumer", f"{thing}, which is empty", reason, by, False, own)


def _put(pool: PoolSnapshot, waiter: ProcessView, thing: QueueView) -> Blocked:
    subject = f"room in {thing}, which has {thing.occupied:,} of {several(thing.room, 'message')}"
    if thing.takers and thing.depth < thing.occupied:
        return _takers(pool, waiter, thing, "producer", subject)
    reason, by, own = _could(pool, waiter, thing, "take a message", "put")
    return Blocked("producer", subject, reason, by, False, own)


def _join(pool: PoolSnapshot, waiter: ProcessView, thing: QueueView) -> Blocked:
    subject = f"the end of {several(thing.unfinished, 'message')} of {thing}"
    if thing.takers:
        return _takers(pool, waiter, thing, "process", subject)
    reason, by, own = _could(pool, waiter, thing, "finish them", "join")
    return Blocked("process", subject, reason, by, False, own)


def _takers(
    pool: PoolSnapshot, waiter: ProcessView, thing: QueueView, role: str, subject: str
) -> Blocked:
    by = _processes(pool, [each.slot for each in thing.takers])
    parts = [
        f"{process_name(process)} has taken {several(each.count, 'message')} and not finished"
        for each in thing.takers
        if (process := pool.process(each.slot)) is not None
    ]
    others_wait = len({(wait.why, wait.thing and wait.thing.index) for wait in waiter.waits}) > 1
    return Blocked(role, subject, joined(parts) if parts else "", by, True, others_wait)


# ---- streams ------------------------------------------------------------------------------------


def _read(pool: PoolSnapshot, waiter: ProcessView, thing: StreamView) -> Blocked:
    readers = {each.slot for each in thing.subscribers}
    others = _others(pool, thing, waiter, "read")
    publishers = tuple(each for each in others if each.slot not in readers) or others
    own = False
    if publishers:
        reason = _who(publishers, "publish", thing)
    else:
        reason, publishers, own = _could(pool, waiter, thing, "publish", "read")
    return Blocked("subscriber", f"a message of {thing}", reason, publishers, False, own)


def _publish(pool: PoolSnapshot, _waiter: ProcessView, thing: StreamView) -> Blocked:
    slow = [each for each in thing.subscribers if each.lag >= thing.depth]
    if not slow:
        slow = sorted(thing.subscribers, key=lambda each: -each.lag)[:1]
    by = _processes(pool, [each.slot for each in slow])
    parts = [
        f"subscriber {process_name(process)} is {several(each.lag, 'message')} behind"
        for each in slow
        if (process := pool.process(each.slot)) is not None
    ]
    subject = f"room in the lossless {thing}, which keeps {several(thing.depth, 'message')}"
    return Blocked("publisher", subject, joined(parts) if parts else "", by, True)


# ---- frames -------------------------------------------------------------------------------------


def _frame(pool: PoolSnapshot, waiter: ProcessView, thing: FramesView) -> Blocked:
    parts: list[str] = []
    by: list[ProcessView] = []
    for holder in thing.holders:
        process = pool.process(holder.slot)
        age = f", one for at least {duration(holder.seconds)}" if holder.seconds >= 1 else ""
        many = "all " if holder.frames == thing.out > 1 else ""
        frames = f"{many}{several(holder.frames, 'frame')}"
        if process is not None:
            own = " itself" if process.slot == waiter.slot else ""
            parts.append(f"{process_name(process)}{own} holds {frames}{age}")
            by.append(process)
        elif holder.thing is not None:
            verb = "are" if holder.frames > 1 else "is"
            parts.append(f"{frames} {verb} in {holder.thing}{_keeps_last(pool, holder.thing)}{age}")
            by += _emptiers(pool, waiter, holder.thing)
        else:
            parts.append(f"a message or a name keeps {frames}{age}")
    unique = tuple({each.slot: each for each in by}.values())
    subject = f"a frame of {thing}, of which {thing.free} of {thing.count} are free"
    return Blocked("process", subject, joined(parts) if parts else "", unique, True)


def _emptiers(pool: PoolSnapshot, waiter: ProcessView, thing: ThingView) -> tuple[ProcessView, ...]:
    """Return the processes that could take out what a thing keeps.

    A stream keeps its last messages whatever its subscribers do: publishing replaces them. So a
    process that waits and has the stream open waits for itself.
    """
    stream = _stream(pool, thing)
    if stream is not None:
        if waiter.slot in thing.open_in:
            return (waiter,)
        readers = {each.slot for each in stream.subscribers}
        found = _processes(pool, [slot for slot in thing.open_in if slot not in readers])
        return found or _processes(pool, thing.open_in)
    waiting = "put" if thing.kind == "queue" else ""
    return _others(pool, thing, waiter, waiting)


def _stream(pool: PoolSnapshot, thing: ThingView) -> StreamView | None:
    return next((each for each in pool.streams if each.index == thing.index), None)


def _keeps_last(pool: PoolSnapshot, thing: ThingView) -> str:
    """Say how many messages a stream keeps; "" if it is none."""
    stream = _stream(pool, thing)
    return "" if stream is None else f", which keeps its last {several(stream.depth, 'message')}"


# ---- locks --------------------------------------------------------------------------------------


def _held(holder: LockHolder) -> str:
    return f" for {duration(holder.seconds)}" if holder.seconds is not None else ""


def _inner(pool: PoolSnapshot, what: str, holders: tuple[LockHolder, ...]) -> Blocked:
    by = _processes(pool, [each.slot for each in holders])
    reason = f"{joined([process_name(each) for each in by])} has it" if by else ""
    return Blocked("process", f"{what}, which is held for microseconds", reason, by, bool(by))


def _lock(pool: PoolSnapshot, waiter: ProcessView, thing: LockView) -> Blocked:
    owners = [each for each in thing.holders if each.role in {"owner", "writer", "next writer"}]
    if not owners:
        inner = tuple(each for each in thing.holders if each.role == "inner")
        if inner or thing.kind not in {"lock", "rlock", "rwlock", "value_lock"}:
            return _inner(pool, f"the lock inside of {thing}", inner)
        return Blocked(
            "process", f"{thing}, which is free", "it gets it as soon as it runs", (), False
        )
    owner = owners[0]
    process = pool.process(owner.slot)
    if process is None:
        died = f"its last owner {owner.pid or ''} is gone".replace("  ", " ")
        return Blocked("process", f"{thing}", died, (), True)
    if process.slot == waiter.slot:
        # The thread that has an rlock never waits for it. Of a lock, the same thread may have it.
        other = thing.kind == "rlock"
        which = "another" if other else "a"
        reason = f"{which} thread of the same process has had it{_held(owner)}"
        return Blocked("process", f"{thing}", reason, (process,), True, other)
    if owner.role == "next writer":
        reason = f"{process_name(process)} has the turn to write, and waits for readers"
    else:
        reason = f"{process_name(process)} has had it{_held(owner)}"
    return Blocked("process", f"{thing}", reason, (process,), True)


def _shares(
    pool: PoolSnapshot, thing: LockView, role: str, verb: str
) -> tuple[str, tuple[ProcessView, ...]]:
    holders = [each for each in thing.holders if each.role == role]
    by = _processes(pool, [each.slot for each in holders])
    names = [process_name(each) for each in by]
    return (f"{joined(names)} {verb}" if names else ""), by


def _drain(pool: PoolSnapshot, _waiter: ProcessView, thing: LockView) -> Blocked:
    count = sum(each.role == "reader" for each in thing.holders)
    reason, by = _shares(pool, thing, "reader", "reads" if count == 1 else "read")
    return Blocked("writer", f"the readers of {thing}", reason, by, True)


def _semaphore(pool: PoolSnapshot, waiter: ProcessView, thing: LockView) -> Blocked:
    parts = [
        f"{process_name(process)} has {several(each.count, 'token')}"
        for each in thing.holders
        if each.role == "holder" and (process := pool.process(each.slot)) is not None
    ]
    _, by = _shares(pool, thing, "holder", "")
    subject = f"{thing}, whose value is {thing.details.get('value', 0)}"
    if by:
        return Blocked("process", subject, joined(parts), by, True)
    reason, by, own = _could(pool, waiter, thing, "release it", "semaphore")
    return Blocked("process", subject, reason, by, False, own)


def _event(pool: PoolSnapshot, waiter: ProcessView, thing: LockView) -> Blocked:
    reason, by, own = _could(pool, waiter, thing, "set it", "event")
    state = "which is set" if thing.details.get("is_set") else "which is not set"
    return Blocked("process", f"{thing}, {state}", reason, by, False, own)


def _condition(pool: PoolSnapshot, waiter: ProcessView, thing: LockView) -> Blocked:
    reason, by, own = _could(pool, waiter, thing, "notify it", "condition")
    return Blocked("process", f"{thing}, which was not notified", reason, by, False, own)


def _barrier(pool: PoolSnapshot, waiter: ProcessView, thing: LockView) -> Blocked:
    there = [each for each in thing.holders if each.role == "arrived"]
    arrived = sum(each.count for each in there)
    parties = thing.details.get("parties", 0)
    subject = f"{thing}, at which {arrived} of {parties} parties have arrived"
    others = tuple(
        each
        for each in _others(pool, thing, waiter, "barrier")
        if each.slot not in {holder.slot for holder in there}
    )
    return Blocked("party", subject, _who(others, "arrive", thing), others, False)


# ---- memory -------------------------------------------------------------------------------------


def _memory(pool: PoolSnapshot, waiter: ProcessView) -> Blocked:
    subject = (
        f"memory in the pool, of which {format_size(pool.used + pool.structure_bytes)} "
        f"of {format_size(pool.size)} are in use"
    )
    parts: list[str] = []
    by: list[ProcessView] = []
    holders = [each for each in pool.processes if each.bytes * 20 >= pool.size]
    for process in sorted(holders, key=lambda each: -each.bytes)[:3]:
        own = " itself" if process.slot == waiter.slot else ""
        parts.append(f"{process_name(process)}{own} holds {format_size(process.bytes)}")
        by.append(process)
    things = [*pool.queues, *pool.streams, *pool.frames, *pool.locks, *pool.objects]
    for thing in sorted(things, key=lambda each: -each.bytes)[:2]:
        if thing.bytes * 20 < pool.size:
            continue
        parts.append(f"{thing} keeps {format_size(thing.bytes)}")
        by += _emptiers(pool, waiter, thing)
    unique = tuple({each.slot: each for each in by}.values())
    return Blocked("process", subject, joined(parts) if parts else "", unique, True)


_QUEUE: dict[str, Callable[[PoolSnapshot, ProcessView, QueueView], Blocked]] = {
    "get": _get,
    "read_or_end": _get,
    "put": _put,
    "join": _join,
}
_STREAM: dict[str, Callable[[PoolSnapshot, ProcessView, StreamView], Blocked]] = {
    "read": _read,
    "publish": _publish,
}
_FRAMES: dict[str, Callable[[PoolSnapshot, ProcessView, FramesView], Blocked]] = {"frame": _frame}
_LOCK: dict[str, Callable[[PoolSnapshot, ProcessView, LockView], Blocked]] = {
    "lock": _lock,
    "read_lock": _lock,
    "drain": _drain,
    "semaphore": _semaphore,
    "event": _event,
    "condition": _condition,
    "barrier": _barrier,
}


def _on_thing(pool: PoolSnapshot, waiter: ProcessView, why: str, thing: ThingView) -> Blocked:
    """Look at a wait for a thing. Its block may be another thing by now: then nothing is said."""
    if isinstance(thing, QueueView) and why in _QUEUE:
        return _QUEUE[why](pool, waiter, thing)
    if isinstance(thing, StreamView) and why in _STREAM:
        return _STREAM[why](pool, waiter, thing)
    if isinstance(thing, FramesView) and why in _FRAMES:
        return _FRAMES[why](pool, waiter, thing)
    if isinstance(thing, LockView) and why in _LOCK:
        return _LOCK[why](pool, waiter, thing)
    if why == "lock" and isinstance(thing, QueueView | StreamView | FramesView):
        return _inner(pool, f"the lock inside of {thing}", thing.inner)
    return Blocked("process", f"{thing}", "", (), False)
