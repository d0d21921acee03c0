"""The standard library: Queue, SimpleQueue, Pipe, and one SharedMemory per frame."""

from __future__ import annotations

import multiprocessing
from itertools import cycle
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.peers.base import (
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
        self.queue = SPAWN.Queue(maxsize=MESSAGE_DEPTH)

    def sender(self) -> Callable[[bytes], object]:
        return self.queue.put

    def receiver(self) -> Callable[[], bytes]:
        return self.queue.get

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


class SimpleQueueMessages:
    def __init__(self) -> None:
        self.queue = SPAWN.SimpleQueue()

    def sender(self) -> Callable[[bytes], object]:
        return self.queue.put

    def receiver(self) -> Callable[[], bytes]:
        return self.queue.get

    def close(self) -> None:
        self.queue.close()


class PipeFrames:
    """Receives raw bytes into a buffer that is made once: no pickle and no allocation."""

    def __init__(self) -> None:
        self.receiving, self.sending = SPAWN.Pipe(duplex=False)

    def writer(self) -> Callable[[Frame], object]:
        send = self.sending.send_bytes

        def write(frame: Frame) -> None:
            send(frame.reshape(-1))

        return write

    def reader(self) -> Callable[[Look], None]:
        receive = self.receiving.recv_bytes_into
        buffer = np.zeros(FRAME_SHAPE, np.uint8)
        raw = memoryview(buffer).cast("B")

        def read(look: Look) -> None:
            receive(raw)
            look(buffer)

        return read

    def close(self) -> None:
        self.receiving.close()
        self.sending.close()


class PipeMessages:
    def __init__(self) -> None:
        self.receiving, self.sending = SPAWN.Pipe(duplex=False)

    def sender(self) -> Callable[[bytes], object]:
        return self.sending.send_bytes

    def receiver(self) -> Callable[[], bytes]:
        return self.receiving.recv_bytes

    def close(self) -> None:
        self.receiving.close()
        self.sending.close()


class SharedMemoryPerFrame:
    """A new segment for every frame; its name goes through a queue. The usual first attempt."""

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
        while not self.names.empty():  # after a run that failed
            segment = SharedMemory(self.names.get())
            segment.close()
            segment.unlink()
        self.names.close()


class QueueIdle(QueueMessages):
    def waiter(self, _number: int) -> Callable[[], object]:
        return self.queue.get


PEERS = (
    Peer(
        "multiprocessing.Queue",
        frames=QueueFrames,
        messages=QueueMessages,
        batches=QueueOfLists,
        idle=QueueIdle,
        shared=True,
    ),
    Peer("multiprocessing.SimpleQueue", messages=SimpleQueueMessages, shared=True),
    Peer("multiprocessing.Pipe", frames=PipeFrames, messages=PipeMessages),
    Peer("SharedMemory per frame", frames=SharedMemoryPerFrame),
)
