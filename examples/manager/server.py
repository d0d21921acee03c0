"""The server: two queues that any machine may reach, and the name of the active run.

    python server.py [--host 127.0.0.1] [--port 50000] [--key-file FILE]

Port 0 means a free port. The server runs until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import signal
import sys
import threading

import common

from onecopy.multiprocessing.managers import BaseManager

tasks: queue.Queue[dict] = queue.Queue()
results: queue.Queue[dict] = queue.Queue()


class Runs:
    """The active run. The queues, and what a master left in them, outlive the master."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: str | None = None
        self._ended = 0

    def ended(self) -> int:
        """Count the runs that have ended."""
        return self._ended

    def current(self) -> str | None:
        """Return the active run, or None."""
        return self._current

    def begin(self) -> str:
        """Begin a run. An active run ends: its master was killed, or must end now."""
        with self._lock:
            self._current = secrets.token_hex(4)
            self._clear()
            return self._current

    def end(self, run: str) -> None:
        """End a run, unless another one has begun."""
        with self._lock:
            if self._current == run:
                self._current = None
                self._ended += 1
                self._clear()

    @staticmethod
    def _clear() -> None:
        for each in (tasks, results):
            with contextlib.suppress(queue.Empty):
                while True:
                    each.get_nowait()


runs = Runs()


class Manager(BaseManager):
    """Returns proxies of the three objects. All clients get the same objects."""


Manager.register("get_tasks", callable=lambda: tasks)
Manager.register("get_results", callable=lambda: results)
Manager.register("get_runs", callable=lambda: runs)


def main() -> int:
    arguments = common.parser(__doc__.splitlines()[0]).parse_args()
    server = Manager((arguments.host, arguments.port), common.key_of(arguments)).get_server()
    print(f"server: listening on {arguments.host}, port {server.address[1]}", flush=True)
    try:
        server.serve_forever()  # until Ctrl-C, which ends it with status 0
    finally:
        print(f"server: ended, {tasks.qsize()} tasks and {results.qsize()} results left")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also when started with `&`
    sys.exit(main())
