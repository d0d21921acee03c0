"""The memory of some processes; each page counts once."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - used by glibc, and by pools by default


def together(these: Iterable[int] | None = None) -> int:
    """Return the bytes that processes have mapped or open in shared memory.

    Mapped memory is the proportional set size (PSS): a page that several processes have mapped is
    divided among them, so it counts once in the sum. PSS alone would be too low if a contender
    writes shared memory without mapping it, or maps a part: a page that no process has mapped is in
    no PSS, but uses memory. So each file in shared memory counts with all its pages, once. (More
    may be mapped without a file, so the larger number is used.)

    Default: this process and its children. Children are those that `multiprocessing` started,
    including the servers of managers.
    """
    children = (process.pid for process in multiprocessing.active_children())
    pids = [pid for pid in (os.getpid(), *children) if pid] if these is None else these
    private = mapped = 0
    files: dict[tuple[int, int], int] = {}
    for pid in pids:
        sizes = proportional(pid)
        mapped += sizes["Pss_Shmem"]
        private += sizes["Pss"] - sizes["Pss_Shmem"]
        files |= shared_files(pid)
    return private + max(mapped, sum(files.values()))


def proportional(pid: int) -> dict[str, int]:
    """Return the proportional set size of a process in bytes, in total and by kind."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    fields = (line.split() for line in lines if line.startswith("Pss"))
    sizes = {name.rstrip(":"): int(amount) * 1024 for name, amount, _ in fields}
    if not {"Pss", "Pss_Shmem"} <= sizes.keys():
        raise ValueError(f"/proc/{pid}/smaps_rollup has no Pss_Shmem: a kernel before 5.4?")
    return sizes


def shared_files(pid: int) -> dict[tuple[int, int], int]:
    """Return the bytes of each file in shared memory that a process has open."""
    device = SHARED_MEMORY.stat().st_dev
    found = {}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            status = descriptor.stat()
            in_memory = status.st_dev == device or "/memfd:" in str(descriptor.readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
        if in_memory and stat.S_ISREG(status.st_mode):
            found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return found
