"""A call that would wait is repeated, in the loop's own thread, whenever that is worthwhile."""

from __future__ import annotations

import itertools
import time
from queue import Empty, Full
from typing import TYPE_CHECKING, Any, Final, TypeVar

from onecopy._aio.loops import LoopWait, current_loop
from onecopy.errors import PoolFull

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CALLS_IN_A_ROW", "Late", "limit_of", "repeat", "repeat_through", "tick", "waits"]

_T = TypeVar("_T")

# What calls raise that would have to wait.
_IN_VAIN: Final = (Empty, Full, PoolFull, TimeoutError)

# Another process may put objects as fast as a task takes them. So in each call of which `tick` is a
# multiple of this, other tasks run first.
CALLS_IN_A_ROW: Final = 64
tick = itertools.count(1).__next__


class Late(Exception):  # noqa: N818  # it is caught where the call's own error is raised
    """The time is up. The caller makes a last attempt, whose error is the one to raise."""


def waits(block: bool, timeout: float | None) -> bool:
    """Tell whether a call may wait. The blocking method checks the arguments of all others."""
    if not block:
        return False
    limit = limit_of(timeout)
    return limit is None or limit > 0


def limit_of(timeout: object) -> float | None:
    """Return the seconds that a call may wait; None: without limit.

    Every number counts, also one of numpy, a `Fraction` or a `Decimal`: the blocking method would
    wait for it, and stop the loop. 0: it may not wait, or it is no number, which is for the
    blocking method to refuse.
    """
    given: Any = timeout
    if given is None:
        return None
    if not (hasattr(given, "__float__") or hasattr(given, "__index__")):
        return 0.0
    try:
        limit = float(given)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return limit if limit > 0 else 0.0  # NaN is not greater, too


async def repeat(attempt: Callable[[Any], _T], timeout: object, *, one: bool) -> _T:
    """Call `attempt` until it need not wait.

    Parameters
    ----------
    attempt : callable
        Calls a blocking method with the wait as its timeout.
    timeout : number or None
        Seconds, as `limit_of` reads them.
    one : bool
        Whether a wake is for one of the waits on the same thing.

    Returns
    -------
    object
        The result of `attempt`.

    Raises
    ------
    Late
        The time is up.
    """
    loop = current_loop()
    limit = limit_of(timeout)
    end = None if limit is None else time.monotonic() + limit
    wait = LoopWait(loop.wakeups, one)
    unused = True
    try:
        while True:
            try:
                result = attempt(wait)
            except _IN_VAIN:
                if not wait.noted:
                    _check(wait)
                    raise
            else:
                if result is not False or not wait.noted:
                    _check(wait)
                    unused = False
                    return result
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise Late
            await loop.sleep(wait, left)
    finally:
        wait.end(unused)


# Seconds between two attempts that could not be noted.
_WITHOUT_A_NOTE: Final = 0.01


async def repeat_through(
    attempt: Callable[[Any], object], is_over: Callable[[], bool], cancelled: Callable[[], object]
) -> None:
    """Call `attempt` until it need not wait, also if the task is cancelled.

    Parameters
    ----------
    attempt : callable
        Calls a method with the wait as its timeout.
    is_over : callable
        Whether the last attempt did what it has to do.
    cancelled : callable
        Called before the next attempt if the task was cancelled.

    Raises
    ------
    asyncio.CancelledError
        The task was cancelled meanwhile. It is over nevertheless. (trio raises later.)
    """
    loop = current_loop()
    wait = LoopWait(loop.wakeups, True)
    raise_later: BaseException | None = None
    unused = True
    try:
        while True:
            attempt(wait)
            if is_over():
                unused = False
                break
            error = await loop.sleep_through(wait, None if wait.noted else _WITHOUT_A_NOTE)
            if error is not None:
                raise_later = error
                cancelled()
    finally:
        wait.end(unused)
    if raise_later is not None:
        raise raise_later


def _check(wait: LoopWait) -> None:
    if wait.failed:
        raise MemoryError("there is no memory, or no thread, to wait for a change of shared memory")
