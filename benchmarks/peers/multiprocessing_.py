"""The standard library: Queue and SimpleQueue."""

from __future__ import annotations

import multiprocessing
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.peers.base import (
    FRAME_DEPTH,
    FRAME_SHAPE,
    MESSAGE_DEPTH,
    Frame,
    Look,
    Peer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SPAWN = multiprocessing.get_context("spawn")


class QueueFrames:
    def __init__(self) -> None:
        self.queue = SPAWN.Queue(maxsize=FRAME_DEPTH)

    def writer(self) -> Callable[[Frame], object]:
        # put() only keeps a reference, and a thread pickles the array later. So a producer that
        # fills the same array again must pass a copy. These buffers are warm, so that the copy
        # causes no page faults. There is one more than frames in transit: when put() has returned,
        # the frame FRAME_DEPTH before it has been received, and its buffer may be filled again.
        buffers = cycle([np.zeros(FRAME_SHAPE, np.uint8) for _ in range(FRAME_DEPTH + 1)])
        queue = self.queue

        def write(frame: Frame) -> None:
            buffer = next(buffers)
            np.copyto(buffer, frame)
            queue.put(buffer)

        return write

    def reader(self) -> Callable[[Look], None]:
        get = self.queue.get

        def read(look: Look) -> None:
            look(get())

        return read

    def close(self) -> None:
        self.queue.close()


class QueueMessages:
    def __init__(self) -> None:
        self.queue = self.make_queue()

    @staticmethod
    def make_queue() -> Any:
        return SPAWN.Queue(maxsize=MESSAGE_DEPTH)

    def sender(self) -> Callable[[bytes], object]:
        put: Callable[[bytes], object] = self.queue.put
        return put

    def receiver(self) -> Callable[[], bytes]:
        get: Callable[[], bytes] = self.queue.get
        return get

    def waiter(self, _number: int) -> Callable[[], object]:
        return self.receiver()

    def close(self) -> None:
        self.queue.close()


class QueueOfLists:
    """Lists of messages, which people use if one message per put is too slow."""

    def __init__(self) -> None:
        self.queue = SPAWN.Queue(maxsize=16)

    def batch_sender(self) -> Callable[[list[bytes]], object]:
        return self.queue.put

    def batch_receiver(self) -> Callable[[], list[bytes]]:
        return self.queue.get

    def close(self) -> None:
        self.queue.close()


class SimpleQueueMessages(QueueMessages):
    @staticmethod
    def make_queue() -> Any:
        return SPAWN.SimpleQueue()


PEERS = (
    Peer(
        "multiprocessing.Queue",
        frames=QueueFrames,
        messages=QueueMessages,
        batches=QueueOfLists,
        idle=QueueMessages,
        shared=True,
    ),
    Peer("multiprocessing.SimpleQueue", messages=SimpleQueueMessages, shared=True),
)
