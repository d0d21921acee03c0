"""Which process has the lock of a directory of pools.

Names of pools are given and removed under this lock, for microseconds. A stopped process that has
it delays each process that makes, opens or leaves a pool there by seconds.
"""

from __future__ import annotations

import os
from pathlib import Path

from onecopy.observer.system import look_at, short_command

__all__ = ["stopped_directory_owners"]


def stopped_directory_owners(directory: str) -> list[str]:
    """Say which stopped processes have the lock of a directory.

    Parameters
    ----------
    directory : str
        Where pools are.

    Returns
    -------
    list of str
        Sentences. Empty also if /proc does not tell.
    """
    said = []
    for pid in _owners(directory):
        system = look_at(pid, 0)
        if system is None or system.letter not in "Tt":
            continue
        word = short_command(system.command)
        name = f"{pid} ({word})" if word else f"{pid}"
        said.append(
            f"{name} is stopped, and has the lock of the directory {directory}: processes that "
            f"make, open or leave pools there wait for it. `kill -CONT {pid}` continues it."
        )
    return said


def _owners(directory: str) -> list[int]:
    """Return the processes that have a flock of a directory, as /proc/locks names them."""
    try:
        status = Path(directory).stat()
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    found = []
    for line in lines:
        # "1: FLOCK  ADVISORY  WRITE 4711 00:2d:17 0 EOF". A line with "->" is a process that waits.
        words = line.split()
        if len(words) >= 6 and words[1] == "FLOCK" and words[5] == device:
            found.append(int(words[4]))
    return [pid for pid in found if pid > 0]  # 0 or less: of another PID namespace
