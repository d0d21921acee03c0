"""Contexts: objects that have a start method, and all that `multiprocessing` can make.

Each is a context of the standard library (with its ``Process``, ``Pipe`` and so on). Queues, locks,
values, worker pools and managers that it makes are those of onecopy.
"""

from __future__ import annotations

import multiprocessing.context as standard
from typing import TYPE_CHECKING, Any

from onecopy.multiprocessing import _default_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from onecopy.multiprocessing import managers, pool, queues, synchronize

__all__ = [
    "AuthenticationError",
    "BufferTooShort",
    "DefaultContext",
    "ForkContext",
    "ForkServerContext",
    "Process",
    "ProcessError",
    "SpawnContext",
    "TimeoutError",
    "default_context",
]

ProcessError = standard.ProcessError
BufferTooShort = standard.BufferTooShort
TimeoutError = standard.TimeoutError
AuthenticationError = standard.AuthenticationError
Process = standard.Process


class SharingContext(standard.BaseContext):
    """The methods that make shared objects of onecopy, in the default pool.

    Every method has the parameters of the standard library's method. The classes have the
    documentation.
    """

    def get_context(self, method: str | None = None) -> Any:
        """Return the context of a start method; without one, this context.

        Raises
        ------
        ValueError
            There is no such start method.
        """
        if method is None:
            return self
        try:
            context = _contexts[method]
        except KeyError:
            raise ValueError(f"cannot find context for {method!r}") from None
        context._check_available()
        return context

    # ------------------------------------------------------------------------------------- channels

    def Queue(self, maxsize: int = 0) -> queues.Queue:  # type: ignore[override]  # ours
        """Make a queue; see `onecopy.multiprocessing.queues.Queue`."""
        from onecopy.multiprocessing.queues import Queue

        return Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> queues.JoinableQueue:  # type: ignore[override]  # ours
        """Make a queue with ``task_done`` and ``join``."""
        from onecopy.multiprocessing.queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> queues.SimpleQueue:  # type: ignore[override]  # ours
        """Make a queue without bound or time-outs."""
        from onecopy.multiprocessing.queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    # ---------------------------------------------------------------------------------------- locks

    def Lock(self) -> synchronize.Lock:  # type: ignore[override]  # ours
        """Make a lock; see `onecopy.Lock`."""
        from onecopy.multiprocessing.synchronize import Lock

        return Lock(ctx=self.get_context())

    def RLock(self) -> synchronize.RLock:  # type: ignore[override]  # ours
        """Make a recursive lock; see `onecopy.RLock`."""
        from onecopy.multiprocessing.synchronize import RLock

        return RLock(ctx=self.get_context())

    def Condition(self, lock: Any = None) -> synchronize.Condition:  # type: ignore[override]  # ours
        """Make a condition variable; see `onecopy.Condition`."""
        from onecopy.multiprocessing.synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Semaphore(  # type: ignore[override]  # ours
        self, value: int = 1, *, recover: bool = True
    ) -> synchronize.Semaphore:
        """Make a semaphore; see `onecopy.multiprocessing.synchronize.Semaphore`.

        The tokens that a process has taken come back when it ends, unless `recover` is False.
        """
        from onecopy.multiprocessing.synchronize import Semaphore

        return Semaphore(value, recover=recover, ctx=self.get_context())

    def BoundedSemaphore(  # type: ignore[override]  # ours
        self, value: int = 1, *, recover: bool = True
    ) -> synchronize.BoundedSemaphore:
        """Make a bounded semaphore; see `onecopy.multiprocessing.synchronize.BoundedSemaphore`.

        The tokens that a process has taken come back when it ends, unless `recover` is False.
        """
        from onecopy.multiprocessing.synchronize import BoundedSemaphore

        return BoundedSemaphore(value, recover=recover, ctx=self.get_context())

    def Event(self) -> synchronize.Event:  # type: ignore[override]  # ours
        """Make an event; see `onecopy.Event`."""
        from onecopy.multiprocessing.synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(  # type: ignore[override]  # ours
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> synchronize.Barrier:
        """Make a barrier; see `onecopy.Barrier`."""
        from onecopy.multiprocessing.synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    # --------------------------------------------------------------------------------------- memory

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """Make a ctypes object in shared memory, without a lock."""
        from onecopy.multiprocessing.sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> Any:
        """Make a ctypes array in shared memory, without a lock."""
        from onecopy.multiprocessing.sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """Make a ctypes object in shared memory, with a lock."""
        from onecopy.multiprocessing.sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
        """Make a ctypes array in shared memory, with a lock."""
        from onecopy.multiprocessing.sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    # ------------------------------------------------------------------------------------ processes

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> pool.Pool:
        """Make a pool of worker processes; see `onecopy.multiprocessing.pool.Pool`."""
        from onecopy.multiprocessing.pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    def Manager(self) -> managers.SyncManager:
        """Start a manager; see `onecopy.multiprocessing.managers.SyncManager`."""
        from onecopy.multiprocessing.managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager


class ForkContext(SharingContext, standard.ForkContext):
    """A new process is a copy of its parent."""


class SpawnContext(SharingContext, standard.SpawnContext):
    """A new process starts a new interpreter."""


class ForkServerContext(SharingContext, standard.ForkServerContext):
    """A new process is a copy of a server process that does nothing else."""


_contexts: dict[str, SharingContext] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}


class DefaultContext(SharingContext):
    """The context that the functions of the package use, with the start method of the process.

    There is one setting: `multiprocessing.set_start_method` and the method of this class do the
    same.
    """

    Process = standard.Process

    def get_context(self, method: str | None = None) -> Any:
        """Return the context of a start method; without one, of the method that is set."""
        if method is None:
            method = self.get_start_method()
        return super().get_context(method)

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Set the start method. A second call needs `force`.

        Raises
        ------
        RuntimeError
            The start method was set before.
        ValueError
            There is no such start method.
        """
        standard._default_context.set_start_method(method, force)

    def get_start_method(self, allow_none: bool = False) -> Any:
        """Return the start method; this call sets the default one, unless `allow_none` is true."""
        return standard._default_context.get_start_method(allow_none)

    def get_all_start_methods(self) -> list[str]:
        """List the start methods, the default one first."""
        return standard._default_context.get_all_start_methods()


default_context: DefaultContext = DefaultContext()
_default_context.provide(default_context)


def __getattr__(name: str) -> Any:
    """Return other names of the standard library's module."""
    return getattr(standard, name)
