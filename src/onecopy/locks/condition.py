"""Condition: wait, with a lock, for somebody to say that something changed."""

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

    from onecopy._native import Hold, Member

__all__ = ["Condition", "checked_lock"]

_T = TypeVar("_T")

_EVERYBODY = 2**31 - 1


def checked_lock(lock: object) -> Lock | RLock | None:
    """Refuse what cannot be the lock of a condition.

    Raises
    ------
    TypeError
        It is neither a `Lock`, nor an `RLock`, nor None.
    """
    if lock is not None and not isinstance(lock, (Lock, RLock)):
        refuse("lock", "a onecopy.Lock or RLock", lock)
    return lock


@own_methods
class Condition(Shared, ConditionBase):
    """A condition variable; as `multiprocessing.Condition` and `threading.Condition`.

    Parameters
    ----------
    lock : Lock or RLock, optional
        What protects the condition. Default: an RLock of its own.

    Raises
    ------
    ValueError, TypeError
        The lock is none of these, or lies in another pool.
    PoolFull
        There is no room for the condition.

    Notes
    -----
    A process that is killed while it waits is passed over by `notify`; one that is killed after it
    was notified, before it had the lock again, passes the notification on. If the owner of the lock
    dies, the lock's `on_owner_death` applies to whoever gets it back in `wait`, who has the lock
    whatever comes of it. A wait may end
    without a reason after such a death: look at what you wait for, as `wait_for` does.
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
            raise ValueError("the lock of a condition lies in the same pool as the condition")
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
        recursive = LockBase(hold, self.member, False, _nothing)._is_recursive
        kind: type[Lock | RLock] = RLock if recursive else Lock
        return kind._open(hold, self.member, None, "warn")

    def detach(self) -> None:
        """Let go of it in this process, and of its lock, unless that was given to it."""
        super().detach()
        if self._has_own_lock:
            self._lock.detach()

    def _state(self) -> tuple[Any, ...]:
        return (self._lock,)

    def _describe(self) -> str:
        return f", {self.n_waiting} waiting, {self._lock!r}"

    def wait(self, timeout: float | None = None) -> bool:
        """Give the lock back, wait to be notified, take the lock again.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most, not counting the time it takes to get the lock back.

        Returns
        -------
        bool
            False: it was not notified in time.

        Raises
        ------
        RuntimeError
            The lock is not held.
        PoolFull
            More threads wait than ever before, and there is no room in the pool to note one more.
        """
        return self._wait_with(self._lock, timeout)

    def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T:
        """Wait until something is true.

        Parameters
        ----------
        predicate : callable
            Called with the lock held, at first and after each wake.
        timeout : float, optional
            Seconds to wait at most.

        Returns
        -------
        object
            What the predicate gave last; false: not in time.
        """
        function("predicate", predicate)
        seconds("timeout", timeout)
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
        """Wake those `n` that have waited longest, if there are so many.

        Raises
        ------
        RuntimeError
            The lock is not held.
        """
        self._notify_with(self._lock, n)

    def notify_all(self) -> None:
        """Wake all that wait.

        Raises
        ------
        RuntimeError
            The lock is not held.
        """
        self._notify_with(self._lock, _EVERYBODY)


def _nothing(lock: Any, pid: int, stays: bool) -> None:
    """Be told nothing: that lock object is only asked what it is."""
