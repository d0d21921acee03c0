"""How tasks of an event loop sleep until a native wait is notified: asyncio, uvloop and trio.

Each loop has one descriptor (`Wakeups`). The loop watches it like a socket. When it is readable,
the tasks of all waits that were notified continue.
"""

from __future__ import annotations

import asyncio
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from onecopy._native import Wait, Wakeups

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Loop",
    "LoopWait",
    "checkpoint",
    "current_loop",
    "forks",
    "running_trio",
    "wake_all",
]


class LoopWait(Wait):
    """A wait of one task. `wake` lets the task continue; None while it does not sleep."""

    __slots__ = ("wake",)
    wake: Callable[[], object] | None

    def __init__(self, wakeups: Wakeups, one: bool) -> None:
        super().__init__(wakeups, one)
        self.wake = None


def wake_all(wakeups: Wakeups) -> None:
    """Let the tasks continue whose waits were notified."""
    for wait in wakeups.take():
        if wait.wake is not None:
            wait.wake()


class Loop(Protocol):
    """An event loop, as `waiting` needs it."""

    wakeups: Wakeups

    async def sleep(self, wait: LoopWait, seconds: float | None) -> None:
        """Return when the wait was notified, or after so many seconds."""

    async def sleep_through(
        self, wait: LoopWait, seconds: float | None
    ) -> asyncio.CancelledError | None:
        """Sleep likewise, also if the task is cancelled. Return an exception to raise later."""


class _Patient(asyncio.Future[None]):
    """A future that remembers that its task was cancelled, and lets the task wait for it."""

    error: asyncio.CancelledError | None = None
    is_left = False  # the coroutine that waited for it was destroyed

    def cancel(self, msg: Any | None = None) -> bool:
        if self.is_left:
            return super().cancel(msg)
        self.error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        return True


class _Asyncio:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.wakeups = Wakeups()
        loop.add_reader(self.wakeups.fileno(), wake_all, self.wakeups)

    async def sleep(self, wait: LoopWait, seconds: float | None) -> None:
        await self._sleep(wait, seconds, asyncio.get_running_loop().create_future())

    async def sleep_through(
        self, wait: LoopWait, seconds: float | None
    ) -> asyncio.CancelledError | None:
        future = _Patient(loop=asyncio.get_running_loop())
        try:
            await self._sleep(wait, seconds, future)
        finally:
            future.is_left = True
        return future.error

    async def _sleep(
        self, wait: LoopWait, seconds: float | None, future: asyncio.Future[None]
    ) -> None:
        loop = future.get_loop()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        wait.wake = wake
        timer = None if seconds is None else loop.call_later(seconds, wake)
        try:
            await future
        finally:
            wait.wake = None
            if timer is not None:
                timer.cancel()


class _Trio:
    def __init__(self, lowlevel: Any) -> None:
        self.wakeups = Wakeups()
        lowlevel.spawn_system_task(_pump, lowlevel, self.wakeups)

    async def sleep(self, wait: LoopWait, seconds: float | None) -> None:
        trio = sys.modules["trio"]
        event = trio.Event()
        wait.wake = event.set
        try:
            with trio.move_on_after(float("inf") if seconds is None else seconds):
                await event.wait()
        finally:
            wait.wake = None

    async def sleep_through(
        self, wait: LoopWait, seconds: float | None
    ) -> asyncio.CancelledError | None:
        # trio itself raises at the next checkpoint.
        with sys.modules["trio"].CancelScope(shield=True):
            await self.sleep(wait, seconds)
        return None


async def _pump(lowlevel: Any, wakeups: Wakeups) -> None:
    while True:
        await lowlevel.wait_readable(wakeups.fileno())
        wake_all(wakeups)


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Asyncio] = weakref.WeakKeyDictionary()
_run_var: list[Any] = []
_forks = [0]


def _forget() -> None:
    # The descriptors are shared with the parent, whose tasks they are for.
    _loops.clear()
    _forks[0] += 1


def forks() -> int:
    """Return a number that is another one in a forked child than in its parent."""
    return _forks[0]


os.register_at_fork(after_in_child=_forget)


def current_loop() -> Loop:
    """Return the loop that runs in this thread.

    Raises
    ------
    RuntimeError
        None runs, or one that is neither asyncio's nor trio's.
    """
    trio = running_trio()
    if trio is not None:
        if not _run_var:
            _run_var.append(trio.lowlevel.RunVar("onecopy"))
        loop: Loop | None = _run_var[0].get(None)
        if loop is None:
            loop = _Trio(trio.lowlevel)
            _run_var[0].set(loop)
        return loop
    running = asyncio.get_running_loop()
    there = _loops.get(running)
    if there is None:
        there = _loops[running] = _Asyncio(running)
    return there


async def checkpoint() -> None:
    """Let the other tasks of the loop run.

    Raises
    ------
    RuntimeError
        No loop runs.
    """
    trio = running_trio()
    if trio is None:
        asyncio.get_running_loop()  # `sleep(0)` does not ask for one
        await asyncio.sleep(0)
    else:
        await trio.lowlevel.checkpoint()


def running_trio() -> Any:
    """Return trio if it runs this task."""
    trio = sys.modules.get("trio")
    if trio is None or not hasattr(trio, "lowlevel"):
        return None
    return trio if trio.lowlevel.in_trio_task() else None
