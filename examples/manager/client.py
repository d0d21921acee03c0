"""A client: takes tasks and puts results, until the master ends the run.

    python client.py [--host 127.0.0.1] [--port 50000] [--key-file FILE] [--work 0] [--stay]

Start any number of clients, on any machine that can reach the server. A client does not end because
the queue is empty: there may be no master yet. With `--stay` it does not end after a run either.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import time
from multiprocessing import AuthenticationError

import common

from onecopy.multiprocessing.managers import BaseManager, ServerEnded

WAIT = 0.5  # seconds after which a waiting client checks whether the run has ended


class Manager(BaseManager):
    """Knows the names of what the server has; the server knows what they are."""


for name in ("get_tasks", "get_results", "get_runs"):
    Manager.register(name)


def answer(task: dict) -> dict:
    mine = {"run": task["run"], "number": task["number"], "client": os.getpid()}
    if "picture" in task:
        return {**mine, "mean": float(task["picture"].mean())}
    return {**mine, "answer": task["name"].upper()}


def work(manager: Manager, seconds: float, stay: bool) -> int:
    tasks, results, runs = manager.get_tasks(), manager.get_results(), manager.get_runs()
    ended = runs.ended()  # at our start; a run may begin and end without a task for us
    print(f"client {os.getpid()}: waiting for tasks", flush=True)
    done = 0
    while True:
        try:
            task = tasks.get(timeout=WAIT)
        except queue.Empty:
            if runs.current() is None and runs.ended() > ended and not stay:
                break
            continue
        if task["run"] != runs.current():
            continue  # a task of a master that was killed
        print(f"client {os.getpid()}: took task {task['number']}", flush=True)
        time.sleep(seconds)  # simulates work
        results.put(answer(task))
        done += 1
    print(f"client {os.getpid()}: all is done, {done} tasks by me")
    return 0


def main() -> int:
    parser = common.parser(__doc__.splitlines()[0])
    parser.add_argument("--work", type=float, default=0, help="seconds that each task takes")
    parser.add_argument("--stay", action="store_true", help="wait for the next master, too")
    arguments = parser.parse_args()

    manager = Manager((arguments.host, arguments.port), common.key_of(arguments))
    try:
        manager.connect()
        return work(manager, arguments.work, arguments.stay)
    except KeyboardInterrupt:
        print(f"client {os.getpid()}: stopped")
        return 130
    except (ServerEnded, ConnectionError, AuthenticationError) as error:
        print(f"client {os.getpid()}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also when started with `&`
    sys.exit(main())
