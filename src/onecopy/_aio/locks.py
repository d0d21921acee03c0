"""The awaitable twins of the methods of locks, semaphores and events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from onecopy._aio.loops import checkpoint, forks
from onecopy._aio.waiting import CALLS_IN_A_ROW, Late, repeat, tick, waits

if TYPE_CHECKING:
    from types import TracebackType

    from onecopy._native import EventBase

__all__ = ["AioEvent", "AioLock"]


class _Lock(Protocol):
    def acquire(
        self, block: bool = True, timeout: float | None = None, *, blocking: bool | None = None
    ) -> bool: ...
    def release(self) -> None: ...


class AioLock:
    """A lock or semaphore for tasks: ``await lock.aio.acquire()``, ``async with lock.aio``.

    The arguments, results and errors are those of the blocking methods. A task that is cancelled
    while it waits has taken nothing.
    """

    __slots__ = ("_forks", "_lock")

    def __init__(self, lock: _Lock) -> None:
        self._lock = lock
        self._forks = forks()

    async def acquire(
        self, block: bool = True, timeout: float | None = None, *, blocking: bool | None = None
    ) -> bool:
        """Acquire it; False: not in time. `blocking` is another name of `block`."""
        lock = self._lock
        if blocking is not None and bool(blocking) != bool(block):
            if blocking:
                return lock.acquire(block, timeout, blocking=blocking)  # refuses the contradiction
            block = False  # the default is True, too
        if not waits(block, timeout):
            return lock.acquire(block, timeout)
        if tick() % CALLS_IN_A_ROW == 0:
            await checkpoint()
        if lock.acquire(False):
            return True
        try:
            return await repeat(lambda wait: lock.acquire(True, wait), timeout, one=True)
        except Late:
            return lock.acquire(False)

    def release(self) -> None:
        """Release it, as the blocking object does; this never waits."""
        self._lock.release()

    async def __aenter__(self) -> None:
        """Acquire it."""
        await self.acquire()
        self._forks = forks()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release it."""
        # A forked child has copies of the tasks of its parent. When they end there, the lock that a
        # task of the parent has stays locked. A release that does nothing is used up.
        if self._forks == forks() or self._owes():
            self._lock.release()

    def _owes(self) -> bool:
        return bool(getattr(self._lock, "_owed", 0))


class AioEvent:
    """An event for tasks: ``await event.aio.wait()``."""

    __slots__ = ("_event",)

    def __init__(self, event: EventBase) -> None:
        self._event = event

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set; False: not in time. See `Event.wait`."""
        event = self._event
        if event.is_set() or not waits(True, timeout):
            return event.wait(timeout)
        try:
            return await repeat(event.wait, timeout, one=False)
        except Late:
            return event.is_set()
