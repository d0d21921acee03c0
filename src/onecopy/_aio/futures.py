"""Futures of `concurrent.futures` that a task can await."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from onecopy._aio.loops import running_trio

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["result_of"]

_T = TypeVar("_T")


async def result_of(future: Future[_T]) -> _T:
    """Return the future's result, or raise its exception. Cancelling the task cancels the future.

    A call that a worker has begun cannot be cancelled: it continues, and its result is dropped.
    """
    trio = running_trio()
    if trio is None:
        return await asyncio.wrap_future(future)
    done, token = trio.Event(), trio.lowlevel.current_trio_token()

    def tell(_: Future[_T]) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    future.add_done_callback(tell)
    try:
        await done.wait()
    except BaseException:
        future.cancel()
        raise
    return future.result()
