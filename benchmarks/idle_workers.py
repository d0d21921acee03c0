"""How often idle workers, and the process that has them, wake up.

Run ``python -m benchmarks.idle_workers``. Each kind of pool has workers that have run a call and
have none since a second; then the voluntary context switches of all their threads are counted, and
those of the parent's. What is printed is wake-ups per second: the parent's, and each worker's.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onecopy as oc
from onecopy import multiprocessing as dropin

if TYPE_CHECKING:
    from collections.abc import Callable

SETTLED = 1.5  # seconds after which nothing of the last call is left to do


def who(_: int) -> int:
    """Take so long that each worker gets a call."""
    time.sleep(0.05)
    return os.getpid()


def wake_ups(pid: int) -> int:
    """Count how often the threads of a process have slept and woken."""
    return sum(
        int(line.split()[1])
        for status in Path(f"/proc/{pid}/task").glob("*/status")
        for line in status.read_text("ascii").splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )


def watched(start: Callable[[], Any], workers: int, seconds: float) -> list[float]:
    """Watch a pool: wake-ups per second of the parent, and of each worker."""
    with start() as pool:
        pids = {*pool.map(who, range(workers * 3), chunksize=1)}
        time.sleep(SETTLED)
        processes = [os.getpid(), *pids]
        before = [wake_ups(pid) for pid in processes]
        time.sleep(seconds)
        return [(wake_ups(pid) - n) / seconds for pid, n in zip(processes, before, strict=True)]


def main() -> None:
    """Print a line for each kind of pool."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--seconds", type=float, default=10.0)
    chosen = arguments.parse_args()
    context = multiprocessing.get_context("fork")
    n = chosen.workers
    kinds: dict[str, Callable[[], Any]] = {
        "onecopy.Executor": lambda: oc.Executor(n, mp_context=context),
        "ProcessPoolExecutor": lambda: ProcessPoolExecutor(n, mp_context=context),
        "onecopy.multiprocessing.Pool": lambda: dropin.get_context("fork").Pool(n),
        "multiprocessing.Pool": lambda: context.Pool(n),
    }
    for name, start in kinds.items():
        parent, *workers = watched(start, n, chosen.seconds)
        print(f"{name:30} parent {parent:5.1f}/s, workers", *(f"{each:5.1f}/s" for each in workers))


if __name__ == "__main__":
    main()
