"""What an observer sees of a pool, as records. They are copies: nothing in them changes later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from onecopy._core.schema_view import SchemaView
    from onecopy.observer.peeking import Peek, QueueSource

__all__ = [
    "FrameHolder",
    "FramesView",
    "LockHolder",
    "LockView",
    "MemoryCell",
    "PoolSnapshot",
    "ProcessState",
    "ProcessView",
    "QueueView",
    "StreamView",
    "SubscriberView",
    "ThingView",
    "WaitView",
]

ProcessState: TypeAlias = Literal["alive", "stopped", "dead", "unknown"]


@dataclass(frozen=True, slots=True)
class WaitView:
    """A thread that waits in the pool.

    Attributes
    ----------
    why : str
        What it does: "get", "put", "join", "read_or_end" (of a queue), "read", "publish" (of a
        stream), "frame", "lock", "read_lock", "drain" (a writer waits for readers), "semaphore",
        "event", "condition", "barrier" or "memory".
    thing : ThingView or None
        What it waits for. None: a part of the pool, see `part`, or it is not known any more.
    part : str
        "heap" or "names" for a lock of the pool itself, "memory", or "".
    thread : int
        The kernel's number of the thread, in the PID namespace of its process.
    seconds : float
        How long it has waited. The clock has steps of a few milliseconds.
    """

    why: str
    thing: ThingView | None
    part: str
    thread: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process that is a member of the pool, or died as one and is not cleaned up yet.

    Attributes
    ----------
    slot : int
        Its index in the pool's table of processes.
    pid, parent_pid : int
        In the process's own PID namespace.
    state : str
        "alive", "stopped" (by a signal or a debugger), "dead", or "unknown" (the system does not
        tell whether it is alive).
    same_namespace : bool
        Whether the pid is one of this PID namespace. If not, it may stand for another process here.
    command : tuple of str or None
        Its command line. None: it is not known.
    started : float or None
        When it started, in seconds since 1970. None: it is not known.
    joined : float
        When it joined, in seconds since 1970.
    blocks, bytes : int
        What it holds. A block that several processes hold counts for each.
    waits : tuple of WaitView
        What its threads wait for. Of a dead process: what they waited for when it died.
    more_may_wait : bool
        Whether there may be more threads that wait: a process records twenty at most.
    """

    slot: int
    pid: int
    parent_pid: int
    state: ProcessState
    same_namespace: bool
    command: tuple[str, ...] | None
    started: float | None
    joined: float
    blocks: int
    bytes: int
    waits: tuple[WaitView, ...]
    more_may_wait: bool


@dataclass(frozen=True, slots=True)
class ThingView:
    """A structure in the pool, or an object that has a name.

    Attributes
    ----------
    index : int
        The number of its block. Another thing may get the number later.
    kind : str
        "queue", "stream", "frames", "lock", "list" and so on.
    name : str or None
        None: it has no name.
    owner : ThingView or None
        The thing that it is a part of, for example the list whose lock it is.
    bytes, blocks : int
        Its memory, with what only it refers to: the messages of a queue, for example.
    open_in : tuple of int
        Slots of the processes that have it open.
    readable : bool
        False: it was damaged, or was changed too fast; all numbers are then 0.
    """

    index: int
    kind: str
    name: str | None
    owner: ThingView | None
    bytes: int
    blocks: int
    open_in: tuple[int, ...]
    readable: bool

    def __str__(self) -> str:
        kind = self.kind.replace("_", " ")
        if self.name is not None:
            return f"{kind} {self.name!r}"
        if self.owner is not None:
            return f"the {kind} of {self.owner}"
        return f"the {kind} without a name (block {self.index})"


