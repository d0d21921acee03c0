"""faster-fifo: a ring of bytes behind the interface of multiprocessing.Queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from faster_fifo import Queue

from benchmarks.peers.base import (
    BATCH,
    FRAME_BYTES,
    FRAME_DEPTH,
    MESSAGE_BYTES,
    MESSAGE_DEPTH,
    Frame,
    Look,
    Peer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# An upper bound of what pickling and the headers of the ring add to a frame or a message.
OVERHEAD = 256


class Frames:
    def __init__(self) -> None:
        self.queue = Queue(max_size_bytes=FRAME_DEPTH * (FRAME_BYTES + OVERHEAD))

    def writer(self) -> Callable[[Frame], object]:
        return self.queue.put

    def reader(self) -> Callable[[Look], None]:
        get = self.queue.get

        def read(look: Look) -> None:
            look(get())

        return read

    def close(self) -> None:
        self.queue.close()


def as_bytes(frame: Frame) -> bytes:
    return frame.tobytes()


def as_array(received: memoryview) -> Frame:
    """Return a view of the receive buffer. It is valid until the next message."""
    return np.frombuffer(received, np.uint8)


class RawFrames(Frames):
    """With our own serialisers instead of pickle, which is its fastest way."""

    def __init__(self) -> None:
        size = FRAME_DEPTH * (FRAME_BYTES + OVERHEAD)
        self.queue = Queue(max_size_bytes=size, dumps=as_bytes, loads=as_array)


class Messages:
    def __init__(self) -> None:
        self.queue = Queue(max_size_bytes=MESSAGE_DEPTH * (MESSAGE_BYTES + OVERHEAD))

    def sender(self) -> Callable[[bytes], object]:
        return self.queue.put

    def receiver(self) -> Callable[[], bytes]:
        return self.queue.get

    def batch_sender(self) -> Callable[[list[bytes]], object]:
        return self.queue.put_many

    def batch_receiver(self) -> Callable[[], list[bytes]]:
        get_many = self.queue.get_many

        def receive() -> list[bytes]:
            return get_many(max_messages_to_get=BATCH)

        return receive

    def close(self) -> None:
        self.queue.close()

    def waiter(self, _number: int) -> Callable[[], object]:
        get = self.queue.get

        def wait() -> object:
            return get(timeout=3600.0)  # it would give up after ten seconds

        return wait


PEERS = (
    Peer(
        "faster-fifo",
        frames=Frames,
        messages=Messages,
        batches=Messages,
        idle=Messages,
        shared=True,
    ),
    Peer("faster-fifo, raw bytes", frames=RawFrames),
)
