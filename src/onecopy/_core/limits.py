"""The memory that the machine or its container lets a process use."""

from __future__ import annotations

import os
from typing import NamedTuple

from onecopy import _native
from onecopy._core.sizes import format_size

__all__ = ["MemoryLimit", "machine_memory", "memory_limit"]


class MemoryLimit(NamedTuple):
    """The memory limit of a control group: of a container, a service or a batch job."""

    limit: int
    """Bytes that all processes of the group may use together, including shared memory."""
    used: int
    """Bytes that they use, without memory that the kernel can drop."""
    room: int
    """Bytes that onecopy may still reserve: the rest of the limit, and swap, less a margin."""
    group: str
    """The group's directory."""

    def __str__(self) -> str:
        return (
            f"the memory limit of the control group {self.group} is {format_size(self.limit)}, "
            f"{format_size(self.used)} of it are in use, and pools may use "
            f"{format_size(self.room)} more"
        )


def memory_limit(proc: str = "/proc") -> MemoryLimit | None:
    """Find the control group whose limit leaves this process the least memory.

    Parameters
    ----------
    proc : str, optional
        Where /proc is.

    Returns
    -------
    MemoryLimit or None
        None: only the machine limits the memory, or the limit cannot be read.
    """
    found = _native.memory_limit(proc)
    return None if found is None else MemoryLimit(*found)


def machine_memory() -> int:
    """Return the size of the machine's memory, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
