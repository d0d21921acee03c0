"""A hand-made pool: SharedMemory blocks that are used again, and queues of their numbers."""

from __future__ import annotations

import multiprocessing
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.peers.base import FRAME_BYTES, FRAME_DEPTH, FRAME_SHAPE, Frame, Look, Peer

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
    def writer(self) -> Callable[[Frame], object]:
        segments = self.attach()
        blocks = [np.ndarray(FRAME_SHAPE, np.uint8, segment.buf) for segment in segments]
        get, put = self.free.get, self.filled.put

        def write(frame: Frame, _keep: object = segments) -> None:
            number = get()
            np.copyto(blocks[number], frame)
            put(number)

        return write

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


PEERS = (Peer("hand-made pool", frames=Frames, handoff=Handoff),)
