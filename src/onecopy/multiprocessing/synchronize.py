"""Locks and their friends under the names and parameters of `multiprocessing.synchronize`.

They are onecopy's own classes. What differs from the standard library's is that they may be pickled
at any time, and what happens when a process ends that has one: see each class.

Where the two raise different errors, what is raised here is both.
"""

from __future__ import annotations

import errno
import multiprocessing.synchronize as standard
from typing import TYPE_CHECKING, Any

from onecopy import locks
from onecopy._native import own_methods
from onecopy.locks.semaphore import checked_value

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]


class _NotHeld(RuntimeError, AssertionError):
    """A lock that the thread does not have: onecopy's error, and the standard library's."""


class _InvalidValue(ValueError, OSError):
    """What no semaphore begins with: onecopy's error, and the standard library's."""


@own_methods
class Lock(locks.Lock):
    """`onecopy.Lock`. `ctx` is accepted and not needed."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()


@own_methods
class RLock(locks.RLock):
    """`onecopy.RLock`. `ctx` is accepted and not needed.

    Releasing it without having it raises an error that is a RuntimeError and an AssertionError.
    """

    _not_held = _NotHeld

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


def _check_value(value: int) -> None:
    try:
        checked_value(value)
    except ValueError as error:
        raise _InvalidValue(errno.EINVAL, str(error)) from None


@own_methods
class Semaphore(locks.Semaphore):
    """`onecopy.Semaphore`: tokens to take and give back.

    Parameters
    ----------
    value : int, optional
        Tokens at the beginning.
    ctx : context, optional
        Accepted, and not needed.
    recover : bool, optional
        Whether the tokens that a process has taken come back when it ends, be it in peace.

    Raises
    ------
    ValueError
        `value` is negative, or above 2**31-1. It is an OSError too.
    PoolFull
        There is no room for the semaphore.

    Notes
    -----
    In the standard library no token comes back by itself. Code that lets one process acquire and
    end, and another one release, wants ``recover=False``.
    """

    def __init__(self, value: int = 1, *, ctx: Any = None, recover: bool = True) -> None:
        _check_value(value)
        super().__init__(value, recover=recover)

    _semlock = property(_Asked)


@own_methods
class BoundedSemaphore(locks.BoundedSemaphore):
    """A `Semaphore` that refuses (ValueError) to hold more than it began with."""

    def __init__(self, value: int = 1, *, ctx: Any = None, recover: bool = True) -> None:
        _check_value(value)
        super().__init__(value, recover=recover)

    _semlock = property(_Asked)


@own_methods
class Condition(locks.Condition):
    """`onecopy.Condition`. `ctx` is accepted and not needed.

    Waiting or notifying without the lock raises an error that is a RuntimeError and an
    AssertionError. The lock is a `Lock` or an `RLock`; a semaphore, which the standard library
    takes too, is refused with TypeError.
    """

    _not_held = _NotHeld
    _own_lock_class = RLock

    def __init__(self, lock: locks.Lock | locks.RLock | None = None, *, ctx: Any = None) -> None:
        super().__init__(lock)


@own_methods
class Event(locks.Event):
    """`onecopy.Event`. `ctx` is accepted and not needed."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()

    def __repr__(self) -> str:
        state = "set" if self.is_set() else "unset"
        return f"<{type(self).__qualname__} at {id(self):#x} {state}>"


@own_methods
class Barrier(locks.Barrier):
    """`onecopy.Barrier`. `ctx` is accepted and not needed.

    A barrier for less than one party is refused with ValueError; the standard library makes one
    for none.
    """

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,
    ) -> None:
        super().__init__(parties, action, timeout)


def __getattr__(name: str) -> Any:
    """Give what else the standard library's module has."""
    return getattr(standard, name)
