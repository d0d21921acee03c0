"""Counts of what travelled by place, and of what could not."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Counts", "counts"]


@dataclass
class Counts:
    """What this process has sent and received since it started.

    Attributes
    ----------
    sent, received : int
        Objects that were sent and received by place.
    fetched : int
        Arrays whose bytes were fetched, because this process does not see their pool.
    refused : int
        Objects that were sent as plain Ray sends them, because the holder did not answer.
    """

    sent: int = 0
    received: int = 0
    fetched: int = 0
    refused: int = 0


counts: Counts = Counts()
