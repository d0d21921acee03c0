"""A queue of objects between any processes.

Large parts of an object go into the pool once, and the queue moves where they are. A queue that is
referred to by a name, another queue, or a process stays; an anonymous one goes with the last
process that has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy._core.arguments import Elsewhere, flag, integer, without_elsewhere
from onecopy._core.current import default_member
from onecopy._core.keepalive import keep_for_child
from onecopy._core.kinds import Kind
from onecopy._core.lookup import check_matches, open_or_create
from onecopy._core.membership import handle_of, join
from onecopy._core.typevars import T
from onecopy._native import Message, QueueBase, own_methods
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from typing import Self

    from onecopy._core.membership import PoolHandle
    from onecopy._native import Hold, Member
    from onecopy.pool import Pool

__all__ = ["DEFAULT_MAXSIZE", "Message", "Queue", "open_queue"]

DEFAULT_MAXSIZE = 1024


@own_methods
class Queue(QueueBase[T]):
    """A first-in, first-out queue of objects; the methods and errors of `queue.Queue`.

    ``Queue(maxsize)`` makes one in the default pool; `Pool.queue` makes or opens one in any pool.
    Pickle it, or pass it to a child process, to have the same queue there. Any number of processes
    and threads may put and get; `maxsize` counts messages, and a put waits while as many are there.

    What is put is encoded before the call returns: later changes do not reach the receiver, except
    through arrays that lie in the pool, which become read-only in the sender for that reason.
    Memory that is received is read-only, and stays as it is for as long as anything refers to it.
    ``get(copy="on_write")`` gives writable arrays instead: what is written stays in this process,
    and only pages that are written are copied.

    Parameters
    ----------
    maxsize : int, optional
        Messages at most; 0 (the default) or less: as many as fit the pool.

    Raises
    ------
    PoolFull
        There is no room for the queue.

    Notes
    -----
    After a fork the child has the queue too. A process that dies in `put` has put the whole object
    or nothing; one that dies in `get` has taken it or left it.

    In a queue made with ``redeliver=True`` an object that was taken stays in the queue until it is
    finished, by `task_done` or `Message.task_done`. If its taker dies or leaves the pool first, it
    goes back to the head, in order, and `get_message` tells so. Room is counted from the oldest
    object that is not finished: from it on, `maxsize` objects fit, be they taken, finished or
    queued, and `full` says whether that many are there. So an object that is in hand for long holds
    the producers back once `maxsize` others have passed it. `qsize` and `empty` speak of what can
    be taken. `task_done` without a message finishes the oldest object that the calling thread has
    taken and not finished, or else the oldest of its process; with several in hand, use
    `get_message`. An object that could not be rebuilt (the exception came out of `get`) counts as
    taken. What a process took, a child that it forks cannot finish.
    """

    _name: str | None = None
    if not TYPE_CHECKING:
        publish = Elsewhere("queue.put(obj)")
        subscribe = Elsewhere("queue.get(); for every reader to see every message, pool.stream")
        __dir__ = without_elsewhere

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(None, default_member(), max(0, integer("maxsize", maxsize)), False)

    @property
    def name(self) -> str | None:
        """The name by which `Pool.queue` opens it; None: it has none."""
        return self._name

    # Looking for an object would take out all that come before it.
    __contains__ = None

    def close(self) -> None:
        """Be done with the queue in this process, as `Stream.close` and `Frames.close`.

        Further calls of this object raise `Closed`. Closing twice does nothing. Other processes go
        on. To end it for everybody, use `shutdown`.
        """
        self.detach()

    def __enter__(self) -> Self:
        """Use the queue in a block, and close it in this process at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the queue in this process."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by reference."""
        keep_for_child(self)
        place = handle_of(self.member), self.handle, self._name
        return (_rebuild, place) if type(self) is Queue else (_rebuild_as, (type(self), *place))

    @classmethod
    def _open(cls, member: Member, hold: Hold, name: str | None) -> Self:
        """Open what the hold is on."""
        return cls._make(member, hold, 0, False, name)  # it has its own maxsize, and so on

    @classmethod
    def _make(
        cls, member: Member, hold: Hold | None, maxsize: int, redeliver: bool, name: str | None
    ) -> Self:
        queue = cls.__new__(cls)
        QueueBase.__init__(queue, hold, member, maxsize, redeliver)
        queue._name = name
        return queue

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        try:
            size, maxsize = self.qsize(), self.maxsize or "∞"
        except OneCopyError:
            return f"<onecopy.Queue{name}, closed>"
        return f"<onecopy.Queue{name}, {size} of {maxsize}>"


def open_queue(pool: Pool, name: str | None, maxsize: int | None, redeliver: bool | None) -> Queue:
    """Make or open a queue; see `Pool.queue`."""
    if maxsize is not None:
        maxsize = integer("maxsize", maxsize)
        if maxsize < 0:
            raise ValueError(f"maxsize={maxsize}: it must be 0 (unbounded) or above")
    if redeliver is not None:
        flag("redeliver", redeliver)
    member = pool.member

    def make(hold: Hold | None) -> Queue:
        if hold is None:
            asked = DEFAULT_MAXSIZE if maxsize is None else maxsize
            return Queue._make(member, None, asked, bool(redeliver), name)
        queue = Queue._open(member, hold, name)
        check_matches("queue", name, "maxsize", maxsize, queue.maxsize)
        check_matches("queue", name, "redeliver", redeliver, queue.redeliver)
        return queue

    return open_or_create(member, Kind.QUEUE, name, make)


def _rebuild(pool: PoolHandle, handle: int, name: str | None) -> Queue:
    return _rebuild_as(Queue, pool, handle, name)


def _rebuild_as(cls: type[Queue], pool: PoolHandle, handle: int, name: str | None) -> Queue:
    member = join(pool)
    return cls._open(member, member.hold(handle), name)