@dataclass(frozen=True, slots=True)
class QueueView(ThingView):
    """A queue.

    Attributes
    ----------
    depth : int
        How many messages can be taken.
    put, taken : int
        How many were put and taken since the queue was made.
    put_rate, taken_rate : float or None
        Per second, since the observer's last snapshot. None: this is the first one.
    maxsize : int
        0: it has no limit.
    room : int
        How many messages can be in it.
    occupied : int
        How many take up room. Messages of a queue that redelivers do, until they are finished.
    unfinished : int
        How many wait for ``task_done``.
    closed : bool
        Whether it was shut down.
    redelivers : bool
        Whether it redelivers messages of dead receivers.
    oldest : float or None
        For how many seconds, at least, the oldest message has been there: since the snapshot in
        which this observer first saw it. None: it is empty.
    takers : tuple of LockHolder
        The processes that have taken messages and not finished them; only if it redelivers.
    producers_waiting, consumers_waiting : int
        How many threads wait to put and to get.
    schema : SchemaView or None
        The type of its messages; None: it takes any.
    """

    depth: int
    put: int
    taken: int
    put_rate: float | None
    taken_rate: float | None
    maxsize: int
    room: int
    occupied: int
    unfinished: int
    closed: bool
    redelivers: bool
    oldest: float | None
    takers: tuple[LockHolder, ...]
    inner: tuple[LockHolder, ...]
    producers_waiting: int
    consumers_waiting: int
    schema: SchemaView | None = None
    _source: QueueSource | None = field(default=None, repr=False, compare=False)

    def peek(self, n: int = 10) -> Peek:
        """Look at the next messages without taking them.

        It opens the pool again for reading only. So it shows the messages of now, and not those of
        the snapshot. It takes no lock and no slot, and changes nothing. Nothing is unpickled.

        Parameters
        ----------
        n : int, optional
            At most how many messages, up to 1000.

        Returns
        -------
        Peek
            Copies of the messages, as text, and how many were taken while we looked.

        Raises
        ------
        ValueError
            `n` is out of range, or this record was not made by an observer.
        OneCopyError
            The queue is gone, or it cannot be read.
        PoolNotFound, PoolVersionError, PoolCorrupted, PermissionError
            As `Observer.snapshot`.
        """
        from onecopy.observer.peeking import peek

        if self._source is None:
            raise ValueError("this record was not made by an observer, so its pool is not known")
        return peek(self._source, n)


@dataclass(frozen=True, slots=True)
class SubscriberView:
    """A subscription of a stream.

    Attributes
    ----------
    slot : int or None
        Its process. None: that process is gone.
    lag : int
        How many messages it is behind the newest one.
    missed : int
        How many messages it skipped, or were overwritten before it read them.
    """

    slot: int | None
    lag: int
    missed: int


@dataclass(frozen=True, slots=True)
class StreamView(ThingView):
    """A stream.

    Attributes
    ----------
    published : int
        How many messages were published since the stream was made.
    rate : float or None
        Per second, since the observer's last snapshot. None: this is the first one.
    depth : int
        How many messages it keeps.
    policy : str
        "lossy", "lossless" or "latest".
    closed : bool
        Whether it was closed.
    subscribers : tuple of SubscriberView
        Its subscriptions.
    publishers_waiting, readers_waiting : int
        How many threads wait to publish and to read.
    schema : SchemaView or None
        The type of its messages; None: it takes any.
    """

    published: int
    rate: float | None
    depth: int
    policy: str
    closed: bool
    subscribers: tuple[SubscriberView, ...]
    inner: tuple[LockHolder, ...]
    publishers_waiting: int
    readers_waiting: int
    schema: SchemaView | None = None


