"""The default size of a pool."""

from __future__ import annotations

import os

from onecopy._core.limits import machine_memory, memory_limit
from onecopy._core.paths import has_dev_shm, pool_directory
from onecopy._core.sizes import parse_size

__all__ = ["default_size"]

_SMALLEST = 64 << 20  # bytes; if /dev/shm has less, a memfd is better


def default_size() -> int:
    """Return the size of a pool if the caller gives none.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ValueError
        ``ONECOPY_POOL_SIZE`` is not a size.
    """
    chosen = os.environ.get("ONECOPY_POOL_SIZE")
    if chosen:
        return parse_size(int(chosen) if chosen.isdigit() else chosen, "ONECOPY_POOL_SIZE")
    half = _memory_limit() // 2
    directory = pool_directory()
    while not os.path.isdir(directory):  # noqa: PTH112 - pathlib is not loaded for this
        directory = os.path.dirname(directory)  # noqa: PTH120 - as above
    system = os.statvfs(directory)
    free = system.f_bavail * system.f_frsize // 2
    if not has_dev_shm() or free < _SMALLEST:
        return half  # as a memfd
    return min(half, free)


def _memory_limit() -> int:
    """Return the memory that this process may use: the machine's, or its control group's."""
    group = memory_limit()
    return machine_memory() if group is None else min(machine_memory(), group.limit)
