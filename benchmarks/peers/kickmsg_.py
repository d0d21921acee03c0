"""kickmsg: publish-subscribe over slots of one size; the receiver reads them where they lie.

A publisher never waits: a full ring drops its oldest message, and a slot is free again only when its place in the ring is
overwritten. Where none may be lost, this adapter has flow control by hand: the receiver says on a second topic how many it
has taken, and the sender waits for that. `FreeFrames` and `FreeMessages` are the package alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
        self.depth = depth
        config = kickmsg.Config()
        config.max_subscribers = IDLE_PROCESSES
        config.sub_ring_capacity = depth
        # Besides what the ring refers to: one that is being filled and one that is being read, for each side.
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


class Credits(Topic):
    """How many items a receiver has taken, told to the sender four times per round of the ring."""

    def __init__(self, depth: int) -> None:
        super().__init__(8, 8)
        self.of = depth

    def before(self, send: Callable[[Any], object]) -> Callable[[Any], None]:
        """A call that waits until there is room, and then sends."""
        receive = self.subscriber().receive
        left = self.of

        def give(item: Any) -> None:
            nonlocal left
            if not left:
                receive(A_WHILE)
                left += self.of // 4
            left -= 1
            send(item)

        return give

    def after(self, receive: Callable[..., Any]) -> Callable[..., Any]:
        """A call that receives, and says so."""
        tell = self.publisher().send
        taken = 0

        def take(*looks: Look) -> Any:
            nonlocal taken
            item = receive(*looks)
            taken += 1
            if taken % (self.of // 4) == 0:
                tell(bytes(8))
            return item

        return take


class Frames(FreeFrames):
    def __init__(self) -> None:
        super().__init__()
        self.credits = Credits(FRAME_DEPTH)

    def writer(self) -> Callable[[Frame], object]:
        return self.credits.before(super().writer())

    def reader(self) -> Callable[[Look], None]:
        return self.credits.after(super().reader())

    def close(self) -> None:
        self.credits.close()
        super().close()


class Messages(FreeMessages):
    def __init__(self) -> None:
        super().__init__()
        self.credits = Credits(MESSAGE_DEPTH)

    def sender(self) -> Callable[[bytes], object]:
        return self.credits.before(super().sender())

    def receiver(self) -> Callable[[], bytes]:
        return self.credits.after(super().receiver())

    def close(self) -> None:
        self.credits.close()
        super().close()


PEERS = (
    Peer(
        "kickmsg",
        frames=Frames,
        messages=Messages,
        frames_free=FreeFrames,
        messages_free=FreeMessages,
        idle=FreeMessages,
    ),
)