@dataclass(frozen=True, slots=True)
class FrameHolder:
    """A process that has frames of a set, or a thing that refers to them.

    Attributes
    ----------
    slot : int or None
        A process. None: no process holds them, but a message or an item refers to them.
    thing : ThingView or None
        Where that message or item is. None: it is not known, or a process holds them.
    frames : int
        How many.
    seconds : float
        For how long, at least, it has had one of them: since the snapshot in which this observer
        first saw that.
    """

    slot: int | None
    thing: ThingView | None
    frames: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FramesView(ThingView):
    """A set of frames.

    Attributes
    ----------
    count : int
        How many frames it has.
    free, out : int
        How many are free, and how many are not. Of a set of more than 1,024 frames, the first 1,024
        count.
    frame_bytes : int
        The size of one.
    holders : tuple of FrameHolder
        Those that have the frames that are out, the one with the most first. A frame that several
        processes hold counts for each.
    waiting : int
        How many threads wait for a frame.
    """

    count: int
    free: int
    out: int
    frame_bytes: int
    holders: tuple[FrameHolder, ...]
    inner: tuple[LockHolder, ...]
    waiting: int


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A process that has a lock, or a share of one.

    Attributes
    ----------
    role : str
        "owner", "writer", "next writer" (has the turn, and waits for readers), "reader", "holder"
        (of tokens), "arrived" (at a barrier), "waiter" or "notified" (of a condition), "taker" (of
        messages), "inner" (of the lock inside of a structure).
    slot : int or None
        Its process. None: that process is gone.
    pid : int
        0: it is not known.
    count : int
        How many: tokens, reads, messages.
    seconds : float or None
        How long it has had it. None: it is not known.
    """

    role: str
    slot: int | None
    pid: int
    count: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class LockView(ThingView):
    """A lock, semaphore, event, condition or barrier; also a list or dict, which has a lock inside.

    Attributes
    ----------
    holders : tuple of LockHolder
        The processes that have it.
    waiting : int
        How many threads wait for it.
    details : dict of str to int
        What is special of its kind: "initial" and "value" of a semaphore, "is_set" of an event,
        "parties", "broken" and "culprit" of a barrier.
    """

    holders: tuple[LockHolder, ...]
    waiting: int
    details: dict[str, int]


@dataclass(frozen=True, slots=True)
class MemoryCell:
    """A part of a pool's memory. Several blocks may lie in it: it tells whose the largest one is.

    Attributes
    ----------
    used : int
        Bytes in it that blocks take.
    thing : ThingView or None
        What keeps the block that takes the most bytes of it. None: it is free, or only processes
        hold that block.
    slot : int or None
        A process that holds that block. None: no process does.
    holders : int
        How many processes hold it.
    """

    used: int
    thing: ThingView | None
    slot: int | None
    holders: int


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """What is in a pool. Others write while it is read: its parts are of slightly different times.

    Attributes
    ----------
    name, path : str
        The pool's name and file.
    id : str
        The pool's id in hexadecimal.
    size, used, structure_bytes, committed : int
        Bytes; as in `PoolStats`.
    max_processes : int
        How many processes can be members.
    persistent, memfd : bool
        As in `onecopy.inspect.PoolView`.
    corrupt : bool
        Whether the pool was found corrupt. Then nobody can use it any more.
    truncated : bool
        Whether there are more than 65,536 things. The rest is not shown.
    seconds : float or None
        Time since the observer's last snapshot. None: this is the first one.
    processes : tuple of ProcessView
        By slot.
    queues, streams, frames, locks : tuple
        The structures, by name.
    objects : tuple of ThingView
        Objects that have a name, for example arrays, by name. Each block of the pool counts for one
        of these things, or for none if only processes hold it.
    inner : tuple of LockHolder
        The processes that have the locks of the pool's heap and of its names. They are held for
        microseconds.
    cell_bytes : int
        Bytes of a part of the pool's memory, see `memory_map`.
    memory_map : tuple of MemoryCell
        At most 512 equal parts of the memory for objects, in the order of their addresses.

    Examples
    --------
    >>> pool = oc.Pool("factory", size="16MiB")
    >>> lock = pool.lock("door")
    >>> with lock, oc.observe("factory") as observer:
    ...     snapshot = observer.snapshot()
    >>> owner = snapshot.process(snapshot.locks[0].holders[0].slot)
    >>> import os
    >>> owner.pid == os.getpid()
    True
    """

    name: str
    path: str
    id: str
    size: int
    used: int
    structure_bytes: int
    committed: int
    max_processes: int
    persistent: bool
    memfd: bool
    corrupt: bool
    truncated: bool
    seconds: float | None
    processes: tuple[ProcessView, ...]
    queues: tuple[QueueView, ...]
    streams: tuple[StreamView, ...]
    frames: tuple[FramesView, ...]
    locks: tuple[LockView, ...]
    objects: tuple[ThingView, ...]
    inner: tuple[LockHolder, ...]
    cell_bytes: int = 0
    memory_map: tuple[MemoryCell, ...] = ()

    def process(self, slot: int | None) -> ProcessView | None:
        """Return the process of a slot; None: nobody has it.

        Parameters
        ----------
        slot : int or None
            A slot, as the other records name them.

        Returns
        -------
        ProcessView or None
            The process.
        """
        return next((each for each in self.processes if each.slot == slot), None)
