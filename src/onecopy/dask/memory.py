"""The memory of a process, with shared pages counted once per host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onecopy.dask.membership import membership
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["counting_once", "process_memory"]


def process_memory(pid: int, rss: int) -> int:
    """Return the memory that counts for a process.

    Parameters
    ----------
    pid : int
        The process.
    rss : int
        Its resident memory, in bytes. Pages that several processes have mapped count for each.

    Returns
    -------
    int
        `rss` without shared pages, and its share of the pool. `rss`, if that is not known.
    """
    pool = membership.pool
    if pool is None:
        return rss
    try:
        shared = _resident_shared(pid)
        share = pool.share(pid)
    except (OSError, OneCopyError, ValueError):
        return rss
    return max(0, rss - shared) + share


def _resident_shared(pid: int) -> int:
    """Return the bytes of shared memory that a process has mapped and used."""
    for line in (
        Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").split("\n")
    ):
        name, _, value = line.partition(":")
        if name == "RssShmem":
            return int(value.split()[0]) * 1024
    raise ValueError("the kernel does not tell it")


def counting_once(pid: int, rss: Callable[[], int]) -> Callable[[], int]:
    """Return a function that gives what `rss` gives, with shared pages counted once."""
    return lambda: process_memory(pid, rss())
