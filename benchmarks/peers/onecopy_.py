"""onecopy itself: its queue, its frames and its stream, as a user would write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.base import (
    BATCH,
    FRAME_BYTES,
    FRAME_DEPTH,
    FRAME_SHAPE,
    MESSAGE_DEPTH,
    Filling,
    Frame,
    Look,
    Peer,
    filling,
)
from benchmarks.peers.onecopy_blocks import ArrayHandoff, Idle, OwnPool, RefHandoff

if TYPE_CHECKING:
    from collections.abc import Callable


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
    """The frame cache: the producer fills a frame in place and sends it."""

    def filler(self) -> Callable[[], Filling]:
        # In use at once: those on the queue, one being filled, one being looked at.
        count_ = FRAME_DEPTH + 2
        frames = self.pool.frames("camera", shape=FRAME_SHAPE, dtype="uint8", count=count_)
        acquire, put = frames.acquire, self.queue().put

        def fill() -> Filling:
            frame = acquire()
            return frame, lambda: put(frame)

        return fill

    def writer(self) -> Callable[[Frame], object]:
        return filling(self.filler())


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
