"""The awaitable twins of conditions and barriers.

Before such a wait sleeps, others see it: it is one of the waiters of a condition, or has arrived at
a barrier. So it is a sequence of steps (docs/design/0021-asyncio.md), and not one call that is
repeated.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from onecopy._aio.locks import AioLock
from onecopy._aio.loops import checkpoint, current_loop
from onecopy._aio.waiting import CALLS_IN_A_ROW, Late, repeat, repeat_through, tick, waits
from onecopy._core.arguments import function, seconds
from onecopy._native import BarrierParty, ConditionStay

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._native import BarrierBase, ConditionBase, LockBase

__all__ = ["AioBarrier", "AioCondition"]

_T = TypeVar("_T")
_ALL = 2**31 - 1


class AioCondition(AioLock):
    """A condition for tasks: ``async with condition.aio`` and ``await condition.aio.wait()``.

    The arguments, results and errors are those of the blocking methods. `notify`, `notify_all` and
    `release` never wait, and are ordinary methods.
    """

    __slots__ = ("_condition", "_lock_below")

    def __init__(self, condition: ConditionBase, lock: LockBase) -> None:
        super().__init__(condition)
        self._condition = condition
        self._lock_below = lock

    async def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait for a notification, acquire the lock again; see `Condition.wait`.

        A task that is cancelled acquires the lock again before the exception is raised. If it was
        notified, the notification goes to another waiter.
        """
        timeout = seconds("timeout", timeout)
        current_loop()  # outside of a loop nothing has changed yet
        if tick() % CALLS_IN_A_ROW == 0:
            await checkpoint()
        stay = ConditionStay(self._condition, self._lock_below, timeout)
        try:
            return await _notification(stay, timeout if waits(True, timeout) else 0.0)
        finally:
            # Nothing, unless the task was destroyed, or the pool was closed.
            stay.close()

    async def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T:
        """Wait until something is true; see `Condition.wait_for`."""
        function("predicate", predicate)
        timeout = seconds("timeout", timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        result = predicate()
        while not result:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            await self.wait(left)
            result = predicate()
        return result

    def _owes(self) -> bool:
        return bool(self._lock_below._owed)

    def notify(self, n: int = 1) -> None:
        """Wake the `n` waiters that have waited longest; see `Condition.notify`."""
        self._condition._notify_with(self._lock_below, n)

    def notify_all(self) -> None:
        """Wake all waiters; see `Condition.notify_all`."""
        self._condition._notify_with(self._lock_below, _ALL)


async def _notification(stay: ConditionStay, timeout: float | None) -> bool:
    notified = False

    def attempt(wait: Any) -> bool:
        nonlocal notified
        notified = stay.attempt(wait)
        return notified

    async def the_lock() -> None:
        await repeat_through(attempt, lambda: stay.over, lambda: stay.give_up(True))

    try:
        return await repeat(attempt, timeout, one=True)
    except Late:
        stay.give_up(False)
    except GeneratorExit:
        raise  # a coroutine that is destroyed must not wait
    except BaseException:
        if not stay.over:
            stay.give_up(True)
            await the_lock()
        raise
    await the_lock()
    return notified


class AioBarrier:
    """A barrier for tasks: ``await barrier.aio.wait()``."""

    __slots__ = ("_action", "_barrier", "_timeout")

    def __init__(
        self, barrier: BarrierBase, action: Callable[[], object] | None, timeout: float | None
    ) -> None:
        self._barrier = barrier
        self._action = action
        self._timeout = timeout

    async def wait(self, timeout: float | None = None) -> int:
        """Wait until all parties have arrived; see `Barrier.wait`.

        If a task is cancelled while it waits for the others, the barrier breaks, as it does when
        the time is up.
        """
        timeout = self._timeout if timeout is None else seconds("timeout", timeout)
        current_loop()  # outside of a loop nothing has changed yet
        party = BarrierParty(self._barrier, timeout)
        action = self._action
        try:
            # The timeout is for the other parties, not for an action that is running.
            number = await repeat(lambda wait: party.arrive(action, wait), None, one=False)
            if number is not None:
                return number
            try:
                left = timeout if waits(True, timeout) else 0.0
                return await repeat(party.attempt, left, one=False)
            except Late:
                return party.give_up()
        finally:
            party.close()  # nothing, unless the task was cancelled or destroyed
