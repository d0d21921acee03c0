"""torch.multiprocessing: a queue whose tensors lie in shared memory, one segment each, and travel
by descriptor.

A tensor is made in shared memory, filled there, and put; nothing else copies it. Other objects are
pickled, as in the standard library's queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.multiprocessing as torch_multiprocessing

from benchmarks.peers.base import (
    FRAME_DEPTH,
    FRAME_SHAPE,
    MESSAGE_DEPTH,
    Filling,
    Frame,
    Look,
    Peer,
    filling,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SPAWN = torch_multiprocessing.get_context("spawn")


class Frames:
    def __init__(self) -> None:
        self.queue: Any = SPAWN.Queue(maxsize=FRAME_DEPTH)

    def filler(self) -> Callable[[], Filling]:
        put = self.queue.put

        def fill() -> Filling:
            tensor = torch.empty(FRAME_SHAPE, dtype=torch.uint8).share_memory_()
            return tensor.numpy(), lambda: put(tensor)

        return fill

    def writer(self) -> Callable[[Frame], object]:
        return filling(self.filler())

    def reader(self) -> Callable[[Look], None]:
        get = self.queue.get

        def read(look: Look) -> None:
            look(get().numpy())

        return read

    def close(self) -> None:
        self.queue.close()


class Messages:
    def __init__(self) -> None:
        self.queue: Any = SPAWN.Queue(maxsize=MESSAGE_DEPTH)

    def sender(self) -> Callable[[bytes], object]:
        put: Callable[[bytes], object] = self.queue.put
        return put

    def receiver(self) -> Callable[[], bytes]:
        get: Callable[[], bytes] = self.queue.get
        return get

    def close(self) -> None:
        self.queue.close()


PEERS = (Peer("torch.multiprocessing", frames=Frames, messages=Messages, shared=True),)
