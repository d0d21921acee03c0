"""Queues with the methods, parameters and errors of `multiprocessing.queues`.

They are `onecopy.Queue` with two differences, so that programs written for multiprocessing find
what they expect: an array that was copied when it was put belongs to whoever gets it, who may write
it (and if it is put again it is copied again); and a queue has ``_reader`` and ``_writer``, which
much code passes to `multiprocessing.connection.wait`.
"""

from __future__ import annotations

import multiprocessing.queues as standard
from queue import Full
from types import MethodDescriptorType
from typing import TYPE_CHECKING, Any

from onecopy import queue as own
from onecopy._core.keepalive import keep_for_child
from onecopy._core.membership import handle_of, join
from onecopy._native import QueueBase, own_methods
from onecopy.errors import OneCopyError
from onecopy.multiprocessing._ends import ClearsReadiness, ReadEnd, WriteEnd

if TYPE_CHECKING:
    from onecopy._native import Hold, Member

    _Queue = own.Queue
else:
    _Queue = object

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]


@own_methods
class Queue(own.Queue):
    """A queue for any number of processes; as `multiprocessing.Queue`.

    The object is encoded when it is put, not later in a thread: an object that cannot be pickled
    raises where it is put (the standard library prints the error from a thread, and goes on without
    the object), and what `put` has returned for is in the queue, even if the process is killed
    then. There is nothing to join and nothing to cancel.

    Parameters
    ----------
    maxsize : int, optional
        Objects at most; 0 or less: as many as fit the pool.
    ctx : context, optional
        Accepted, and not needed.

    Raises
    ------
    PoolFull
        There is no room for the queue. `put` raises it for an object that can never fit, or that
        does not fit now and must not wait.

    Notes
    -----
    After `close`, `put` and `get` raise an error that is a ValueError and an OSError. Arrays that
    lie in a pool (`onecopy.empty`, frames) travel by reference and arrive read-only, as in
    `onecopy.Queue`; so do arrays that were read-only where they were put.
    """

    _read_end: ReadEnd | None = None
    _write_end: WriteEnd | None = None

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        super().__init__(maxsize)
        self._as_standard = True

    # As in the standard library. `Process(args=(queue))`, where a comma is missing, would wait for
    # ever, and take all messages.
    __iter__ = None  # type: ignore[assignment]  # of the class that has it

    @classmethod
    def _open(cls, member: Member, hold: Hold, name: str | None) -> Queue:
        queue = super()._open(member, hold, name)
        queue._as_standard = True
        return queue

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """See to what subclasses expect of the base; only they pay for it."""
        super().__init_subclass__(**kwargs)
        if cls._on_queue_feeder_error is not Queue._on_queue_feeder_error:
            _have_reports(cls)
        # The natives call no method of the object.
        if _is_native(cls, "put_nowait") and not _is_native(cls, "put"):
            cls.put_nowait = _put_nowait  # type: ignore[assignment, method-assign]
        if _is_native(cls, "get_nowait") and not _is_native(cls, "get"):
            cls.get_nowait = _get_nowait  # type: ignore[assignment, method-assign]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by reference, with the state that a subclass adds to it."""
        cls: Any = type(self)
        if issubclass(cls, ClearsReadiness):  # pickle finds only the original class
            cls = cls.__mro__[2]
        state = self.__getstate__()
        if cls.__getstate__ is Queue.__getstate__ and cls.__setstate__ is Queue.__setstate__:
            return own._rebuild_as, (cls, *state)
        return _blank, (cls,), state

    def __getstate__(self) -> Any:
        """Say where the queue is. Subclasses put more into it, as into that of multiprocessing.

        An attribute of an object travels only if its class sees to it.
        """
        keep_for_child(self)
        return handle_of(self.member), self.handle, self._name

    def __setstate__(self, state: Any) -> None:
        """Open the queue that `__getstate__` has spoken of.

        Raises
        ------
        StaleRef, PoolNotFound
            It is gone.
        """
        pool, handle, self._name = state
        member = join(pool)
        QueueBase.__init__(self, member.hold(handle), member, 0, False)
        self._as_standard = True

    @staticmethod
    def _on_queue_feeder_error(error: Exception, obj: Any) -> None:
        """Hear of an object that cannot be pickled; a subclass that has it gets no exception."""

    def join_thread(self) -> None:
        """Do nothing: what was put is in the queue already."""

    def cancel_join_thread(self) -> None:
        """Do nothing: no exit waits for the queue."""

    def close(self) -> None:
        """Let go of the queue in this process; closing twice does nothing."""
        self._reader.close()
        self._writer.close()
        super().close()

    @property
    def _reader(self) -> ReadEnd:
        if self._read_end is None:
            self._read_end = ReadEnd(self)
        return self._read_end

    @property
    def _writer(self) -> WriteEnd:
        if self._write_end is None:
            self._write_end = WriteEnd(self)
        return self._write_end


def _blank(cls: type[Queue]) -> Queue:
    """Make a queue that `Queue.__setstate__` is yet to open."""
    return cls.__new__(cls)


class _Reports(_Queue):
    """A put that tells the hook of an object that cannot be pickled.

    It stands between a class that has the hook and `Queue`, so that the class's own ``put``, which
    calls that of its base, comes to it.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def _on_queue_feeder_error(self, error: Exception, obj: Any) -> None: ...

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:  # type: ignore[override]  # multiprocessing's parameters
        """Put an object."""
        try:
            super().put(obj, block, timeout)
        except (Full, OneCopyError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a __reduce__ raises
            self._on_queue_feeder_error(error, obj)


def _have_reports(cls: type[Queue]) -> None:
    """Put `_Reports` between a class and the queues it is derived from."""
    if issubclass(cls, _Reports):
        return
    bases = cls.__bases__
    first = next(i for i, base in enumerate(bases) if issubclass(base, Queue))
    cls.__bases__ = (*bases[:first], _Reports, *bases[first:])


def _is_native(cls: type, name: str) -> bool:
    return isinstance(getattr(cls, name), MethodDescriptorType)


def _put_nowait(self: Queue, obj: Any) -> None:
    """Put an object, if there is room; by the class's own ``put``."""
    self.put(obj, False)


def _get_nowait(self: Queue) -> Any:
    """Take an object, if there is one; by the class's own ``get``."""
    return self.get(False)


@own_methods
class JoinableQueue(Queue):
    """A `Queue` that waits until everything put was worked on: ``task_done()`` and ``join()``."""


@own_methods
class SimpleQueue(Queue):
    """A queue of any length: ``put(obj)``, ``get()``, ``empty()``, ``close()``."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__(0, ctx=ctx)


def __getattr__(name: str) -> Any:
    """Give what else the standard library's module has."""
    return getattr(standard, name)
