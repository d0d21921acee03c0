"""Finds the processes that have a file open, for error messages."""

from __future__ import annotations

import contextlib
import os

__all__ = ["busy_message", "processes_with", "read_message", "written_message"]

_MOST = 8  # processes that a message names


def processes_with(path: str) -> list[int]:
    """List the processes that have a file open, as far as this process may see them.

    Parameters
    ----------
    path : str
        The file. It is compared by device and inode.

    Returns
    -------
    list of int
        Process ids in ascending order, including this process. Processes of other users and of
        other PID namespaces are not found.
    """
    try:
        there = os.stat(path)  # noqa: PTH116 - pathlib is not loaded for this
        numbers = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - as above
    except OSError:
        return []
    return [pid for pid in numbers if _has_open(pid, (there.st_dev, there.st_ino))]


def _has_open(pid: int, identity: tuple[int, int]) -> bool:
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):  # it ended, or belongs to another user
        for name in os.listdir(folder):  # noqa: PTH208 - as above
            with contextlib.suppress(OSError):  # closed meanwhile
                found = os.stat(f"{folder}/{name}")  # noqa: PTH116 - as above
                if (found.st_dev, found.st_ino) == identity:
                    return True
    return False


def read_message(path: str) -> str:
    """Return the error text if a pool is to be opened for writing while processes read it."""
    return (
        f"the pool at {path} is open for reading (mode='r') by {_names(path)}; it cannot be "
        "opened for writing until they have closed it and released their arrays, or have ended"
    )


def written_message(path: str) -> str:
    """Return the error text if a pool is to be opened for reading while processes write it."""
    return (
        f"the pool at {path} is open for writing by {_names(path)}; mode='r' needs a pool that "
        "no process changes. Open it without mode to share it with them, or wait until they have "
        "closed it"
    )


def busy_message(path: str) -> str:
    """Return the error text if a pool could not be joined in time."""
    return (
        f"the pool at {path} cannot be joined: a program that is not a member has locked its file "
        "(fcntl, lockf), or the pool is made and removed again and again. The file is open in "
        f"{_names(path)}"
    )


def _names(path: str) -> str:
    found = processes_with(path)
    names = [f"process {pid}{' (this one)' if pid == os.getpid() else ''}" for pid in found[:_MOST]]
    if len(found) > _MOST:
        names.append(f"{len(found) - _MOST} more")
    return ", ".join(names) or "processes that this process cannot see"
