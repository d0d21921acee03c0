"""How many worker processes can join a pool. Each worker is a member of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from onecopy import _native

if TYPE_CHECKING:
    from onecopy._native import Member

__all__ = ["MOST_PROCESSES", "checked_workers"]

# Members of one pool, at most: each has one bit in every block.
MOST_PROCESSES = _native.MOST_PROCESSES


def checked_workers(asked: int | None, parameter: str, member: Member, members: int = 1) -> int:
    """Return how many worker processes to start.

    Parameters
    ----------
    asked : int or None
        The requested number. None: the number of processors, or less if the pool has less room.
    parameter : str
        The name of the parameter, for the error.
    member : Member
        A membership in the pool that the workers will join.
    members : int
        How many processes are members already and will stay.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        The pool has too few free slots. Without this check, workers would start and then fail one
        after the other.
    """
    most = member.max_processes
    room = most - members
    workers = min(_processors(), max(room, 1)) if asked is None else asked
    if workers <= room:
        return workers
    larger = (
        "No pool has room for more"
        if most >= MOST_PROCESSES
        else f"A pool that is made with a larger max_processes (at most {MOST_PROCESSES}) has more"
    )
    raise ValueError(
        f"{parameter}={workers}: each worker is a member of the pool at {member.path}, which has "
        f"room for {most} processes (max_processes), including this one and {members - 1} others. "
        f"So {room} workers can join it. {larger}"
    )


def _processors() -> int:
    """Count processors like the standard library: since 3.13, those that this process may use."""
    count = getattr(os, "process_cpu_count", os.cpu_count)
    return count() or 1
