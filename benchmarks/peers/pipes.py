"""The standard library's Pipe: bytes, without pickle."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.peers.base import FRAME_SHAPE, Frame, Look, Peer

if TYPE_CHECKING:
    from collections.abc import Callable

SPAWN = multiprocessing.get_context("spawn")


class PipeFrames:
    """Raw bytes into a buffer that is made once: no pickle and no allocation."""

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


PEERS = (Peer("multiprocessing.Pipe", frames=PipeFrames, messages=PipeMessages),)
