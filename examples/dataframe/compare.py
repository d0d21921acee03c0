"""The same table for all workers, with and without onecopy: time and memory.

    python compare.py [--rows 1_000_000,10_000_000] [--workers 2] [--tasks 8] [--chart out.png]

Each task adds up one column of the whole table. Every measurement runs in a fresh process. Every
sum is checked; the script ends with status 1 if one is wrong.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from ways import CHUNK, ROW, WAYS, add_up, expected_sum, make_table, use

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.synchronize import Barrier

    import numpy as np

LIMIT = 120  # seconds: a watchdog, not a measurement


class Result(NamedTuple):
    """The cost of one way, for one number of rows."""

    seconds: float  # from making the executor to its end
    memory: float  # bytes that the table adds to the PSS of all processes while workers have it
    allocated: float  # bytes: the peak of tracemalloc in this process


def measure_time(way: str, rows: int, workers: int, tasks: int) -> float:
    table = make_table(rows)
    start = time.perf_counter()
    with WAYS[way].prepare(table) as handed, WAYS[way].executor(workers) as executor:
        futures = [executor.submit(use, add_up, handed) for _ in range(tasks)]
        sums = [future.result() for future in futures]
    seconds = time.perf_counter() - start
    check(sums, rows)
    return seconds


def measure_memory(way: str, rows: int, workers: int) -> tuple[int, int]:
    barrier = multiprocessing.Barrier(workers + 1, timeout=LIMIT)
    # No reference to the table stays here: a way keeps the table only if it needs it (`in_the_pool`
    # does not).
    preparing = WAYS[way].prepare(make_table(rows))
    tracemalloc.start()
    executor = WAYS[way].executor(workers, initializer=meet_at, initargs=(barrier,))
    with preparing as handed, executor:
        futures = [executor.submit(use, add_up_and_hold, handed) for _ in range(workers)]
        barrier.wait()  # now each worker has the table
        memory = proportional_memory()
        barrier.wait()
        sums = [future.result() for future in futures]
    check(sums, rows)
    return memory, tracemalloc.get_traced_memory()[1]


def add_up_and_hold(table: np.recarray) -> float:
    # In pieces: memory that adding up needs besides the table, and that malloc keeps, must not
    # count.
    total = sum(add_up(table[first : first + CHUNK]) for first in range(0, len(table), CHUNK))
    barrier.wait()
    barrier.wait()
    return total


def meet_at(meeting: Barrier) -> None:
    global barrier  # noqa: PLW0603 - a worker's own
    barrier = meeting


barrier: Barrier


def check(sums: list[float], rows: int) -> None:
    if set(sums) != {expected_sum(rows)}:
        raise ValueError(f"workers found {set(sums)}, it should be {expected_sum(rows)}")


def proportional_memory() -> int:
    """Return the memory of this process and its children in bytes; a shared page counts once."""
    children = [process.pid for process in multiprocessing.active_children()]
    total = 0
    for pid in [os.getpid(), *children]:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    method = multiprocessing.get_start_method()  # for the workers: the same as here
    with ProcessPoolExecutor(1, spawn, start_workers_by, (method,)) as executor:
        return executor.submit(function, *arguments).result(LIMIT)


def start_workers_by(method: str) -> None:
    multiprocessing.set_start_method(method, force=True)


def compare(rows: int, workers: int, tasks: int, repeat: int) -> dict[str, Result]:
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(repeat):  # alternating: if the machine becomes slower, it does so for all
        for way in WAYS:
            times[way].append(apart(measure_time, way, rows, workers, tasks))
    results = {}
    for way in WAYS:
        without, _ = apart(measure_memory, way, 1, workers)
        memory, allocated = apart(measure_memory, way, rows, workers)
        results[way] = Result(median(times[way]), memory - without, allocated)
    return results


def show(rows: int, results: dict[str, Result]) -> None:
    size = rows * ROW.itemsize
    title = f"{rows:,} rows, {size / 1e6:,.0f} MB"
    print(f"{title:<30}{'wall time':>10}{'memory (PSS)':>16}{'tracemalloc':>13}")
    for way, result in results.items():
        print(
            f"  {way:<28}{result.seconds:8.2f} s{result.memory / size:9.2f} copies"
            f"{result.allocated / 1e6:10.1f} MB"
        )


def main() -> int:
    arguments = parse_arguments()
    found = {}
    for rows in arguments.rows:
        found[rows] = compare(rows, arguments.workers, arguments.tasks, arguments.repeat)
        show(rows, found[rows])
    if arguments.chart:
        from chart import draw

        draw(found, arguments.workers, arguments.tasks, arguments.chart)
        print(f"\nchart: {arguments.chart}")
    return 0


def parse_arguments() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=numbers, default=[1_000_000, 10_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3, help="runs the times are medians of")
    parser.add_argument("--chart", type=Path, help="a picture to write (needs matplotlib)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
