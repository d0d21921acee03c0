"""A client: takes tasks and puts results, until the master says that all is done.

    python client.py [--host 127.0.0.1] [--port 50000] [--key abc] [--work 0]

Start as many as you like, on any machine that can reach the server. An empty queue is no reason to
end: there may be no master yet.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import sys
import time

from onecopy.arrays import lease_of
from onecopy.multiprocessing.managers import BaseManager, ServerEnded

WAIT = 0.5  # seconds after which a client that waits for a task looks whether all is done


class Manager(BaseManager):
    """Knows the names of what the server has; the server knows what they are."""


for name in ("get_tasks", "get_results", "get_finished"):
    Manager.register(name)


def answer(task: dict) -> dict:
    if "picture" in task:
        picture = task["picture"]
        way = "shared memory" if lease_of(picture) is not None else "the socket"
        return {"number": task["number"], "mean": float(picture.mean()), "came by": way}
    return {"number": task["number"], "answer": task["name"].upper()}


def work(manager: Manager, seconds: float) -> int:
    tasks, results = manager.get_tasks(), manager.get_results()
    finished = manager.get_finished()
    print(f"client {os.getpid()}: waiting for tasks", flush=True)
    done = 0
    while True:
        try:
            task = tasks.get(timeout=WAIT)
        except queue.Empty:
            if finished.is_set():
                break
            continue
        print(f"client {os.getpid()}: took task {task['number']}", flush=True)
        time.sleep(seconds)  # what the work takes
        results.put({**answer(task), "client": os.getpid()})
        done += 1
    print(f"client {os.getpid()}: all is done, {done} tasks by me")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=50000)
    parser.add_argument("--key", default="abc")
    parser.add_argument("--work", type=float, default=0, help="seconds that each task takes")
    arguments = parser.parse_args()

    manager = Manager((arguments.host, arguments.port), arguments.key.encode())
    try:
        manager.connect()
        return work(manager, arguments.work)
    except KeyboardInterrupt:
        print(f"client {os.getpid()}: stopped")
        return 130
    except (ServerEnded, ConnectionError) as error:
        print(f"client {os.getpid()}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also when started with `&`
    sys.exit(main())
