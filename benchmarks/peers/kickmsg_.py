"""kickmsg: publish-subscribe over slots of one size; the receiver reads them where they lie.

A full ring drops its oldest message. To lose none, rings are longer than there are slots: then slots run out first, which
the publisher is told, and it tries again. The package has no call that waits for a slot.
"""

from __future__ import annotations

from time import sleep
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
    Peer,
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
        config = kickmsg.Config()
        config.max_subscribers = IDLE_PROCESSES
        config.pool_size = depth
        config.sub_ring_capacity = 2 * depth
        config.max_payload_size = nbytes
        kickmsg.SharedRegion.create(self.name, kickmsg.ChannelType.PubSub, config, "benchmark")

    def region(self) -> kickmsg.SharedRegion:
        return kickmsg.SharedRegion.open(self.name)

    def subscriber(self) -> kickmsg.Subscriber:
        return kickmsg.Subscriber(self.region())

    def waiter(self, _number: int) -> Callable[[], object]:
        receive = self.subscriber().receive

        def wait() -> object:
            return receive(A_WHILE)

        return wait

    def close(self) -> None:
        self.region().unlink()


class Frames(Topic):
    def __init__(self) -> None:
        super().__init__(FRAME_BYTES, FRAME_DEPTH)

    def filler(self) -> Callable[[], Filling]:
        allocate = kickmsg.Publisher(self.region()).allocate

        def fill() -> Filling:
            slot = allocate()
            while slot is None:
                sleep(0)
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


class Messages(Topic):
    def __init__(self) -> None:
        super().__init__(MESSAGE_BYTES, MESSAGE_DEPTH)

    def sender(self) -> Callable[[bytes], object]:
        publish = kickmsg.Publisher(self.region()).send

        def send(message: bytes) -> None:
            while True:
                try:
                    publish(message)
                except BlockingIOError:  # no slot is free
                    sleep(0)
                else:
                    return

        return send

    def receiver(self) -> Callable[[], bytes]:
        receive = self.subscriber().receive

        def take() -> bytes:
            message: bytes = receive(A_WHILE)
            return message

        return take


PEERS = (Peer("kickmsg", frames=Frames, messages=Messages, idle=Messages),)
