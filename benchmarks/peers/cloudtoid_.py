"""cloudtoid-interprocess: a ring of bytes; what is received is a bytes object of its own.

Sending only tries; the adapter tries again when the ring is full. A queue is gone with its last
end, so the parent keeps one open.
"""

from __future__ import annotations

import contextlib
from time import sleep
from typing import TYPE_CHECKING, Any

import numpy as np
from cloudtoid_interprocess import Publisher, Subscriber

from benchmarks.peers.base import (
    FRAME_BYTES,
    FRAME_DEPTH,
    FRAME_SHAPE,
    MESSAGE_BYTES,
    MESSAGE_DEPTH,
    Frame,
    Look,
    Peer,
    new_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# What the ring adds to a message, generously. Capacities are a whole number of times this.
OVERHEAD = 64


class Ring:
    def __init__(self, nbytes: int, depth: int) -> None:
        self.name = new_name()
        self.capacity = (nbytes // OVERHEAD + 2) * OVERHEAD * depth
        self.kept: Any = self.publisher()

    def __getstate__(self) -> tuple[str, int]:
        return self.name, self.capacity

    def __setstate__(self, state: tuple[str, int]) -> None:
        self.name, self.capacity = state

    def publisher(self) -> Any:
        return Publisher(self.name, self.capacity)

    def send(self) -> Callable[[object], None]:
        attempt = self.publisher().try_send

        def send(message: object) -> None:
            while not attempt(message):
                sleep(0)

        return send

    def receive(self) -> Callable[[], bytes]:
        receive: Callable[[], bytes] = Subscriber(self.name, self.capacity).receive
        return receive

    def waiter(self, _number: int) -> Callable[[], object]:
        return self.receive()

    def close(self) -> None:
        with contextlib.suppress(Exception):  # a ring that a death has damaged
            self.kept.close()


class Frames(Ring):
    def __init__(self) -> None:
        super().__init__(FRAME_BYTES, FRAME_DEPTH)

    def writer(self) -> Callable[[Frame], object]:
        send = self.send()

        def write(frame: Frame) -> None:
            send(frame.reshape(-1))

        return write

    def reader(self) -> Callable[[Look], None]:
        receive = self.receive()

        def read(look: Look) -> None:
            look(np.frombuffer(receive(), np.uint8).reshape(FRAME_SHAPE))

        return read


class Messages(Ring):
    def __init__(self) -> None:
        super().__init__(MESSAGE_BYTES, MESSAGE_DEPTH)

    def sender(self) -> Callable[[bytes], object]:
        return self.send()

    def receiver(self) -> Callable[[], bytes]:
        return self.receive()


PEERS = (Peer("cloudtoid-interprocess", frames=Frames, messages=Messages, idle=Messages),)
