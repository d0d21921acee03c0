"""How many worker processes a pool has places for: each of them is a member of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onecopy._native import Member

__all__ = ["MOST_PROCESSES", "checked_workers"]

MOST_PROCESSES = 512  # that a pool can have as members: a bit of each block is theirs


def checked_workers(asked: int | None, parameter: str, member: Member, members: int = 1) -> int:
    """Tell how many worker processes to start.

    Parameters
    ----------
    asked : int or None
        How many were asked for. None: as many as the machine has processors, or as there is room
        for.
    parameter : str
        Its name, for the error.
    member : Member
        Of the pool that they will join.
    members : int
        How many processes are members already, and stay.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        The pool has not so many places left. Without this, workers would be started that fail one
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
        else f"A pool that is made with a larger max_processes ({MOST_PROCESSES} at most) has more"
    )
    raise ValueError(
        f"{parameter}={workers}: each worker is a member of the pool at {member.path}, which has "
        f"room for {most} processes (max_processes), this one and {members - 1} others included. "
        f"So {room} workers can join it. {larger}"
    )


def _processors() -> int:
    """As the standard library counts them: since Python 3.13, those that this process may use."""
    count = getattr(os, "process_cpu_count", os.cpu_count)
    return count() or 1
