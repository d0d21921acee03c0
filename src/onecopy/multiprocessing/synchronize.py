"""Locks, semaphores, events, conditions and barriers, as in `multiprocessing.synchronize`.

They are onecopy's own classes, with the names and parameters of the standard library. They differ
in two ways: they can be pickled at any time, and each class documents what happens when a process
ends that holds it.

If onecopy and the standard library raise different errors, the error here is a subclass of both.
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
    """The thread does not own the lock: onecopy's error, and the standard library's."""


class _InvalidValue(ValueError, OSError):
    """An invalid first value of a semaphore: onecopy's error, and the standard library's."""


@own_methods
class Lock(locks.Lock):
    """`onecopy.Lock`. `ctx` is accepted and not needed."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()


@own_methods
class RLock(locks.RLock):
    """`onecopy.RLock`. `ctx` is accepted and not needed.

    To release it in a thread that does not own it raises an error that is a RuntimeError and an
    AssertionError.
    """

    _not_held = _NotHeld

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()


class _Asked:
    """The private methods of a semaphore that queues of the standard library call."""

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
    """`onecopy.Semaphore`: a number of tokens that processes take and release.

    Parameters
    ----------
    value : int, optional
        Tokens at the beginning.
    ctx : context, optional
        Accepted, and not needed.
    recover : bool, optional
        Whether a process's tokens are released when it ends, also when it ends normally.

    Raises
    ------
    ValueError
        `value` is negative, or greater than 2**31-1. The error is an OSError too.
    PoolFull
        There is no room for the semaphore.

    Notes
    -----
    In the standard library, the end of a process releases no token. Use ``recover=False`` for code
    in which one process acquires a token and ends, and another process releases it.
    """

    def __init__(self, value: int = 1, *, ctx: Any = None, recover: bool = True) -> None:
        _check_value(value)
        super().__init__(value, recover=recover)

    _semlock = property(_Asked)


@own_methods
class BoundedSemaphore(locks.BoundedSemaphore):
    """A `Semaphore` that refuses (ValueError) to exceed its first value."""

    def __init__(self, value: int = 1, *, ctx: Any = None, recover: bool = True) -> None:
        _check_value(value)
        super().__init__(value, recover=recover)

    _semlock = property(_Asked)


@own_methods
class Condition(locks.Condition):
    """`onecopy.Condition`. `ctx` is accepted and not needed.

    To wait or notify without the lock raises an error that is a RuntimeError and an AssertionError.
    The lock is a `Lock` or an `RLock`. A semaphore, which the standard library accepts too, raises
    a TypeError.
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

    Less than one party raises a ValueError. The standard library accepts 0 parties.
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
    """Return other names of the standard library's module."""
    return getattr(standard, name)
