"""Programs that end in many ways, and must leave nothing behind.

Each is a Python program of its own, which runs with warnings as errors and in development mode, so
that every warning of an interpreter at its end shows on stderr. `inside` is a command that runs
another one, for example in a namespace of its own. `first` is what it does before it imports
onecopy.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from children import LIMIT, asleep, eventually

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence

STRICT = ("-X", "dev", "-W", "error")

PRELUDE = """
import atexit, gc, os, signal, sys, threading, weakref
import numpy as np
import onecopy as oc
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have us started without it
"""

# All kinds of objects that a program may have when it ends.
HOLDING = """
pool = oc.Pool.create("theirs", size="32MiB")
queue, bounded = pool.queue("jobs"), pool.queue(maxsize=1)
stream = pool.stream("events", depth=2)
subscription = stream.subscribe()
frames = pool.frames("frames", (100, 100), "u1", 4)
frame, lent = frames.acquire(), frames.lend()
array, shared = pool.full(100_000, 7, "u1"), pool.shared_array(10, name="grid")
reference, view = pool.put({"a": np.arange(50_000)}), memoryview(array)[5:50]
queue.put([array, {"b": np.zeros(20_000)}]); queue.put(frame); stream.publish(array)
received, pool["kept"] = queue.get(), array
oc.put(np.zeros(100_000))  # in the default pool
"""


class Running:
    """A program that runs."""

    def __init__(
        self,
        text: str,
        *,
        flags: tuple[str, ...] = STRICT,
        holding: bool = True,
        first: str = "",
        inside: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        before = textwrap.dedent(first)
        program = before + PRELUDE + (HOLDING if holding else "") + textwrap.dedent(text)
        self._process = subprocess.Popen(
            [*inside, sys.executable, *flags, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=os.environ if environment is None else environment,
        )
        self.pid = self._process.pid
        self.stdout = self.stderr = ""

    def line(self) -> str:
        """Wait for the next line that it prints."""
        return self._process.stdout.readline()

    def says(self, word: str) -> None:
        """Wait until it prints a line."""
        line = self.line()
        assert line == f"{word}\n", line + self.end()[1]

    def is_asleep(self) -> None:
        """Wait until it sleeps."""
        eventually(lambda: asleep(self.pid) or self._process.poll() is not None, "it to wait")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """Make sure that it has gone."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()

    def end(self) -> tuple[int, str]:
        """Return its status and its output on stderr, after it has ended."""
        try:
            _, self.stderr = self._process.communicate(timeout=LIMIT)
        finally:
            self.kill()
        return self._process.returncode, self.stderr


def run(text: str, **options) -> tuple[int, str]:
    """Run a program to its end; return its status and its output on stderr."""
    return Running(text, **options).end()


def left() -> list[str]:
    """List the files in the pool directory."""
    return sorted(path.name for path in Path(os.environ["ONECOPY_DIR"]).iterdir())
