"""The text of a `PoolFull`: why there is no room, and which processes hold most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onecopy._core.limits import memory_limit
from onecopy._core.memory_pressure import release_spare
from onecopy._core.paths import pool_name
from onecopy._core.sizes import format_size
from onecopy._core.things import describe, things_in

if TYPE_CHECKING:
    from onecopy._native import Member

__all__ = ["pool_full_message"]

_LARGEST = 3  # how many holders, and how many things, a message names


def pool_full_message(member: Member, nbytes: int) -> str:
    """Release memory that no object needs; then say why `nbytes` do not fit, and what holds most.

    Parameters
    ----------
    member : Member
        The process's membership in the pool.
    nbytes : int
        The size that was requested, in bytes.

    Returns
    -------
    str
        The text of a `PoolFull`.
    """
    dropped = release_spare(member)
    stats = member.stats()
    capacity, used, bodies = stats["capacity"], stats["used"], stats["body_bytes"]
    asked = format_size(nbytes)
    where = f"pool {pool_name(member.path)!r}" if member.path else "the pool"
    if nbytes > capacity:
        return (
            f"{asked} can never fit: {where} is {format_size(capacity)} large. "
            "Make a larger pool (Pool.create(size=…), or ONECOPY_POOL_SIZE for the default pool)."
        )
    text = (
        f"no room for {asked} in {where}: {format_size(used + bodies)} of {format_size(capacity)} "
        f"are in use in {stats['blocks'] + stats['bodies']} blocks"
    )
    if bodies:
        text += (
            f", {format_size(bodies)} of it by queues, locks and other structures in "
            f"{stats['bodies']} blocks"
        )
    if used + bodies + nbytes <= capacity:
        group = memory_limit() if member.in_memory else None
        if group is not None and nbytes > group.room:
            text += f". The rest of the pool cannot be allocated: {group}"
        else:
            text += (
                ". The free memory is in pieces that are too small, or the memory below the pool "
                "(/dev/shm, the disk, the container's limit) is full"
            )
    holders = [holder for holder in member.holders() if holder["bytes"]][:_LARGEST]
    if holders:
        text += "; held by " + ", ".join(
            f"process {holder['pid']}{'' if holder['alive'] else ' (dead)'}: "
            f"{format_size(holder['bytes'])} in {holder['blocks']} blocks"
            for holder in holders
        )
    largest = things_in(member)[:_LARGEST]
    if largest:
        text += f". The largest things in the pool: {describe(largest)}"
    if dropped:
        text += (
            ". Objects kept for children that have ended, copies kept by executors, and unused "
            "frames were released now: try again"
        )
    return (
        text + ". Release arrays and references, take messages from queues, delete things that are "
        "not needed any more (Pool.delete), or make a larger pool."
    )
