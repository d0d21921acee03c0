"""The awaitable twins of the methods of queues, streams, subscriptions and frames."""

from __future__ import annotations

import contextlib
import time
from queue import Empty, Full
from typing import TYPE_CHECKING, Any, Generic

from onecopy._aio.loops import checkpoint
from onecopy._aio.waiting import CALLS_IN_A_ROW, Late, limit_of, repeat, tick, waits
from onecopy._core.arguments import items
from onecopy._core.typevars import Scalar, T
from onecopy.errors import Closed, PoolFull, ShutDown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from typing import TypeAlias

    import numpy.typing as npt

    from onecopy._codec.copy_mode import CopyMode
    from onecopy._native import FramesBase, Message, QueueBase, StreamBase, SubscriptionBase

    # Lends the frame in the list for a block.
    _Block: TypeAlias = Callable[
        [list[npt.NDArray[Scalar]]], contextlib.AbstractContextManager[npt.NDArray[Scalar]]
    ]

__all__ = ["AioFrames", "AioQueue", "AioStream", "AioSubscription"]


class AioQueue(Generic[T]):
    """A queue for tasks: the blocking methods of `Queue` as coroutines.

    The arguments, results and errors are those of the methods of the queue. A task that is
    cancelled while it waits has taken and put nothing.
    """

    __slots__ = ("_queue",)

    def __init__(self, queue: QueueBase[T]) -> None:
        self._queue = queue

    async def put(
        self,
        obj: T,
        block: bool = True,
        timeout: float | None = None,
        drop_oldest: bool = False,
    ) -> None:
        """Put an object; see `Queue.put`."""
        queue = self._queue
        if not waits(block, timeout):
            queue.put(obj, block, timeout, drop_oldest)
            return
        if tick() % CALLS_IN_A_ROW == 0:
            await checkpoint()
        # An object for which there is no room is not encoded, which may copy much.
        if drop_oldest or queue._wait_room(0):
            with contextlib.suppress(Full, PoolFull):
                queue.put(obj, False, None, drop_oldest)
                return

        def attempt(wait: Any) -> bool:
            if not drop_oldest and not queue._wait_room(wait):
                return False
            queue.put(obj, True, wait, drop_oldest)
            return True

        try:
            await repeat(attempt, timeout, one=True)
        except Late:
            queue.put(obj, False, None, drop_oldest)

    async def get(
        self, block: bool = True, timeout: float | None = None, copy: CopyMode = None
    ) -> T:
        """Take an object; see `Queue.get`."""
        queue = self._queue
        if not waits(block, timeout):
            return queue.get(block, timeout, copy)
        if tick() % CALLS_IN_A_ROW == 0:
            await checkpoint()
        try:
            return queue.get(False, None, copy)
        except Empty:
            pass
        try:
            return await repeat(lambda wait: queue.get(True, wait, copy), timeout, one=True)
        except Late:
            return queue.get(False, None, copy)

    async def get_message(
        self, block: bool = True, timeout: float | None = None, copy: CopyMode = None
    ) -> Message[T]:
        """Take an object with what belongs to it; see `Queue.get_message`."""
        queue = self._queue
        if not waits(block, timeout):
            return queue.get_message(block, timeout, copy)
        if tick() % CALLS_IN_A_ROW == 0:
            await checkpoint()
        try:
            return queue.get_message(False, None, copy)
        except Empty:
            pass
        try:
            return await repeat(lambda wait: queue.get_message(True, wait, copy), timeout, one=True)
        except Late:
            return queue.get_message(False, None, copy)

    async def put_many(self, iterable: Iterable[T], timeout: float | None = None) -> None:
        """Put objects in order; see `Queue.put_many`.

        A task that is cancelled has put those before the one that it waited with.
        """
        items("iterable", iterable)
        # It puts nothing, and refuses what is no timeout.
        self._queue.put_many((), timeout)
        limit = limit_of(timeout)
        end = None if limit is None else time.monotonic() + limit
        put = 0
        try:
            for obj in iterable:
                left = None if end is None else max(0.0, end - time.monotonic())
                await self.put(obj, True, left)
                put += 1
        except Full as error:
            raise Full(f"{error}; {put} objects were put before that") from None

    async def get_many(
        self, max_items: int, timeout: float | None = None, copy: CopyMode = None
    ) -> list[T]:
        """Take what is there, at most so many; waits for the first. See `Queue.get_many`."""
        queue = self._queue
        if not waits(True, timeout):
            return queue.get_many(max_items, timeout, copy)
        if tick() % CALLS_IN_A_ROW == 0:
            await checkpoint()
        try:
            return queue.get_many(max_items, 0, copy)
        except Empty:
            pass
        try:
            return await repeat(
                lambda wait: queue.get_many(max_items, wait, copy), timeout, one=True
            )
        except Late:
            return queue.get_many(max_items, 0, copy)

    async def join(self, timeout: float | None = None) -> None:
        """Wait until all objects are done; see `Queue.join`."""
        queue = self._queue
        if not waits(True, timeout):
            queue.join(timeout)
            return
        try:
            await repeat(queue.join, timeout, one=False)
        except Late:
            queue.join(0)

    def __aiter__(self) -> AsyncIterator[T]:
        """Take objects until the queue is shut down and empty."""
        return self._queue._items(self._next)

    async def __anext__(self) -> T:
        """Take the next object."""
        return await self._next(False)

    async def _next(self, pause: bool) -> T:
        try:
            if pause:
                await checkpoint()
            return await self.get()
        except ShutDown:
            raise StopAsyncIteration from None


