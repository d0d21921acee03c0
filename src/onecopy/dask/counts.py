"""Counts of what travelled by place, and of what could not."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Counts", "counts"]


@dataclass
class Counts:
    """What this process has sent and received since it started, or since `reset`.

    Attributes
    ----------
    messages : int
        Messages that had places.
    sent, copied : int
        Bytes that were sent by place, and those of them that were copied into the pool for it.
    received : int
        Bytes that were received by place.
    full : int
        Large frames that were sent as bytes, because the pool had no room.
    resent : int
        Messages that were sent again as bytes, because the receiver could not import them.
    refused : int
        Messages that this process could not import.
    moved : int
        Values of this worker that were moved into the pool, because another process asked for them.
    """

    messages: int = 0
    sent: int = 0
    copied: int = 0
    received: int = 0
    full: int = 0
    resent: int = 0
    refused: int = 0
    moved: int = 0

    def reset(self) -> None:
        """Count from 0 again."""
        for name in asdict(self):
            setattr(self, name, 0)


counts: Counts = Counts()
