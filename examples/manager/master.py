"""The master: puts tasks, collects results, and ends the run.

    python master.py [--host 127.0.0.1] [--port 50000] [--key-file FILE] [--tasks 6] [--timeout 10]

Half of the tasks are names, the other half are pictures. If no result arrives for `--timeout`
seconds, unanswered tasks are put again, because a client may have died. The first answer counts.
Tasks and results carry the name of their run, so that results of an earlier master are ignored.
There is one master at a time: if another one begins, this one ends.
"""

from __future__ import annotations

import queue
import signal
import sys
from multiprocessing import AuthenticationError

import common
import numpy as np

from onecopy.multiprocessing.managers import BaseManager, ServerEnded

SHAPE = (720, 1080, 3)


class Manager(BaseManager):
    """Knows the names of what the server has; the server knows what they are."""


for name in ("get_tasks", "get_results", "get_runs"):
    Manager.register(name)


def make_tasks(run: str, count: int, name: str) -> dict[int, dict]:
    random = np.random.default_rng(7)
    return {
        number: {"run": run, "number": number, "name": f"{name}-{number}"}
        if number % 2 == 0
        else {"run": run, "number": number, "picture": random.integers(0, 256, SHAPE, np.uint8)}
        for number in range(count)
    }


def is_right(task: dict, result: dict) -> bool:
    if "picture" in task:
        return result["mean"] == float(task["picture"].mean())
    return result["answer"] == task["name"].upper()


def work(manager: Manager, count: int, name: str, timeout: float) -> int:
    tasks, results, runs = manager.get_tasks(), manager.get_results(), manager.get_runs()
    run = runs.begin()
    missing = make_tasks(run, count, name)
    for task in missing.values():
        tasks.put(task)  # a picture is copied into shared memory once, or its bytes are sent
    wrong = 0
    while missing:
        try:
            result = results.get(timeout=timeout)
        except queue.Empty:
            result = None
        if result is None or result["run"] != run:
            if runs.current() != run:
                print("master: another one has begun", file=sys.stderr)
                return 1
            if result is None:
                print(f"master: no result for {timeout:g} s; putting {len(missing)} tasks again")
                for task in missing.values():
                    tasks.put(task)
            continue
        task = missing.pop(result["number"], None)
        if task is None:
            continue  # answered before
        wrong += not is_right(task, result)
        print(f"master: {result}", flush=True)
    runs.end(run)
    print(f"master: {count} tasks answered, {wrong} of them wrongly")
    return int(wrong > 0)


def main() -> int:
    parser = common.parser(__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=6)
    parser.add_argument("--name", default="name", help="what the names begin with")
    parser.add_argument("--timeout", type=float, default=10, help="seconds")
    arguments = parser.parse_args()

    manager = Manager((arguments.host, arguments.port), common.key_of(arguments))
    try:
        manager.connect()
        return work(manager, arguments.tasks, arguments.name, arguments.timeout)
    except KeyboardInterrupt:
        print("master: stopped")
        return 130
    except (ServerEnded, ConnectionError, AuthenticationError) as error:
        print(f"master: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also when started with `&`
    sys.exit(main())
