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

__all__ = ["Loop", "LoopWait", "checkpoint", "current_loop", "running_trio", "wake_all"]


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


class _Asyncio:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.wakeups = Wakeups()
        loop.add_reader(self.wakeups.fileno(), wake_all, self.wakeups)

    async def sleep(self, wait: LoopWait, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()

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


async def _pump(lowlevel: Any, wakeups: Wakeups) -> None:
    while True:
        await lowlevel.wait_readable(wakeups.fileno())
        wake_all(wakeups)


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Asyncio] = weakref.WeakKeyDictionary()
_run_var: list[Any] = []


def _forget() -> None:
    # The descriptors are shared with the parent, whose tasks they are for.
    _loops.clear()


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
    """Let the other tasks of the loop run."""
    trio = running_trio()
    if trio is None:
        await asyncio.sleep(0)
    else:
        await trio.lowlevel.checkpoint()


def running_trio() -> Any:
    """Return trio if it runs this task."""
    trio = sys.modules.get("trio")
    if trio is None or not hasattr(trio, "lowlevel"):
        return None
    return trio if trio.lowlevel.in_trio_task() else None
