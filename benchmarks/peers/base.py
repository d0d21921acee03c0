"""The interface between an adapter and the workloads.

The parent makes a channel. It is pickled to the members of a team, and each gets one end. The ends
are plain callables; where possible, they are the peer's own bound methods. A message may take less
than a microsecond, so the call of a wrapper would distort the time. The callables block until they
have succeeded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
# Reads a received frame. When it returns, the frame may be returned to the peer.
Look = Callable[[Frame], None]

FRAME_SHAPE = (720, 1080, 3)
FRAME_BYTES = 720 * 1080 * 3
# Frames in transit, the same for all peers.
FRAME_DEPTH = 8
MESSAGE_BYTES = 64
# Messages in transit. Peers that count bytes get the same room.
MESSAGE_DEPTH = 1024
BATCH = 100
# Processes that wait for something that never arrives.
IDLE_PROCESSES = 8


class FrameChannel(Protocol):
    """Moves frames of FRAME_SHAPE, uint8, from one process to another."""

    def writer(self) -> Callable[[Frame], object]:
        """Return a callable that copies a frame in. The caller may overwrite the frame
        afterwards."""

    def reader(self) -> Callable[[Look], None]:
        """Return a callable that waits for the next frame and passes it to `Look`."""

    def close(self) -> None:
        """Remove everything. The parent calls this when the members have ended."""


class MessageChannel(Protocol):
    """Moves `bytes` of MESSAGE_BYTES, in order when there is one sender and one receiver."""

    def sender(self) -> Callable[[bytes], object]: ...

    def receiver(self) -> Callable[[], bytes]: ...

    def close(self) -> None: ...


class BatchChannel(Protocol):
    """Moves lists of messages. The receiver may get lists of other lengths."""

    def batch_sender(self) -> Callable[[list[bytes]], object]: ...

    def batch_receiver(self) -> Callable[[], list[bytes]]: ...

    def close(self) -> None: ...


class HandoffChannel(Protocol):
    """Hands over existing blocks. No process writes or reads their contents."""

    def giver(self) -> Callable[[int], None]:
        """Return a callable that hands over the n-th block."""

    def taker(self) -> Callable[[], int]:
        """Return a callable that takes a block, releases it, and returns its size in bytes."""

    def close(self) -> None: ...


class IdleChannel(Protocol):
    """A channel on which IDLE_PROCESSES processes wait."""

    def waiter(self, number: int) -> Callable[[], object]:
        """Return a callable that waits for ever."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Peer:
    """A contender: its classes for each kind of workload.

    `messages_hot` is the variant for latency, if it differs from the one for throughput, for
    example because polling is the fastest way to wait. `shared` means that several processes may
    send, and several may receive, on one message channel. `handoff` gets the size of a block.
    """

    name: str
    frames: Callable[[], FrameChannel] | None = None
    messages: Callable[[], MessageChannel] | None = None
    messages_hot: Callable[[], MessageChannel] | None = None
    batches: Callable[[], BatchChannel] | None = None
    handoff: Callable[[int], HandoffChannel] | None = None
    idle: Callable[[], IdleChannel] | None = None
    shared: bool = False
