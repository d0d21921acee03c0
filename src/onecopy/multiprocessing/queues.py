"""Queues with the methods, parameters and errors of `multiprocessing.queues`.

They are `onecopy.Queue` with two differences, for programs that were written for multiprocessing.
An array that `put` copied belongs to the process that gets it: that process may write to it, and
if it puts the array again, the array is copied again. And a queue has ``_reader`` and ``_writer``,
which much code passes to `multiprocessing.connection.wait`.
"""

from __future__ import annotations

import multiprocessing.queues as standard
from queue import Full
from types import MethodDescriptorType
from typing import TYPE_CHECKING, Any, ClassVar

from onecopy import queue as own
from onecopy._core.shared import rebuild
from onecopy._native import own_methods
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

    `put` encodes the object at once, and not later in a thread. Therefore `put` raises an error if
    the object cannot be pickled. (In the standard library a thread prints the error, and the object
    is lost.) When `put` has returned, the object is in the queue, even if the process is killed
    after that. There is no thread to join or to cancel.

    Parameters
    ----------
    maxsize : int, optional
        The most objects in the queue; 0 or less: as many as the pool has room for.
    ctx : context, optional
        Accepted, and not needed.

    Raises
    ------
    PoolFull
        The pool has no room for the queue. `put` raises it for an object that is larger than the
        pool, and for an object that does not fit now if `put` may not wait.

    Notes
    -----
    After `close`, `put` and `get` raise an error that is a ValueError and an OSError. Arrays in a
    pool (`onecopy.empty`, frames) are sent by reference and arrive read-only, as in
    `onecopy.Queue`. Arrays that were read-only when they were put arrive read-only too.
    """

    _read_end: ReadEnd | None = None
    _write_end: WriteEnd | None = None

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        super().__init__(maxsize)

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        super()._attach(hold, member, *state)
        self._as_standard = True

    # As in the standard library. Otherwise `Process(args=(queue))`, without the comma, would take
    # all messages and wait for ever.
    __iter__: ClassVar[None] = None  # type: ignore[assignment]  # of the class that has it

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Adapt a subclass that overrides methods; other queues take no extra time."""
        super().__init_subclass__(**kwargs)
        if cls._on_queue_feeder_error is not Queue._on_queue_feeder_error:
            _have_reports(cls)
        # The native methods call no overridden method of the object.
        for name, method in (("put", _put_nowait), ("get", _get_nowait)):
            if _is_native(cls, f"{name}_nowait") and not _is_native(cls, name):
                setattr(cls, f"{name}_nowait", method)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by reference, with the state that a subclass adds to it."""
        _, cls = self._opener()
        if cls.__getstate__ is Queue.__getstate__ and cls.__setstate__ is Queue.__setstate__:
            return super().__reduce__()
        return _blank, (cls,), self.__getstate__()

    def _opener(self) -> tuple[Any, ...]:
        cls: Any = type(self)
        if issubclass(cls, ClearsReadiness):  # pickle finds only the original class
            cls = cls.__mro__[2]
        return rebuild, cls

    def __getstate__(self) -> Any:
        """Return a reference to the queue. Subclasses add to it, as in multiprocessing.

        An attribute of the object is pickled only if its class adds it here.
        """
        return self._place()

    def __setstate__(self, state: Any) -> None:
        """Open the queue to which the result of `__getstate__` refers.

        Raises
        ------
        StaleRef, PoolNotFound
            The queue does not exist any more.
        """
        self._open_at(state)

    @staticmethod
    def _on_queue_feeder_error(error: Exception, obj: Any) -> None:
        """Handle an object that cannot be pickled. If a subclass overrides it, `put` returns."""

    def join_thread(self) -> None:
        """Do nothing: the objects that were put are in the queue already."""

    def cancel_join_thread(self) -> None:
        """Do nothing: the end of a process never waits for the queue."""

    def close(self) -> None:
        """Release the queue in this process. A second call does nothing."""
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
    """Make the object in which `Queue.__setstate__` opens the queue."""
    return cls.__new__(cls)


class _Reports(_Queue):
    """A ``put`` that calls the hook for an object that cannot be pickled.

    It is a base class between the class that has the hook and `Queue`. So a ``put`` of that class
    that calls the ``put`` of its base class calls this one.
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
        except Exception as error:  # noqa: BLE001 - any error of a __reduce__
            self._on_queue_feeder_error(error, obj)


def _have_reports(cls: type[Queue]) -> None:
    """Insert `_Reports` between a class and its base class that is a `Queue`."""
    if issubclass(cls, _Reports):
        return
    bases = cls.__bases__
    first = next(i for i, base in enumerate(bases) if issubclass(base, Queue))
    cls.__bases__ = (*bases[:first], _Reports, *bases[first:])


def _is_native(cls: type, name: str) -> bool:
    return isinstance(getattr(cls, name), MethodDescriptorType)


def _put_nowait(self: Queue, obj: Any) -> None:
    """Put an object if there is room, by the ``put`` of the object's class."""
    self.put(obj, False)


def _get_nowait(self: Queue) -> Any:
    """Take an object if there is one, by the ``get`` of the object's class."""
    return self.get(False)


@own_methods
class JoinableQueue(Queue):
    """A `Queue` whose ``join()`` waits until ``task_done()`` was called for each object."""


@own_methods
class SimpleQueue(Queue):
    """A queue of any length: ``put(obj)``, ``get()``, ``empty()``, ``close()``."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__(0, ctx=ctx)


def __getattr__(name: str) -> Any:
    """Return other names of the standard library's module."""
    return getattr(standard, name)
