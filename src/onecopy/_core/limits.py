"""What the machine or its container lets a process use."""

from __future__ import annotations

import os
from typing import NamedTuple

from onecopy import _native
from onecopy._core.sizes import format_size

__all__ = ["MemoryLimit", "machine_memory", "memory_limit"]


class MemoryLimit(NamedTuple):
    """The limit of a control group: a container's, a service's, a batch job's."""

    limit: int
    """Bytes that the processes of the group may have together, shared memory included."""
    used: int
    """Bytes that they have, without what the kernel can drop."""
    room: int
    """Bytes that onecopy still reserves: what is left, and swap, less a margin."""
    group: str
    """The group's directory."""

    def __str__(self) -> str:
        return (
            f"the memory limit of the control group {self.group} is {format_size(self.limit)}, "
            f"{format_size(self.used)} of it are in use, and pools may take "
            f"{format_size(self.room)} more"
        )


def memory_limit(proc: str = "/proc") -> MemoryLimit | None:
    """Find the control group that leaves this process the least memory.

    Parameters
    ----------
    proc : str, optional
        Where /proc is.

    Returns
    -------
    MemoryLimit or None
        None: there is no limit but the machine's, or it cannot be known.
    """
    found = _native.memory_limit(proc)
    return None if found is None else MemoryLimit(*found)


def machine_memory() -> int:
    """Give the bytes of memory that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
