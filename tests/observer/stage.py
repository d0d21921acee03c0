"""A pool in which processes get stuck on purpose, for tests of the observer."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import tempfile
from pathlib import Path

from children import LIMIT, eventually, start

import onecopy as oc


def play(name, text, line):
    """Run a part in a process of its own. `idle()` says that it is ready, and never returns."""

    def ready():
        with Path(line).open("wb", buffering=0) as pipe:
            pipe.write(b"!")

    def idle():
        ready()
        while True:
            signal.pause()

    def busy():
        ready()
        while True:
            pass

    pool = oc.Pool.open(name)
    exec(text, {"oc": oc, "pool": pool, "ready": ready, "idle": idle, "busy": busy})  # noqa: S102 - the parts are texts of tests


class Stage:
    """Processes with roles, in a pool of their own that the test does not join.

    `method` says how they are started, as in `children.METHODS`.
    """

    def __init__(self, method="fork", **settings):
        self.name = f"stage-{os.getpid()}"
        self.method = method
        self.people = {}
        self.pids = {}
        self._heard = {}
        settings = {"size": "16MiB"} | settings
        oc.Pool.create(self.name, persistent=True, **settings).close()
        self.observer = oc.observe(self.name)
        self._lines = Path(tempfile.mkdtemp(prefix="onecopy-stage-"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for person in self.people.values():
            person.end()
        for heard in self._heard.values():
            os.close(heard)
        shutil.rmtree(self._lines)
        eventually(self._workers_are_gone, "the workers to be gone")
        with oc.Pool.open(self.name) as pool:
            pool.unlink()

    def _workers_are_gone(self):
        """Kill what killed processes have started: a worker that runs a task does not end."""
        left = [each for each in self.observer.snapshot().processes if each.state != "dead"]
        for worker in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
        return not left

    def enter(self, role, text, waits=None, worker=False):
        """Start a process, and wait until it is idle, or until one of its threads waits.

        `waits` is what it waits for, as in `WaitView.why`. `worker`: not the process itself waits,
        but one that it has started.
        """
        line = self._lines / role
        os.mkfifo(line)
        # Also for writing: so opening does not wait.
        self._heard[role] = os.open(line, os.O_RDWR)
        self.people[role] = start(self.method, play, self.name, text, str(line))
        self.pids[role] = self.people[role].pid
        if waits is None:
            self.until_ready(role)
        elif worker:
            eventually(lambda: waits in self._waits_of_workers(), f"a worker: {waits}")
        else:
            self.until(role, waits)
        return self

    def until_ready(self, role):
        """Wait until a process has said that it is ready."""
        heard = self._heard[role]
        assert select.select([heard], [], [], LIMIT)[0], f"{role} is not ready"
        assert os.read(heard, 1) == b"!"

    def until(self, role, waits):
        """Wait until a thread of a process waits for something; None: until none waits."""
        eventually(
            lambda: waits in self.waits(role) if waits is not None else not self.waits(role),
            f"{role} to wait for {waits}",
        )
        return self

    def until_readers_are_through(self):
        """Wait until no subscriber has a message to read that it has not noticed yet."""
        eventually(lambda: not self._wakes_a_reader(), "the readers to read what is there")
        return self

    def _wakes_a_reader(self):
        seen = self.observer.snapshot()
        reads = {
            (process.slot, wait.thing.index)
            for process in seen.processes
            for wait in process.waits
            if wait.why == "read" and wait.thing is not None
        }
        return any(
            each.lag and (each.slot, stream.index) in reads
            for stream in seen.streams
            for each in stream.subscribers
        )

    def _waits_of_workers(self):
        own = set(self.pids.values())
        return [
            wait.why
            for process in self.observer.snapshot().processes
            if process.pid not in own
            for wait in process.waits
        ]

    def process(self, role):
        """Return what the observer sees of a process now."""
        return next(
            (each for each in self.observer.snapshot().processes if each.pid == self.pids[role]),
            None,
        )

    def waits(self, role):
        process = self.process(role)
        return [] if process is None else [wait.why for wait in process.waits]

    def stop(self, role):
        os.kill(self.pids[role], signal.SIGSTOP)
        eventually(lambda: self.process(role).state == "stopped", f"{role} to stop")
        return self

    def kill(self, role):
        self.people[role].kill()
        return self
