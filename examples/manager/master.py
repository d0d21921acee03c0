"""The master: puts tasks, collects results, and says when there is no more to do.

    python master.py [--host 127.0.0.1] [--port 50000] [--key abc] [--tasks 6] [--patience 10]

Half of the tasks are names, the other half pictures. When no result has come for `--patience`
seconds, what nobody has answered is put again: a client may have died. The first answer counts.
"""

from __future__ import annotations

import argparse
import queue
import signal
import sys

import numpy as np

from onecopy.multiprocessing.managers import BaseManager, ServerEnded

SHAPE = (720, 1080, 3)


class Manager(BaseManager):
    """Knows the names of what the server has; the server knows what they are."""


for name in ("get_tasks", "get_results", "get_finished"):
    Manager.register(name)


def make_tasks(count: int) -> dict[int, dict]:
    random = np.random.default_rng(7)
    return {
        number: {"number": number, "name": f"name-{number}"}
        if number % 2 == 0
        else {"number": number, "picture": random.integers(0, 256, SHAPE, np.uint8)}
        for number in range(count)
    }


def is_right(task: dict, result: dict) -> bool:
    if "picture" in task:
        return result["mean"] == float(task["picture"].mean())
    return result["answer"] == task["name"].upper()


def work(manager: Manager, count: int, patience: float) -> int:
    tasks, results = manager.get_tasks(), manager.get_results()
    finished = manager.get_finished()
    finished.clear()  # what an earlier master has said

    missing = make_tasks(count)
    for task in missing.values():
        tasks.put(task)  # a picture is copied into shared memory, once, or else sent
    wrong = 0
    while missing:
        try:
            result = results.get(timeout=patience)
        except queue.Empty:
            print(f"master: no result for {patience:g} s; putting {len(missing)} tasks again")
            for task in missing.values():
                tasks.put(task)
            continue
        task = missing.pop(result["number"], None)
        if task is None:
            continue  # answered before
        wrong += not is_right(task, result)
        print(f"master: {result}", flush=True)
    finished.set()
    print(f"master: {count} tasks answered, {wrong} of them wrongly")
    return int(wrong > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=50000)
    parser.add_argument("--key", default="abc")
    parser.add_argument("--tasks", type=int, default=6)
    parser.add_argument("--patience", type=float, default=10, help="seconds")
    arguments = parser.parse_args()

    manager = Manager((arguments.host, arguments.port), arguments.key.encode())
    try:
        manager.connect()
        return work(manager, arguments.tasks, arguments.patience)
    except KeyboardInterrupt:
        print("master: stopped")
        return 130
    except (ServerEnded, ConnectionError) as error:
        print(f"master: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also when started with `&`
    sys.exit(main())
