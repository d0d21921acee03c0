"""A pool in which processes get stuck on purpose, for tests of the observer."""

from __future__ import annotations

import os
import signal

from children import eventually, start

import onecopy as oc


def play(name, text, line):
    """Run a part in a process of its own. `idle()` says that it is ready, and never returns."""

    def ready():
        os.write(line, b"!")

    def idle():
        ready()
        while True:
            signal.pause()

    pool = oc.Pool.open(name)
    exec(text, {"oc": oc, "pool": pool, "ready": ready, "idle": idle})  # noqa: S102 - the parts are texts of tests


class Stage:
    """Processes with roles, in a pool of their own that the test does not join."""

    def __init__(self, method="fork", **settings):
        self.name = f"stage-{os.getpid()}"
        self.method = method
        self.people = {}
        self.pids = {}
        settings = {"size": "16MiB"} | settings
        oc.Pool.create(self.name, persistent=True, **settings).close()
        self.observer = oc.observe(self.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for person in self.people.values():
            person.end()
        with oc.Pool.open(self.name) as pool:
            pool.unlink()

    def enter(self, role, text, waits=None):
        """Start a process, and wait until it is idle, or until one of its threads waits.

        `waits` is what it waits for, as in `WaitView.why`.
        """
        heard, line = os.pipe()
        try:
            self.people[role] = start("fork", play, self.name, text, line)
            self.pids[role] = self.people[role].pid
            if waits is None:
                assert os.read(heard, 1) == b"!"
            else:
                eventually(lambda: waits in self.waits(role), f"{role} to wait for {waits}")
        finally:
            os.close(heard)
            os.close(line)
        return self

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
