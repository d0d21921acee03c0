"""Which processes have a file open: for the messages of errors."""

from __future__ import annotations

import contextlib
import os

__all__ = ["busy_message", "processes_with", "read_message", "written_message"]

_MOST = 8  # processes that a message names


def processes_with(path: str) -> list[int]:
    """List the processes that have a file open, as far as this one may look.

    Parameters
    ----------
    path : str
        Of the file; it is compared by device and inode.

    Returns
    -------
    list of int
        Process ids, ascending, this one's included. Processes of other users, and of other PID
        namespaces, are not seen.
    """
    try:
        there = os.stat(path)  # noqa: PTH116 - pathlib is not loaded for this
        numbers = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - as above
    except OSError:
        return []
    return [pid for pid in numbers if _has_open(pid, (there.st_dev, there.st_ino))]


def _has_open(pid: int, identity: tuple[int, int]) -> bool:
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):  # it ended, or is somebody else's
        for name in os.listdir(folder):  # noqa: PTH208 - as above
            with contextlib.suppress(OSError):  # closed meanwhile
                found = os.stat(f"{folder}/{name}")  # noqa: PTH116 - as above
                if (found.st_dev, found.st_ino) == identity:
                    return True
    return False


def read_message(path: str) -> str:
    """Say who reads a pool's file that was to be written: the text of a `OneCopyError`."""
    return (
        f"the pool at {path} is open for reading (mode='r') by {_names(path)}; it cannot be "
        "written until they have closed it and let go of their arrays, or have ended"
    )


def written_message(path: str) -> str:
    """Say who writes a pool's file that was to be read: the text of a `OneCopyError`."""
    return (
        f"the pool at {path} is open for writing by {_names(path)}; mode='r' needs a pool that "
        "nobody changes. Open it without mode to share it with them, or wait until they have "
        "closed it"
    )


def busy_message(path: str) -> str:
    """Say why a pool could not be joined in time: the text of a `OneCopyError`."""
    return (
        f"the pool at {path} cannot be joined: a program that is no member has locked its file "
        "(fcntl, lockf), or it keeps being made and removed. The file is open in "
        f"{_names(path)}"
    )


def _names(path: str) -> str:
    found = processes_with(path)
    who = [f"process {pid}{' (this one)' if pid == os.getpid() else ''}" for pid in found[:_MOST]]
    if len(found) > _MOST:
        who.append(f"{len(found) - _MOST} more")
    return ", ".join(who) or "processes that cannot be looked into from here"
