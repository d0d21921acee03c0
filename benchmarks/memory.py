"""What this process and its children have in memory, each page counted once."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - glibc's, and where pools are unless told otherwise


def together() -> int:
    """Bytes: what this process and its children have mapped, and shared memory that they have open.

    What they have mapped is their proportional set size (PSS): a page that several of them have is
    divided among those, so the sum has it once. PSS alone would flatter who writes shared memory
    without mapping it, or has it read in part: a page that nobody has mapped is in nobody's PSS,
    and still takes memory. So files in shared memory count with all that they occupy, once each.
    (More of it may be mapped without a file; the larger number is taken.)

    Children are those that `multiprocessing` has started, managers' servers among them.
    """
    children = (process.pid for process in multiprocessing.active_children())
    pids = [pid for pid in (os.getpid(), *children) if pid]
    private = mapped = 0
    files: dict[tuple[int, int], int] = {}
    for pid in pids:
        sizes = proportional(pid)
        mapped += sizes["Pss_Shmem"]
        private += sizes["Pss"] - sizes["Pss_Shmem"]
        files |= shared_files(pid)
    return private + max(mapped, sum(files.values()))


def proportional(pid: int) -> dict[str, int]:
    """Bytes of one process's proportional set size, as a whole and by what it consists of."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    fields = (line.split() for line in lines if line.startswith("Pss"))
    sizes = {name.rstrip(":"): int(amount) * 1024 for name, amount, _ in fields}
    if not {"Pss", "Pss_Shmem"} <= sizes.keys():
        raise ValueError(f"/proc/{pid}/smaps_rollup has no Pss_Shmem: a kernel before 5.4?")
    return sizes


def shared_files(pid: int) -> dict[tuple[int, int], int]:
    """Bytes that each file occupies which a process has open in shared memory, by the file."""
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
