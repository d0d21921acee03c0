"""kickmsg: publish-subscribe over slots of one size; the receiver reads them where they lie.

A publisher never waits: a full ring drops its oldest message, and a slot is free again only when
its place in the ring is overwritten. Where none may be lost, this adapter has flow control by hand:
the receiver says on a second topic how many it has taken, and the sender waits for that.
`FreeFrames` and `FreeMessages` are the package alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.base import FRAME_DEPTH, MESSAGE_DEPTH, Frame, Look, Peer
from benchmarks.peers.kickmsg_free import A_WHILE, FreeFrames, FreeMessages, Topic

if TYPE_CHECKING:
    from collections.abc import Callable


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
