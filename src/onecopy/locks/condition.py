"""Condition: wait, with a lock, until another thread or process notifies of a change."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from onecopy._core.arguments import function, refuse, seconds, unnamed
from onecopy._core.current import default_member
from onecopy._core.shared import Shared
from onecopy._native import ConditionBase, LockBase, own_methods
from onecopy.locks.mutex import Lock, RLock

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._aio.parties import AioCondition
    from onecopy._native import Hold, Member

__all__ = ["Condition", "checked_lock"]

_T = TypeVar("_T")

_ALL = 2**31 - 1


def checked_lock(lock: object) -> Lock | RLock | None:
    """Check that an object can be the lock of a condition.

    Raises
    ------
    TypeError
        It is neither a `Lock`, nor an `RLock`, nor None.
    """
    if lock is not None and not isinstance(lock, (Lock, RLock)):
        refuse("lock", "an onecopy.Lock or RLock", lock)
    return lock


@own_methods
class Condition(Shared, ConditionBase):
    """A condition variable, like `multiprocessing.Condition` and `threading.Condition`.

    Parameters
    ----------
    lock : Lock or RLock, optional
        The lock that protects the condition. Default: a new RLock. Tasks of an event loop need a
        `Lock`; see `aio`.

    Raises
    ------
    ValueError, TypeError
        The lock is neither, or lies in another pool.
    PoolFull
        There is no room for the condition.

    Notes
    -----
    If a process is killed while it waits, `notify` skips it. If it is killed after it was notified
    and before it owns the lock again, another waiter gets the notification. If the owner of the
    lock dies, the lock's `on_owner_death` applies to the next thread that gets the lock back in
    `wait`. That thread owns the lock in any case. After such a death a wait may end without a
    notification: check what you wait for, as `wait_for` does.

    Examples
    --------
    >>> pool = oc.Pool("locks", size="4MiB")
    >>> changed = pool.condition("changed")
    >>> with changed:
    ...     changed.wait(timeout=0.001)  # releases the lock while it waits
    False
    >>> with changed:
    ...     changed.wait_for(lambda: True, timeout=10)
    True
    >>> changed.acquire()
    True
    >>> changed.notify()  # one of those that wait
    >>> changed.notify_all()
    >>> changed.release()
    >>> changed.detach()  # this process has it no more; other processes keep it
    """

    _lock: Lock | RLock
    _has_own_lock: bool
    _own_lock_class: type[RLock] = RLock
    _made_by = "condition"

    @unnamed
    def __init__(self, lock: Lock | RLock | None = None) -> None:
        checked_lock(lock)
        member = default_member() if lock is None else lock.member
        self._attach(None, member, lock)

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        lock = checked_lock(state[0] if state else None)
        if lock is not None and lock.member is not member:
            raise ValueError("the lock of a condition must lie in the same pool as the condition")
        self._has_own_lock = lock is None
        if hold is None:
            if lock is None:
                lock = self._own_lock_class._open(None, member, None, "warn")
            ConditionBase.__init__(self, None, member, lock.handle)
        else:
            ConditionBase.__init__(self, hold, member, 0)
            lock = self._open_lock() if lock is None else lock
        self._lock = lock

    def _open_lock(self) -> Lock | RLock:
        hold = self.member.hold(self._lock_handle)
        recursive = LockBase(hold, self.member, False, _ignore_death)._is_recursive
        kind: type[Lock | RLock] = RLock if recursive else Lock
        return kind._open(hold, self.member, None, "warn")

    def detach(self) -> None:
        """Release the condition in this process, and its lock if the caller passed none."""
        super().detach()
        if self._has_own_lock:
            self._lock.detach()

    def _state(self) -> tuple[Any, ...]:
        return (self._lock,)

    def _describe(self) -> str:
        return f", {self.n_waiting} waiting, {self._lock!r}"

    @property
    def aio(self) -> AioCondition:
        """`wait` and ``async with`` for tasks of an event loop; see docs/asyncio.md."""
        if self._lock._recursive:
            name = "" if self._name is None else f" {self._name!r}"
            raise AttributeError(
                f"tasks cannot use the condition{name}, because its lock is an RLock: an RLock "
                "belongs to a thread, and all tasks of an event loop run in one thread. Make the "
                "condition with a Lock: pool.condition(name, pool.lock())"
            )
        from onecopy._aio.parties import AioCondition

        return AioCondition(self, self._lock)

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait for a notification, and acquire the lock again.

        Parameters
        ----------
        timeout : float, optional
            The longest time to wait for the notification, in seconds. The time to acquire the lock
            again is not included.

        Returns
        -------
        bool
            False: no notification in time.

        Raises
        ------
        RuntimeError
            The caller does not own the lock.
        PoolFull
            More threads wait than ever before, and the pool has no room for one more entry.
        """
        return self._wait_with(self._lock, timeout)

    def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T:
        """Wait until something is true.

        Parameters
        ----------
        predicate : callable
            Called with the lock held, at the beginning and after each wake-up.
        timeout : float, optional
            The longest time to wait, in seconds.

        Returns
        -------
        object
            The last result of the predicate. It is false if the time is up.
        """
        function("predicate", predicate)
        timeout = seconds("timeout", timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        result = predicate()
        while not result:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake the `n` waiters that have waited longest, or all if there are fewer.

        Raises
        ------
        RuntimeError
            The caller does not own the lock.
        """
        self._notify_with(self._lock, n)

    def notify_all(self) -> None:
        """Wake all waiters.

        Raises
        ------
        RuntimeError
            The caller does not own the lock.
        """
        self._notify_with(self._lock, _ALL)


def _ignore_death(lock: Any, pid: int, stays: bool) -> None:
    """Ignore a death: the lock object is used only to find out its kind."""
