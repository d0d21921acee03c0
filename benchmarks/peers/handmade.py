"""What people write by hand: SharedMemory blocks used again, and queues of their numbers; or one
block a frame.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.peers.base import (
    FRAME_BYTES,
    FRAME_DEPTH,
    FRAME_SHAPE,
    Filling,
    Frame,
    Look,
    Peer,
    filling,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SPAWN = multiprocessing.get_context("spawn")


class Blocks:
    """FRAME_DEPTH blocks. Each number is in the queue `free` or `filled`, or is in use."""

    def __init__(self, nbytes: int = FRAME_BYTES) -> None:
        self.nbytes = nbytes
        segments = [SharedMemory(create=True, size=nbytes) for _ in range(FRAME_DEPTH)]
        self.names = [segment.name for segment in segments]
        for segment in segments:
            segment.close()
        self.free = SPAWN.SimpleQueue()
        self.filled = SPAWN.SimpleQueue()
        for number in range(FRAME_DEPTH):
            self.free.put(number)

    def attach(self) -> list[SharedMemory]:
        return [SharedMemory(name) for name in self.names]

    def close(self) -> None:
        for segment in self.attach():
            segment.close()
            segment.unlink()
        self.free.close()
        self.filled.close()


class Frames(Blocks):
    def filler(self) -> Callable[[], Filling]:
        segments = self.attach()
        blocks = [np.ndarray(FRAME_SHAPE, np.uint8, segment.buf) for segment in segments]
        get, put = self.free.get, self.filled.put

        def fill(_keep: object = segments) -> Filling:
            number = get()
            return blocks[number], lambda: put(number)

        return fill

    def writer(self) -> Callable[[Frame], object]:
        return filling(self.filler())

    def reader(self) -> Callable[[Look], None]:
        segments = self.attach()
        blocks = [np.ndarray(FRAME_SHAPE, np.uint8, segment.buf) for segment in segments]
        get, put = self.filled.get, self.free.put

        def read(look: Look, _keep: object = segments) -> None:
            number = get()
            look(blocks[number])
            put(number)

        return read


class Handoff(Blocks):
    """Only the numbers travel: the cost does not depend on the blocks' size."""

    def giver(self) -> Callable[[int], None]:
        get, put = self.free.get, self.filled.put

        def give(_number: int) -> None:
            put(get())

        return give

    def taker(self) -> Callable[[], int]:
        get, put = self.filled.get, self.free.put
        nbytes = self.nbytes

        def take() -> int:
            put(get())
            return nbytes

        return take


class SharedMemoryPerFrame:
    """A new segment for every frame, its name through a queue: the usual first attempt."""

    def __init__(self) -> None:
        self.names = SPAWN.SimpleQueue()
        self.room = SPAWN.Semaphore(FRAME_DEPTH)

    def writer(self) -> Callable[[Frame], object]:
        acquire, put = self.room.acquire, self.names.put

        def write(frame: Frame) -> None:
            acquire()
            segment = SharedMemory(create=True, size=FRAME_BYTES)
            np.copyto(np.ndarray(FRAME_SHAPE, np.uint8, segment.buf), frame)
            put(segment.name)
            segment.close()

        return write

    def reader(self) -> Callable[[Look], None]:
        get, release = self.names.get, self.room.release

        def read(look: Look) -> None:
            segment = SharedMemory(get())
            look(np.ndarray(FRAME_SHAPE, np.uint8, segment.buf))
            segment.close()
            segment.unlink()
            release()

        return read

    def close(self) -> None:
        # A receiver that was killed may have the lock of the queue for ever. Then the resource
        # tracker removes the segments, when this program ends.
        names: Any = self.names
        lock = names._rlock  # get() waits for it, without a limit
        while not self.names.empty() and lock.acquire(timeout=1.0):
            lock.release()  # no process is left that could take it
            segment = SharedMemory(self.names.get())
            segment.close()
            segment.unlink()
        self.names.close()


PEERS = (
    Peer("hand-made pool", frames=Frames, handoff=Handoff),
    Peer("SharedMemory per frame", frames=SharedMemoryPerFrame),
)