class AioStream(Generic[T]):
    """A stream for tasks that publish: the blocking method of `Stream` as a coroutine."""

    __slots__ = ("_stream",)

    def __init__(self, stream: StreamBase[T]) -> None:
        self._stream = stream

    async def publish(self, obj: T, timeout: float | None = None) -> None:
        """Publish an object; see `Stream.publish`. A cancelled task has published nothing."""
        stream = self._stream
        if not waits(True, timeout):
            stream.publish(obj, timeout)
            return
        if tick() % CALLS_IN_A_ROW == 0:
            await checkpoint()
        with contextlib.suppress(Full, PoolFull):
            stream.publish(obj, 0)
            return
        try:
            await repeat(lambda wait: stream.publish(obj, wait), timeout, one=False)
        except Late:
            stream.publish(obj, 0)


class AioSubscription(Generic[T]):
    """A subscription for tasks: the blocking method of `Subscription` as a coroutine."""

    __slots__ = ("_subscription",)

    def __init__(self, subscription: SubscriptionBase[T]) -> None:
        self._subscription = subscription

    async def get(self, timeout: float | None = None, copy: CopyMode = None) -> T:
        """Return the next message; see `Subscription.get`. A cancelled task has read nothing."""
        subscription = self._subscription
        if not waits(True, timeout):
            return subscription.get(timeout, copy)
        if tick() % CALLS_IN_A_ROW == 0:
            await checkpoint()
        try:
            return subscription.get(0, copy)
        except Empty:
            pass
        try:
            return await repeat(lambda wait: subscription.get(wait, copy), timeout, one=False)
        except Late:
            return subscription.get(0, copy)

    def __aiter__(self) -> AsyncIterator[T]:
        """Read messages until the stream is shut down or the subscription is closed."""
        return self._subscription._items(self._next)

    async def __anext__(self) -> T:
        """Read the next message."""
        return await self._next(False)

    async def _next(self, pause: bool) -> T:
        try:
            if pause:
                await checkpoint()
            return await self.get()
        except (ShutDown, Closed):
            raise StopAsyncIteration from None


class AioFrames(Generic[Scalar]):
    """Frames for tasks: the blocking methods of `Frames` as coroutines."""

    __slots__ = ("_block", "_frames")

    def __init__(self, frames: FramesBase[Scalar], block: _Block[Scalar]) -> None:
        self._frames = frames
        self._block = block

    async def acquire(self, timeout: float | None = None) -> npt.NDArray[Scalar]:
        """Acquire a free frame; see `Frames.acquire`. A cancelled task has none."""
        frames = self._frames
        if not waits(True, timeout):
            return frames.acquire(timeout)
        if tick() % CALLS_IN_A_ROW == 0:
            await checkpoint()
        try:
            return frames.acquire(0)
        except Empty:
            pass
        try:
            return await repeat(frames.acquire, timeout, one=False)
        except Late:
            return frames.acquire(0)

    def lend(
        self, timeout: float | None = None
    ) -> contextlib.AbstractAsyncContextManager[npt.NDArray[Scalar]]:
        """Acquire a frame for the length of an ``async with`` block; see `Frames.lend`."""
        return _Lent(self, self._block, timeout)


class _Lent(Generic[Scalar]):
    # Not an asynchronous generator: the end of the block never waits, also if the task is
    # destroyed.
    __slots__ = ("_block", "_entered", "_frames", "_timeout")
    _entered: contextlib.AbstractContextManager[npt.NDArray[Scalar]]

    def __init__(
        self, frames: AioFrames[Scalar], block: _Block[Scalar], timeout: float | None
    ) -> None:
        self._frames = frames
        self._block = block
        self._timeout = timeout

    async def __aenter__(self) -> npt.NDArray[Scalar]:
        acquired = [await self._frames.acquire(self._timeout)]
        self._entered = self._block(acquired)
        return self._entered.__enter__()

    async def __aexit__(self, *error: Any) -> None:
        self._entered.__exit__(*error)
