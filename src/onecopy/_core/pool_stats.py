"""The statistics of a pool."""

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
        The name of the pool.
    size : int
        Bytes for data.
    used : int
        Bytes in live blocks: objects, arrays and messages, without the bodies of structures. 0 if
        no object is held.
    free : int
        ``size`` less `used` and `structure_bytes`.
    blocks : int
        Live blocks that `used` counts.
    processes : int
        How many processes are members, including this one.
    max_processes : int
        How many processes can be members.
    structures : int
        Bodies of structures: queues, streams, frames, locks, lists, dicts. A queue has one more for
        every 64 messages.
    structure_bytes : int
        Bytes in these bodies. The frames of a set count as used.
    committed : int
        Bytes of memory that are reserved for the pool. The number grows with use. `Pool.collect`
        returns free memory.
    largest : tuple of Thing
        The three things that keep most memory, each with its kind, name and bytes. Empty if the
        statistics were read without joining the pool.

    Examples
    --------
    >>> pool = oc.Pool("numbers", size="16MiB")
    >>> image = pool.zeros((480, 640), np.uint8)
    >>> stats = pool.stats()
    >>> stats.processes, stats.blocks, stats.used >= image.nbytes
    (1, 1, True)
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
    """Make the statistics from the counts of the native core."""
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
