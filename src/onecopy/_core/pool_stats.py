"""The figures of a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from onecopy._core.things import Thing

__all__ = ["PoolStats", "stats_from"]


class PoolStats(NamedTuple):
    """How full a pool is, at one instant.

    Attributes
    ----------
    name : str
        Of the pool.
    size : int
        Bytes for data.
    used : int
        Bytes in live blocks: objects, arrays and messages, not the bodies of queues and their kin.
        0 when nothing is held.
    free : int
        ``size`` less what is used and what the bodies take.
    blocks : int
        Live blocks that `used` counts.
    processes : int
        That are members, this one included.
    max_processes : int
        That can be.
    structures : int
        Bodies of queues, streams, frames, locks and their friends. A queue has one for every 64
        messages besides.
    structure_bytes : int
        What these take. The frames of a set count as used.
    committed : int
        Bytes of memory that are reserved for the pool. It grows with use; `Pool.collect` gives back
        what is free.
    largest : tuple of Thing
        The three things that keep most, each with its kind, name and bytes, in or under a name.
        Empty where a pool was looked at without joining it.
    """

    name: str
    size: int
    used: int
    free: int
    blocks: int
    processes: int
    max_processes: int
    structures: int
    structure_bytes: int
    committed: int
    largest: tuple[Thing, ...] = ()


def stats_from(name: str, counts: dict[str, int], largest: tuple[Thing, ...] = ()) -> PoolStats:
    """Give the figures of the native core their names."""
    return PoolStats(
        name=name,
        size=counts["capacity"],
        used=counts["used"],
        free=counts["capacity"] - counts["used"] - counts["body_bytes"],
        blocks=counts["blocks"],
        processes=counts["processes"],
        max_processes=counts["max_processes"],
        structures=counts["bodies"],
        structure_bytes=counts["body_bytes"],
        committed=counts["committed"],
        largest=largest,
    )
