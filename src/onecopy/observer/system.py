"""What the system tells about a process: its state, its command line, when it started."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["SystemView", "look_at", "short_command"]


class SystemView(NamedTuple):
    """A process, as /proc shows it."""

    letter: str  # of its state: R, S, D, T, t, Z
    command: tuple[str, ...]
    started: float


def look_at(pid: int, start_ticks: int) -> SystemView | None:
    """Look at a process that started at a known time.

    Parameters
    ----------
    pid : int
        Its number in this PID namespace.
    start_ticks : int
        When it started, in clock ticks since boot; 0: it is not known.

    Returns
    -------
    SystemView or None
        None: there is no such process any more, or /proc does not show it.
    """
    before = _stat(pid)
    if before is None or (start_ticks and before[1] != start_ticks):
        return None
    command = _command(pid)
    if _stat(pid, only_start=True) != ("", before[1]):  # the number has another process meanwhile
        return None
    return SystemView(before[0], command, _boot() + before[1] / os.sysconf("SC_CLK_TCK"))


def _stat(pid: int, only_start: bool = False) -> tuple[str, int] | None:
    """Return the letter of its state, and when it started."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return ("" if only_start else fields[0].decode()), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _command(pid: int) -> tuple[str, ...]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ()
    return tuple(word.decode(errors="backslashreplace") for word in words[:-1])


@cache
def _boot() -> float:
    """Return when the machine started, in seconds since 1970; 0 if it is not known."""
    try:
        for line in Path("/proc/stat").read_bytes().splitlines():
            if line.startswith(b"btime "):
                return float(line.split()[1])
    except OSError:
        pass
    return 0.0


def short_command(command: tuple[str, ...] | None) -> str:
    """Return the word by which people know a program.

    Parameters
    ----------
    command : tuple of str or None
        A command line.

    Returns
    -------
    str
        The name of the script or the module if it is a Python program. "" if nothing is known.
    """
    if not command:
        return ""
    program = os.path.basename(command[0])  # noqa: PTH119 - paths are strings here
    if not program.startswith("python"):
        return program
    words = iter(command[1:])
    for word in words:
        if word == "-m":
            return next(words, program)
        if word == "-c":
            return f"{program} -c"
        if word in {"-X", "-W"}:
            next(words, None)
        elif not word.startswith("-"):
            return os.path.basename(word)  # noqa: PTH119 - paths are strings here
    return program
