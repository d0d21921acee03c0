"""For tests of shared memory segments: unique names, and the contents of /dev/shm."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import subprocess
import sys
from pathlib import Path

from children import LIMIT, eventually

from onecopy._core import segments

SHM = Path(segments.DIRECTORY)
_numbers = itertools.count()


def path_of(shm):
    return SHM / (shm if isinstance(shm, str) else shm.name)


def exists(shm):
    return path_of(shm).exists()


def gone_after_sweep(name):
    segments.sweep()
    return not exists(name)


def state_of(name):
    """Return what a sweep reports for it, without removing anything; None: it does not exist."""
    return {info.name: info.state for info in segments.sweep(remove=False)}.get(name)


def fresh_name():
    """Yield a name that no other test has; no process has the segment in the end.

    The body of a fixture. A segment that is left belongs to this process, or to others that are
    dead.
    """
    name = f"onecopy-test-{os.getpid()}-{next(_numbers)}"
    yield name
    with contextlib.suppress(FileNotFoundError):
        gc.collect()
        segments.sweep()
        eventually(lambda: state_of(name) != "in_use", f"{name} to be released")
        path_of(name).unlink()


def plain(text, *arguments):
    """Run a program with the standard library alone; return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return done
