"""A queue of objects between any processes.

Large parts of an object are written into the pool once. The queue carries references to them. A
queue stays as long as a name, another queue or a process refers to it. A queue without a name is
removed when the last process releases it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy._core.arguments import Elsewhere, flag, integer, without_elsewhere
from onecopy._core.current import default_member
from onecopy._core.kinds import Kind
from onecopy._core.lookup import check_matches, open_or_create
from onecopy._core.shared import Closable, rebuild
from onecopy._core.typevars import T
from onecopy._native import Message, QueueBase, own_methods
from onecopy._typed.later import bind, described, typed_by
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from onecopy._aio.channels import AioQueue
    from onecopy._aio.ready import Bell
    from onecopy._core.until_made import Wait
    from onecopy._native import Hold, Member
    from onecopy._typed.plan import Typed

__all__ = ["DEFAULT_MAXSIZE", "Message", "Queue", "open_queue"]

DEFAULT_MAXSIZE = 1024
_EXISTS = 0, False  # the arguments that an existing queue does not need


@own_methods
class Queue(Closable, QueueBase[T]):
    """A first-in, first-out queue of objects; the methods and errors of `queue.Queue`.

    ``Queue(maxsize)`` makes a queue in the default pool. `Pool.queue` makes or opens a queue in any
    pool. To use the same queue in another process, pickle it or pass it to a child. Any number of
    processes and threads may put and get. `maxsize` is a number of messages: while the queue
    contains that many, a put waits.

    `put` encodes the object before it returns, so later changes do not reach the receiver. Arrays
    that lie in the pool are an exception: they are sent by reference, and therefore become
    read-only in the sender. Received memory is read-only and does not change while anything refers
    to it. ``get(copy="on_write")`` returns writable arrays instead. What you write then stays in
    this process, and only pages that you write to are copied.

    Parameters
    ----------
    maxsize : int, optional
        The greatest number of messages. 0 (the default) or less: as many as fit the pool.

    Raises
    ------
    PoolFull
        There is no room for the queue.

    Notes
    -----
    After a fork the child has the queue, too. If a process dies in `put`, it has put the whole
    object or nothing. If it dies in `get`, it has taken the object or left it in the queue.

    In a queue made with ``redeliver=True``, a taken object stays in the queue until `task_done` or
    `Message.task_done` finishes it. If the process that took it dies or leaves the pool first, the
    object returns to the head of the queue, in order, and `get_message` flags it. Capacity is
    counted from the oldest unfinished object: from there on, the queue has room for `maxsize`
    objects, whether taken, finished or queued. `full` says whether that many are there. So if a
    consumer works on one object for a long time, producers must wait after `maxsize` more objects.
    `qsize` and `empty` count only objects that can be taken. `task_done` without a message finishes
    the oldest unfinished object that the calling thread took, else the oldest that its process
    took. A thread that works on several objects should use `get_message`. An object that could not
    be rebuilt (`get` raised the exception) counts as taken. A forked child cannot finish an object
    that its parent took.

    Examples
    --------
    >>> pool = oc.Pool("factory", size="64MiB")
    >>> jobs = pool.queue("jobs", maxsize=100)
    >>> jobs.put({"id": 7, "image": pool.zeros((480, 640), np.uint8)})
    >>> jobs.put_nowait("text")
    >>> jobs.put_many([1, 2, 3])
    >>> jobs.qsize(), jobs.empty(), jobs.full()
    (5, False, False)

    Another process opens ``pool.queue("jobs")``, and gets:

    >>> job = jobs.get(timeout=10)
    >>> job["image"].shape, job["image"].flags.writeable
    ((480, 640), False)
    >>> jobs.get_nowait(), jobs.get_many(2)
    ('text', [1, 2])

    Each taken object can be reported as done, and a producer can wait for that:

    >>> message = jobs.get_message()
    >>> message.item
    3
    >>> message.task_done()
    >>> for _ in range(4):
    ...     jobs.task_done()
    >>> jobs.join()

    `shutdown` ends loops over the queue in all processes, when it is empty:

    >>> jobs.put("last")
    >>> jobs.shutdown()
    >>> list(jobs)
    ['last']

    `select` and event loops of other libraries wait for its descriptor:

    >>> import select
    >>> results = pool.queue("results")
    >>> results.put(1)
    >>> select.select([results.fileno()], [], [], 10)[0] == [results.fileno()]
    True
    >>> results.detach()  # this process has it no more; other processes keep it
    >>> jobs.close()  # the same; calls of this object raise Closed
    """

    _shown_as = "Queue"  # also if it is of a subclass
    _typed: Typed | None = None  # the type that this process has passed
    _bell: Bell | None = None
    if not TYPE_CHECKING:
        publish = Elsewhere("queue.put(obj)")
        subscribe = Elsewhere("queue.get(); if every reader must get every message, pool.stream")
        __dir__ = without_elsewhere

    def __init__(self, maxsize: int = 0) -> None:
        self._attach(None, default_member(), max(0, integer("maxsize", maxsize)), False, None)

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        maxsize, redeliver, typed = state or (*_EXISTS, None)
        schema = None if typed is None or hold is not None else typed.text
        QueueBase.__init__(self, hold, member, maxsize, redeliver, schema)
        bind("queue", self._name, self, typed)
        if typed is not None:
            self._typed = typed

    def _state(self) -> tuple[Any, ...]:
        return () if self._typed is None else (*_EXISTS, self._typed)

    def _opener(self) -> tuple[Any, ...]:
        return (_rebuild,) if type(self) is Queue else super()._opener()

    def _describe(self) -> str:
        return f", {self.qsize()} of {self.maxsize or '∞'}"

    @property
    def schema(self) -> str | None:
        """The type of the messages as text, or None if the queue takes any object.

        It is the type that `Pool.queue` was given by the process that made the queue: for example
        ``"Frame(id: int, image: uint8[480, 640, 3])"``.
        """
        return described(self)

    @property
    def aio(self) -> AioQueue[T]:
        """The blocking methods as coroutines: ``await queue.aio.get()``; see docs/asyncio.md."""
        from onecopy._aio.channels import AioQueue

        return AioQueue(self)

    def fileno(self) -> int:
        """Return a descriptor that is readable while there may be something to get.

        It is for `select`, `selectors` and the loops of Qt, Tk and others. It becomes readable when
        an object is put or the queue is shut down. It stays readable until a get of this object
        finds nothing (`queue.Empty`). So the loop gets with ``block=False``, and expects
        `queue.Empty` once in a while: another consumer may have been faster, or the last object was
        taken. Read nothing from the descriptor, and do not close it. A forked child calls this
        method again, and gets a descriptor of its own.

        Raises
        ------
        Closed
            The queue was closed in this process.
        OSError
            The process has too many open files.
        """
        from onecopy._aio.ready import Bell

        if self._bell is None or not self._bell.is_ours():
            self._bell = Bell(self)
        return self._bell.fileno()

    # `in` would iterate, and so take out all objects before the one that it looks for.
    __contains__ = None

    def close(self) -> None:
        """Release the queue in this process, as `Stream.close` and `Frames.close` do.

        Later calls of this object raise `Closed`. Closing twice does nothing. Other processes keep
        the queue. To end it for all processes, use `shutdown`.
        """
        self._bell = None
        self._when_empty(None)
        self.detach()

    def _repr_html_(self) -> str | None:
        """Return a table for notebooks. It shows no message, because it takes none."""
        from onecopy._core.cards import card

        try:
            rows = [
                ("messages", f"{self.qsize():,}"),
                ("room for", f"{self.maxsize:,}" if self.maxsize else "any number"),
                ("redelivers", "yes" if self.redeliver else "no"),
                ("shut down", "yes" if self.is_shut_down else "no"),
            ]
        except OneCopyError:
            return None
        return card(self._label(), rows)


def open_queue(
    member: Member,
    name: str | None,
    maxsize: int | None,
    redeliver: bool | None,
    type: Any = None,  # noqa: A002 - the parameter of `Pool.queue`
    wait: Wait = False,
) -> Queue:
    """Make or open a queue; see `Pool.queue`."""
    if maxsize is not None:
        maxsize = integer("maxsize", maxsize)
        if maxsize < 0:
            raise ValueError(f"maxsize={maxsize}: it must be 0 (unbounded) or above")
    if redeliver is not None:
        flag("redeliver", redeliver)
    typed = typed_by(type)

    def make(hold: Hold | None) -> Queue:
        if hold is None:
            asked = DEFAULT_MAXSIZE if maxsize is None else maxsize
            return Queue._open(None, member, name, asked, bool(redeliver), typed)
        queue: Queue = Queue._open(hold, member, name, *_EXISTS, typed)
        check_matches("queue", name, "maxsize", maxsize, queue.maxsize)
        check_matches("queue", name, "redeliver", redeliver, queue.redeliver)
        return queue

    return open_or_create(member, Kind.QUEUE, name, make, wait=wait)


def _rebuild(*place: Any) -> Queue:
    return rebuild(Queue, *place)
