"""What a process did, in a file of its own that stays after its death.

A line is a letter, numbers, and a time (nanoseconds of the monotonic clock, which is the same for
all processes of a machine):

    ? n t       I begin operation n; for a worker: I ask for up to n messages
    ! n t       it happened
    x n t       it failed and did not happen
    g p n r t   I got message n of producer p; r is 1 if it was flagged as redelivered
    . t         that answers my question
    ~ p n t     I am about to call task_done for it
    = p n t     I have called it
    m k t       my subscription has missed k so far; this ends it
    # text      what I got is broken, as the text describes
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class Entry(NamedTuple):
    """One line."""

    kind: str
    numbers: tuple[int, ...]
    time: int


class Ledger:
    """The file that one process writes."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, kind: str, *numbers: int) -> None:
        """Append a line."""
        self.notes([(kind, *numbers)])

    def notes(self, lines: list[tuple[str | int, ...]]) -> None:
        """Append lines in one write."""
        now = time.monotonic_ns()
        text = "".join(f"{' '.join(map(str, line))} {now}\n" for line in lines)
        os.write(self._fd, text.encode())

    def close(self) -> None:
        """Close the file; it stays."""
        os.close(self._fd)

    def accuse(self, text: str) -> None:
        """Report that something is broken."""
        os.write(self._fd, f"# {text}\n".encode())


def read(path: Path) -> tuple[list[Entry], list[str]]:
    """Return a ledger's entries, and the errors reported in it."""
    try:
        text = path.read_text()
    except FileNotFoundError:  # killed before it began
        return [], []
    lines = text.split("\n")[:-1]  # the rest after the last line's end is incomplete
    accusations = [line[2:] for line in lines if line.startswith("#")]
    entries = []
    for line in lines:
        if not line.startswith("#"):
            kind, *numbers = line.split(" ")
            *rest, when = map(int, numbers)
            entries.append(Entry(kind, tuple(rest), when))
    return entries, accusations
