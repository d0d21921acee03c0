"""sharedbox: a stream of typed items, one sender, lossless readers that copy items out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from sharedbox import Capacity, DType, Shape, SharedStream

from benchmarks.peers.base import (
    FRAME_DEPTH,
    FRAME_SHAPE,
    IDLE_PROCESSES,
    MESSAGE_BYTES,
    MESSAGE_DEPTH,
    Frame,
    Look,
    Peer,
    new_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGE = Annotated[bytes, Capacity(MESSAGE_BYTES)]
FRAME = Annotated[np.ndarray, Shape(*FRAME_SHAPE), DType("uint8")]


class Stream:
    def __init__(self, item: object, capacity: int, readers: int = 1) -> None:
        self.name = new_name()
        self.item = item
        # Kept open: a segment that no process has open would be removed.
        self.stream: Any = SharedStream.create(
            item, self.name, capacity=capacity, max_readers=readers
        )

    def __getstate__(self) -> tuple[str, object]:
        return self.name, self.item

    def __setstate__(self, state: tuple[str, object]) -> None:
        self.name, self.item = state
        self.stream = SharedStream.attach(self.item, self.name)

    def close(self) -> None:
        self.stream.close()
        SharedStream.unlink(self.name)


class Frames(Stream):
    """Receives into an array that is made once, which is its fastest way."""

    def __init__(self) -> None:
        super().__init__(FRAME, FRAME_DEPTH)

    def writer(self) -> Callable[[Frame], object]:
        writing = self.stream.sender().writing

        def write(frame: Frame) -> None:
            with writing() as slot:
                np.copyto(slot.item, frame)
                slot.send(slot.item)

        return write

    def reader(self) -> Callable[[Look], None]:
        receive_into = self.stream.reader(start="oldest").receive_into
        buffer = np.zeros(FRAME_SHAPE, np.uint8)

        def read(look: Look) -> None:
            receive_into(buffer)
            look(buffer)

        return read


class Messages(Stream):
    def __init__(self) -> None:
        super().__init__(MESSAGE, MESSAGE_DEPTH, IDLE_PROCESSES)

    def sender(self) -> Callable[[bytes], object]:
        return self.stream.sender().send

    def receiver(self) -> Callable[[], bytes]:
        return self.stream.reader(start="oldest").receive

    def waiter(self, _number: int) -> Callable[[], object]:
        return self.stream.reader().receive


PEERS = (Peer("sharedbox stream", frames=Frames, messages=Messages, idle=Messages),)
