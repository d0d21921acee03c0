"""Queues with the methods, parameters and errors of `multiprocessing.queues`.

They are `onecopy.Queue` with two differences, so that programs written for multiprocessing find
what they expect: an array that was copied when it was put belongs to whoever gets it, who may write
it (and if it is put again it is copied again); and a queue has ``_reader`` and ``_writer``, which
much code passes to `multiprocessing.connection.wait`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy import queue as own
from onecopy.multiprocessing._ends import ReadEnd, WriteEnd

if TYPE_CHECKING:
    from onecopy._native import Hold, Member

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]


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

    @classmethod
    def _open(cls, member: Member, hold: Hold, name: str | None) -> Queue:
        queue = super()._open(member, hold, name)
        queue._as_standard = True
        return queue

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # A hook that people override, for objects that cannot be pickled. Only they pay for it.
        if "_on_queue_feeder_error" in vars(cls):
            cls.put = _put_and_report  # type: ignore[assignment, method-assign]

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


def _put_and_report(
    self: Queue, obj: Any, block: bool = True, timeout: float | None = None
) -> None:
    """Put; tell the class's hook of an object that cannot be pickled."""
    import queue

    from onecopy.errors import OneCopyError

    try:
        own.Queue.put(self, obj, block, timeout)
    except (queue.Full, OneCopyError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a __reduce__ raises
        self._on_queue_feeder_error(error, obj)


class JoinableQueue(Queue):
    """A `Queue` that waits until everything put was worked on: ``task_done()`` and ``join()``."""


class SimpleQueue(Queue):
    """A queue of any length: ``put(obj)``, ``get()``, ``empty()``, ``close()``."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__(0, ctx=ctx)
