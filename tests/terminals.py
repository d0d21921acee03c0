"""Runs a command of `onecopy` in a terminal, and reads what it writes there."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import time

from children import LIMIT

COLOURS = "\x1b[38;2;"  # how a pixel begins


def onecopy_in_a_terminal(*arguments, **changes):
    """Return the lines of a command that ends by itself, as a terminal gets them."""
    known = os.environ | {"PYTHONWARNINGS": "error", "PYTHONUTF8": "1", "TERM": "xterm-256color"}
    known.pop("COLORTERM", None)
    line, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "onecopy.cli", *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=known | changes,
        )
    finally:
        os.close(theirs)
    seen, end = b"", time.monotonic() + LIMIT
    try:
        with contextlib.suppress(OSError):  # EIO: no process has the terminal any more
            while time.monotonic() < end:
                if select.select([line], [], [], 1.0)[0]:
                    seen += os.read(line, 1 << 16)
        assert process.wait(LIMIT) == 0, seen
    finally:
        process.kill()
        process.wait()
        os.close(line)
    return seen.decode().splitlines()
