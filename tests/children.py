"""Processes for tests: relatives by each start method, and unrelated ones.

Run as a script, this is an unrelated process: it shares only the directory with the test.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

METHODS = ["fork", "forkserver", "spawn", "stranger"]
LIMIT = 100.0  # seconds: a watchdog, not a measurement


class Relative:
    """A child of multiprocessing."""

    def __init__(self, method, function, arguments):
        context = multiprocessing.get_context(method)
        self._process = context.Process(
            target=_run, args=(os.environ["ONECOPY_DIR"], function, arguments)
        )
        self._process.start()
        self.pid = self._process.pid

    def wait(self):
        """Return its exit status when it has ended; negative: the signal that killed it."""
        self._process.join(LIMIT)
        assert self._process.exitcode is not None, "the child did not end"
        return self._process.exitcode

    def kill(self):
        """Kill it, like `kill -9`."""
        self._process.kill()
        assert self.wait() == -signal.SIGKILL

    def end(self):
        """Ensure that it has ended, and that its descriptors are closed."""
        self._process.kill()
        self._process.join()
        self._process.close()


class Stranger:
    """A process that is started by hand: it gets names, or a pickle in a file."""

    def __init__(self, function, arguments):
        target = function.__module__, function.__qualname__
        self._process = subprocess.Popen(
            [sys.executable, __file__, *target], stdin=subprocess.PIPE, env=os.environ
        )
        search = [path for path in sys.path if path]
        self._process.stdin.write(pickle.dumps(search) + pickle.dumps(arguments))
        self._process.stdin.close()
        self.pid = self._process.pid

    def wait(self):
        """Return its exit status when it has ended; negative: the signal that killed it."""
        return self._process.wait(LIMIT)

    def kill(self):
        """Kill it, like `kill -9`."""
        self._process.kill()
        assert self.wait() == -signal.SIGKILL

    def end(self):
        """Ensure that it has ended."""
        self._process.kill()
        self._process.wait()


def start(method, function, *arguments):
    """Start a process that calls a function of a test module.

    `method` is one of `METHODS`. Pools and things in them travel in `arguments` by reference.
    """
    if method == "stranger":
        return Stranger(function, arguments)
    return Relative(method, function, arguments)


def _run(directory, function, arguments):
    # a fork server has the environment of the test that started it
    os.environ["ONECOPY_DIR"] = directory
    function(*arguments)


def eventually(condition, what):
    """Wait for a state of which no event informs."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.001)


def soon(condition):
    """Tell whether a state of which no event informs is reached within a second."""
    deadline = time.monotonic() + 1
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def asleep(pid):
    """Tell whether all threads of a process sleep."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return all(
            (task / "stat").read_text().rpartition(")")[2].split()[0] == "S"
            for task in Path(f"/proc/{pid}/task").iterdir()
        )
    return False


def running(pid):
    """Tell whether a process runs, also if it is not our child. A zombie does not run.

    The process may be reaped between any two steps of the check. Then its folder in /proc is gone,
    or reading an open file fails.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] not in "ZX"
    return False


def descriptors():
    """Count this process's open descriptors."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a pathlib iterator holds one open


def descendants():
    """List this process's children, except those that multiprocessing keeps for itself."""
    multiprocessing.active_children()  # this reaps children that have ended
    own = {
        multiprocessing.resource_tracker._resource_tracker._pid,
        multiprocessing.forkserver._forkserver._forkserver_pid,
    }
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            found.update(int(pid) for pid in (task / "children").read_text().split())
    return found - own


def used(pool):
    """Return the bytes in use after what dead processes held has been collected."""
    pool.collect()
    return pool.stats().used


def main():
    module, name = sys.argv[1:]
    sys.path[:0] = pickle.load(sys.stdin.buffer)
    arguments = pickle.load(sys.stdin.buffer)
    function = importlib.import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    function(*arguments)


if __name__ == "__main__":
    main()
