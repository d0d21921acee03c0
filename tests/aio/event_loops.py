"""Runs coroutines in each kind of event loop."""

import asyncio
import threading

import children
import pytest

LOOPS = ["asyncio", "uvloop", "trio", "polling"]


def run(loop, function, *arguments):
    """Run a coroutine function in a loop of this kind, with a limit."""
    if loop == "trio":
        trio = pytest.importorskip("trio")

        async def limited():
            with trio.fail_after(children.LIMIT):
                return await function(*arguments)

        return trio.run(limited)

    async def limited():
        return await asyncio.wait_for(function(*arguments), children.LIMIT)

    if loop == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(limited())
    return asyncio.run(limited())


def later(function, *arguments):
    """Call it in a thread, a moment later: while the task waits, or just before."""
    timer = threading.Timer(0.02, function, arguments)
    timer.start()
    return timer


async def until(is_true):
    """Let the other tasks run until it is true."""
    while not is_true():  # noqa: ASYNC110 - shared memory sets no event
        await asyncio.sleep(0)
