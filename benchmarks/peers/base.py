"""The interface between an adapter and the workloads.

The parent makes a channel. It is pickled to the members of a team, and each gets one end. The ends
are plain callables; where possible, they are the peer's own bound methods. A message may take less
than a microsecond, so the call of a wrapper would distort the time. The callables block until they
have succeeded.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
# A frame to be filled where it lies, and the call that sends it then.
Filling = tuple[Frame, Callable[[], object]]
# Reads a received frame. When it returns, the frame may be returned to the peer.
Look = Callable[[Frame], None]

FRAME_SHAPE = (720, 1080, 3)
FRAME_BYTES = 720 * 1080 * 3
# Frames in flight, the same for all peers.
FRAME_DEPTH = 8
MESSAGE_BYTES = 64
# Messages in flight. Peers that count bytes get room for as many.
MESSAGE_DEPTH = 1024
BATCH = 100
# Processes that wait for something that does not come.
IDLE_PROCESSES = 8

NUMBERS = count()


def new_name() -> str:
    """A name for a channel that no other process and no other channel of this one has."""
    return f"onecopy-bench-{os.getpid()}-{next(NUMBERS)}"


def filling(fill: Callable[[], Filling]) -> Callable[[Frame], None]:
    """The writer of a channel that lets its user fill frames in place: `fill` gives the frame,
    and the call that sends it.
    """
    copyto = np.copyto

    def write(source: Frame) -> None:
        frame, send = fill()
        copyto(frame, source)
        send()

    return write


class FrameChannel(Protocol):
    """Moves frames of FRAME_SHAPE, uint8, from one process to another.

    Where a package lets its user fill memory that is shared, the writer does so with `np.copyto`,
    as `filling` does: `promises` looks at that.
    """

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
    """A contender: what it can do, by the classes that do it.

    `messages_hot` is the variant for latency when that differs from the one for throughput, for
    example because polling is the fastest way to wait. `messages_cold` is the one for latency when
    the receiver sleeps, if there is a way to wait that is made for it. `frames_free` and
    `messages_free` are the package without flow control that its adapter adds, which a death of
    either side would end. `yardstick` is not a package that anybody would use, but what the machine
    can do. `shared` says that several processes may send and several receive on one message
    channel. `handoff` takes the size of a block.
    """

    name: str
    frames: Callable[[], FrameChannel] | None = None
    messages: Callable[[], MessageChannel] | None = None
    messages_hot: Callable[[], MessageChannel] | None = None
    messages_cold: Callable[[], MessageChannel] | None = None
    frames_free: Callable[[], FrameChannel] | None = None
    messages_free: Callable[[], MessageChannel] | None = None
    batches: Callable[[], BatchChannel] | None = None
    handoff: Callable[[int], HandoffChannel] | None = None
    idle: Callable[[], IdleChannel] | None = None
    shared: bool = False
    yardstick: bool = False
