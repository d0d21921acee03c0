"""Locks and their friends under the names and parameters of `multiprocessing.synchronize`.

They are onecopy's own classes. What differs from the standard library's is that they may be pickled
at any time, and what happens when a process dies that has one: see each class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy import locks

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]


class Lock(locks.Lock):
    """`onecopy.Lock`. `ctx` is accepted and not needed."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()


class RLock(locks.RLock):
    """`onecopy.RLock`. `ctx` is accepted and not needed."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()


class _Asked:
    """A semaphore as the standard library's queues look at it: those of concurrent.futures do."""

    def __init__(self, semaphore: locks.Semaphore) -> None:
        self._semaphore = semaphore

    def _get_value(self) -> int:
        return self._semaphore.get_value()

    def _is_zero(self) -> bool:
        return self._semaphore.get_value() == 0


class Semaphore(locks.Semaphore):
    """`onecopy.Semaphore`. `ctx` is accepted and not needed."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        super().__init__(value)

    _semlock = property(_Asked)


class BoundedSemaphore(locks.BoundedSemaphore):
    """`onecopy.BoundedSemaphore`. `ctx` is accepted and not needed."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        super().__init__(value)

    _semlock = property(_Asked)


class Condition(locks.Condition):
    """`onecopy.Condition`. `ctx` is accepted and not needed."""

    def __init__(self, lock: locks.Lock | locks.RLock | None = None, *, ctx: Any = None) -> None:
        super().__init__(lock)


class Event(locks.Event):
    """`onecopy.Event`. `ctx` is accepted and not needed."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()

    def __repr__(self) -> str:
        state = "set" if self.is_set() else "unset"
        return f"<{type(self).__qualname__} at {id(self):#x} {state}>"


class Barrier(locks.Barrier):
    """`onecopy.Barrier`. `ctx` is accepted and not needed."""

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,
    ) -> None:
        super().__init__(parties, action, timeout)
