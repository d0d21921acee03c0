"""The server: two queues that any machine may reach, and a note of the run that is on.

    python server.py [--host 127.0.0.1] [--port 50000] [--key-file FILE]

Port 0 takes a free one. It runs until Ctrl-C.
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
    """Which master's run is on. The queues outlive a master, and what it left in them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: str | None = None
        self._ended = 0

    def ended(self) -> int:
        """Count the runs that have ended."""
        return self._ended

    def current(self) -> str | None:
        """Give the run that is on; None: there is none."""
        return self._current

    def begin(self) -> str:
        """Begin a run, in place of one that is on: its master was killed, or has to end now."""
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
    """Hands out proxies of the three; whoever asks gets the same ones."""


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
