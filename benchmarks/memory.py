"""What this process and its children have in memory, each page counted once."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path


def together() -> int:
    """Bytes: the sum of the proportional set sizes (PSS) of this process and its children.

    A page that several of them have mapped is divided among those, so the sum has it once. Children
    are those that `multiprocessing` has started, managers' servers among them.
    """
    children = (process.pid for process in multiprocessing.active_children())
    return sum(proportional(pid) for pid in (os.getpid(), *children) if pid)


def proportional(pid: int) -> int:
    """Bytes of one process's proportional set size."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no Pss: a kernel before 4.14?")
