"""Ray on this machine with two workers: `python -m benchmarks.ray_cluster WAY ROUNDS MB`.

WAY is plain or onecopy. It prints the median of each case in milliseconds, as JSON. A case begins
when the sender has the array, and ends when the receiver has read a number in each page of it, and
the sum was right. The first two rounds of each case are not counted. Ray is not in the extras of
the benchmarks: `pip install 'onecopy[ray]'`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from statistics import median
from typing import Any

import numpy as np

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

TO_TASK, TO_DRIVER, PUT = "task to task", "task to driver", "driver to task"
WARM = 2


def made(count: int, value: int, way: str) -> tuple[Any, float]:
    """Make an array, and tell when it was there."""
    import onecopy as oc

    array = (oc.empty if way == "onecopy" else np.empty)(count, "i8")
    array[:] = value
    return array, time.monotonic()


def checked(array: Any, value: int) -> float:
    """Read a number in each page, and tell when that was done."""
    pages = array[::512]
    right = int(pages.sum()) == value * len(pages) and int(array[-1]) == value
    assert right, "other data arrived"
    return time.monotonic()


def rounds(way: str, number: int, count: int) -> dict[str, float]:
    import ray

    make = ray.remote(made)

    @ray.remote
    def take(message: Any, value: int) -> float:
        return checked(message[0], value) - message[1]

    spent: dict[str, list[float]] = {TO_TASK: [], TO_DRIVER: [], PUT: []}
    for value in range(number + WARM):
        spent[TO_TASK].append(ray.get(take.remote(make.remote(count, value, way), value)))
        array, then = ray.get(make.remote(count, value, way))
        spent[TO_DRIVER].append(checked(array, value) - then)
        array, then = made(count, value, way)
        spent[PUT].append(ray.get(take.remote(ray.put((array, then)), value)))
        del array
    return {case: round(median(times[WARM:]) * 1000, 1) for case, times in spent.items()}


def main() -> None:
    way, number, megabytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    options: dict[str, Any] = {
        "num_cpus": 2,
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": "ERROR",
        "object_store_memory": 2 << 30,
    }
    if way == "onecopy":
        import onecopy as oc
        import onecopy.ray

        onecopy.ray.init(pool=oc.Pool.create(size="2GiB"), **options)
    else:
        import ray

        ray.init(**options)
    print(json.dumps(rounds(way, number, megabytes * 125_000)))


if __name__ == "__main__":
    main()
