"""kickmsg without flow control: a publisher never waits, and a full ring drops its oldest item."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kickmsg
import numpy as np

from benchmarks.peers.base import (
    FRAME_BYTES,
    FRAME_DEPTH,
    FRAME_SHAPE,
    IDLE_PROCESSES,
    MESSAGE_BYTES,
    MESSAGE_DEPTH,
    Filling,
    Frame,
    Look,
    filling,
    new_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds for which a call waits before it says that nothing came.
A_WHILE = 3600.0


class Topic:
    def __init__(self, nbytes: int, depth: int) -> None:
        self.name = f"/{new_name()}"
        self.depth = depth
        config = kickmsg.Config()
        config.max_subscribers = IDLE_PROCESSES
        config.sub_ring_capacity = depth
        # Besides what the ring refers to: one that is being filled and one that is being read, for
        # each side.
        config.pool_size = depth + 8
        config.max_payload_size = nbytes
        kickmsg.SharedRegion.create(self.name, kickmsg.ChannelType.PubSub, config, "benchmark")

    def region(self) -> kickmsg.SharedRegion:
        return kickmsg.SharedRegion.open(self.name)

    def publisher(self) -> kickmsg.Publisher:
        return kickmsg.Publisher(self.region())

    def subscriber(self) -> kickmsg.Subscriber:
        return kickmsg.Subscriber(self.region())

    def waiter(self, _number: int) -> Callable[[], object]:
        receive = self.subscriber().receive

        def wait() -> object:
            return receive(A_WHILE)

        return wait

    def close(self) -> None:
        self.region().unlink()


class FreeFrames(Topic):
    def __init__(self) -> None:
        super().__init__(FRAME_BYTES, FRAME_DEPTH)

    def filler(self) -> Callable[[], Filling]:
        allocate = self.publisher().allocate

        def fill() -> Filling:
            slot = allocate()
            return np.asarray(slot).reshape(FRAME_SHAPE), lambda: slot.publish(FRAME_BYTES)

        return fill

    def writer(self) -> Callable[[Frame], object]:
        return filling(self.filler())

    def reader(self) -> Callable[[Look], None]:
        receive = self.subscriber().receive_view

        def read(look: Look) -> None:
            view = receive(A_WHILE)
            look(np.asarray(view).reshape(FRAME_SHAPE))
            view.release()

        return read


class FreeMessages(Topic):
    def __init__(self) -> None:
        super().__init__(MESSAGE_BYTES, MESSAGE_DEPTH)

    def sender(self) -> Callable[[bytes], object]:
        return self.publisher().send

    def receiver(self) -> Callable[[], bytes]:
        receive = self.subscriber().receive

        def take() -> bytes:
            message: bytes = receive(A_WHILE)
            return message

        return take
