"""tachyon-ipc: a ring of bytes between exactly one sender and one receiver, filled and read in
place.

Listening waits until the other side has connected, so both happen at an end's first use and not
when it is made. A full ring is an exception; the adapter tries again. A receiver gives room back 32
items at a time, so a ring of eight frames would stay full: there are 40 of them, five times what
the others have on the way.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

import numpy as np
import tachyon

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
    from collections.abc import Callable, Generator

# What the ring adds to a message, generously.
OVERHEAD = 64
# After how many items a receiver gives their room back.
GIVEN_BACK = 32


class Ring:
    def __init__(self, nbytes: int, depth: int) -> None:
        self.path = f"{tempfile.gettempdir()}/{new_name()}.sock"
        # A power of two, with room for `depth` and less than twice as many.
        self.capacity = 1 << (depth * (nbytes + OVERHEAD)).bit_length()

    def listen(self) -> Any:
        bus = tachyon.TachyonBus()
        bus.listen(self.path, self.capacity)
        return bus

    def connect(self) -> Any:
        while True:
            try:
                return tachyon.Bus.connect(self.path)
            except (OSError, tachyon.TachyonError):  # nobody listens yet
                sleep(0.001)

    def close(self) -> None:
        Path(self.path).unlink(missing_ok=True)


def persistent(send: Callable[[Any], object], item: Any) -> None:
    """Send, and again while the ring is full."""
    while True:
        try:
            send(item)
        except tachyon.PeerDeadError:
            raise
        except tachyon.TachyonError:
            sleep(0)
        else:
            return


class Frames(Ring):
    def __init__(self) -> None:
        super().__init__(FRAME_BYTES, GIVEN_BACK + FRAME_DEPTH)

    def writer(self) -> Callable[[Frame], object]:
        def run() -> Generator[None, Frame, None]:
            frame = yield
            bus = self.connect()

            def fill(source: Frame) -> None:
                with bus.send_zero_copy(FRAME_BYTES) as slot:
                    with memoryview(slot) as place:
                        np.copyto(
                            np.frombuffer(place, np.uint8, FRAME_BYTES).reshape(FRAME_SHAPE), source
                        )
                    slot.actual_size = FRAME_BYTES

            while True:
                persistent(fill, frame)
                frame = yield

        return started(run())

    def reader(self) -> Callable[[Look], None]:
        def run() -> Generator[None, Look, None]:
            look = yield
            bus = self.listen()
            while True:
                with bus.acquire_rx() as slot, memoryview(slot) as place:
                    look(np.frombuffer(place, np.uint8, FRAME_BYTES).reshape(FRAME_SHAPE))
                look = yield

        return started(run())


class Messages(Ring):
    def __init__(self) -> None:
        super().__init__(MESSAGE_BYTES, MESSAGE_DEPTH)

    def sender(self) -> Callable[[bytes], object]:
        def run() -> Generator[None, bytes, None]:
            message = yield
            send = self.connect().send
            while True:
                persistent(send, message)
                message = yield

        return started(run())

    def receiver(self) -> Callable[[], bytes]:
        def run() -> Generator[bytes, None, None]:
            receive = self.listen().acquire_rx
            while True:
                with receive() as slot, memoryview(slot) as place:
                    message = place.tobytes()
                yield message

        return run().__next__


def started(run: Generator[None, Any, None]) -> Callable[[Any], None]:
    """A generator as a call that gives it the next item."""
    next(run)
    return run.send


PEERS = (Peer("tachyon-ipc", frames=Frames, messages=Messages),)
