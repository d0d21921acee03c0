"""The examples that are web services, running."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from children import LIMIT

EXAMPLES = Path(__file__).parents[2] / "examples"


@contextmanager
def running(folder, stderr=None):
    """Run the service of a folder: its process, with its `port`. Ctrl-C ends it."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / folder / "service.py", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    try:
        process.port = int(process.stdout.readline().rpartition(" ")[2])
        yield process
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def workers(service):
    """Return the pids of the service's child processes."""
    tasks = Path(f"/proc/{service.pid}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
