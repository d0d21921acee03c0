"""onecopy itself: its queue, its frames and its stream, as a user would write it."""

from __future__ import annotations

import contextlib
import os
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

import onecopy
from benchmarks.peers.base import (
    BATCH,
    FRAME_BYTES,
    FRAME_DEPTH,
    FRAME_SHAPE,
    MESSAGE_DEPTH,
    Frame,
    Look,
    Peer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBERS = count()
MIB = 1 << 20
# Blocks that a giver hands over in turn.
HANDOFF_BLOCKS = 4


class OwnPool:
    """A pool for one channel. Members open it by its name."""

    def __init__(self, size: int = 64 * MIB) -> None:
        self.name = f"bench-{os.getpid()}-{next(NUMBERS)}"
        self.pool: Any = onecopy.Pool.create(self.name, size=size)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "pool"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.pool = onecopy.Pool.open(self.name)

    def close(self) -> None:
        with contextlib.suppress(onecopy.PoolNotFound):
            self.pool.unlink()
        self.pool.close()


class PutFrames(OwnPool):
    """One line: `queue.put(frame)` copies the frame in."""

    def __init__(self) -> None:
        super().__init__(4 * FRAME_DEPTH * FRAME_BYTES)

    def queue(self) -> Any:
        return self.pool.queue("frames", maxsize=FRAME_DEPTH)

    def writer(self) -> Callable[[Frame], object]:
        return self.queue().put

    def reader(self) -> Callable[[Look], None]:
        get = self.queue().get

        def read(look: Look) -> None:
            look(get())

        return read


class CacheFrames(PutFrames):
    """A set of frames: the producer fills a frame in place and sends it."""

    def writer(self) -> Callable[[Frame], object]:
        # Frames in use at once: those on the queue, one being filled, one being read.
        count_ = FRAME_DEPTH + 2
        frames = self.pool.frames("camera", shape=FRAME_SHAPE, dtype="uint8", count=count_)
        acquire, put, copyto = frames.acquire, self.queue().put, np.copyto

        def write(source: Frame) -> None:
            frame = acquire()
            copyto(frame, source)
            put(frame)

        return write


class QueueMessages(OwnPool):
    def queue(self) -> Any:
        return self.pool.queue("messages", maxsize=MESSAGE_DEPTH)

    def sender(self) -> Callable[[bytes], object]:
        return self.queue().put

    def receiver(self) -> Callable[[], bytes]:
        return self.queue().get

    def batch_sender(self) -> Callable[[list[bytes]], object]:
        return self.queue().put_many

    def batch_receiver(self) -> Callable[[], list[bytes]]:
        get_many = self.queue().get_many

        def receive() -> list[bytes]:
            return get_many(BATCH)

        return receive


class StreamMessages(OwnPool):
    def stream(self) -> Any:
        return self.pool.stream("messages", depth=MESSAGE_DEPTH, policy="lossless")

    def sender(self) -> Callable[[bytes], object]:
        return self.stream().publish

    def receiver(self) -> Callable[[], bytes]:
        return self.stream().subscribe().get


class ArrayHandoff(OwnPool):
    """Arrays in the pool: `queue.put(array)`, `queue.get()`, and drop the array."""

    def __init__(self, nbytes: int, pool_size: int = 0) -> None:
        self.nbytes = nbytes
        super().__init__(pool_size or 64 * MIB + HANDOFF_BLOCKS * (nbytes + nbytes // 8))

    def queue(self) -> Any:
        return self.pool.queue("blocks", maxsize=MESSAGE_DEPTH)

    def giver(self) -> Callable[[int], None]:
        put = self.queue().put
        blocks = [self.pool.empty((self.nbytes,), "uint8") for _ in range(HANDOFF_BLOCKS)]

        def give(number: int) -> None:
            put(blocks[number % HANDOFF_BLOCKS])

        return give

    def taker(self) -> Callable[[], int]:
        get = self.queue().get

        def take() -> int:
            return get().nbytes  # and the array is dropped

        return take


class RefHandoff(ArrayHandoff):
    """The same with `Ref` objects, for a consumer that passes them on without reading them."""

    def giver(self) -> Callable[[int], None]:
        put = self.queue().put
        refs = [
            self.pool.put(self.pool.empty((self.nbytes,), "uint8")) for _ in range(HANDOFF_BLOCKS)
        ]

        def give(number: int) -> None:
            put(refs[number % HANDOFF_BLOCKS])

        return give

    def taker(self) -> Callable[[], int]:
        get = self.queue().get

        def take() -> int:
            ref = get()
            nbytes: int = ref.nbytes
            ref.release()
            return nbytes

        return take


class Idle(OwnPool):
    """Three kinds of waiters: on an empty queue, for a free frame, on a stream without messages."""

    def __init__(self) -> None:
        super().__init__()
        frames = self.frames()
        self.lent: Any = [frames.acquire(timeout=5.0) for _ in range(frames.count)]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "lent"}

    def frames(self) -> Any:
        return self.pool.frames("camera", shape=(64, 64), dtype="uint8", count=2)

    def waiter(self, number: int) -> Callable[[], object]:
        if number % 3 == 0:
            return self.pool.queue("jobs", maxsize=16).get
        if number % 3 == 1:
            return self.frames().acquire
        return self.pool.stream("events", depth=16, policy="lossy").subscribe().get

    def close(self) -> None:
        self.lent = None
        super().close()


PEERS = (
    Peer(
        "onecopy",
        frames=PutFrames,
        messages=QueueMessages,
        batches=QueueMessages,
        handoff=ArrayHandoff,
        idle=Idle,
        shared=True,
    ),
    Peer("onecopy frames", frames=CacheFrames),
    Peer("onecopy stream", messages=StreamMessages),
    Peer("onecopy ref", handoff=RefHandoff),
)
