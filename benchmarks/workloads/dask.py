"""Data between the workers of Dask and its client: over TCP, or by onecopy.

Two workers and 240 MB. Dask alone sends bytes over the loopback. With `onecopy.dask`, what is
received lies in private pages (as Dask's users have it: writable) or is read-only; or results are
made in the pool, too (born). Each way has clusters of its own, and they alternate.

Then four workers, and as much that the client scatters to all of them, until each has read a number
of each page; and how much memory the workers use then.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.dask_cluster import (
    ARGUMENT,
    BROADCAST,
    BROADCAST_MEMORY,
    CASES,
    EMPTY,
    GATHER,
    MERGE,
    RECHUNK,
    SCATTER,
    SHUFFLE,
    TO_WORKER,
    TRANSPOSED,
)
from benchmarks.harness import interleave
from benchmarks.report import Report, at_least, at_most, quotient

if TYPE_CHECKING:
    from benchmarks.harness import Options

MEGABYTES, QUICK_MEGABYTES = 240, 16
LIMIT = 300  # seconds for one cluster
TCP = "Dask over TCP"
WAYS = {
    TCP: "plain",
    "private pages": "private",
    "read-only": "readonly",
    "born in the pool": "born",
}


def measure(way: str, *sizes: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.dask_cluster", way, *map(str, sizes)]
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        cwd=Path(__file__).parents[2],
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(options: Options) -> Report:
    megabytes = QUICK_MEGABYTES if options.quick else MEGABYTES
    report = Report("dask", f"data of {megabytes} MB in a cluster of Dask with two workers", TCP)
    why_not = peers.without_onecopy(options)
    if why_not is None and importlib.util.find_spec("distributed") is None:
        why_not = "distributed is not installed: pip install 'onecopy[dask]'"
    if why_not:
        report.skipped["onecopy"] = why_not
        return report
    rounds = max(3, round(7 * options.seconds))
    ways = {name: partial(measure, way, rounds, megabytes) for name, way in WAYS.items()}
    outcomes = interleave(ways, options.runs, options.say)
    for case in CASES:
        report.add(case, "ms", outcomes, case)
    broadcast = f"{megabytes} MB: {BROADCAST}"
    report.add(broadcast, "ms", outcomes, BROADCAST)
    report.add(BROADCAST_MEMORY, "copies", outcomes, BROADCAST_MEMORY)

    def gain(case: str, way: str) -> float | None:
        return quotient(report.median(case, TCP), report.median(case, way))

    for case in (TO_WORKER, GATHER, SCATTER, ARGUMENT):
        report.targets.append(at_least(f"{case}: private pages", gain(case, "private pages"), 4.0))
    for case in (TO_WORKER, GATHER):
        report.targets.append(at_least(f"{case}: born", gain(case, "born in the pool"), 10.0))
    report.targets.append(
        at_least(f"{RECHUNK}: private pages", gain(RECHUNK, "private pages"), 1.5)
    )
    copies = report.median(BROADCAST_MEMORY, "private pages")
    report.targets.append(at_most(f"{BROADCAST_MEMORY}: private pages", copies, 1.25, "copies"))
    name = f"{BROADCAST}: private pages"
    report.targets.append(at_least(name, gain(broadcast, "private pages"), 8.0))
    for case in (TRANSPOSED, SHUFFLE, MERGE, EMPTY):
        slower = quotient(report.median(case, "private pages"), report.median(case, TCP))
        report.targets.append(at_most(f"{case}: private pages against TCP", slower, 1.05))
    return report
