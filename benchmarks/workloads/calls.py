"""Results of 100 MB from a worker, and empty calls per second; two workers that have started.

A call makes an array in its worker's private memory, in the same way for all contenders, and
returns it. The time is from then until the caller has the result. For *read* it is until the caller
has also added it up. The sum is checked.

Empty calls return None. They are submitted one by one, and the caller waits for all of them; or
`map` calls them in chunks.
"""

from __future__ import annotations

import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import apart, clock, interleave
from benchmarks.report import NOT_ASKED_FOR, Report, at_least, quotient
from benchmarks.runners import OURS, STANDARD, missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from benchmarks.harness import Options, Run
    from benchmarks.report import Target

LOKY, OUR_JOBLIB = "joblib, loky", "onecopy.joblib"
# In the order in which they take turns, with what each needs.
NEEDED = {
    OURS: ("onecopy",),
    OUR_JOBLIB: ("joblib", "onecopy.joblib"),
    STANDARD: (),
    LOKY: ("joblib",),
}
WORKERS = 2
DOUBLES = 12_500_000  # 100 MB
BACK, READ = "100 MB result", "100 MB result, read"
SUBMIT, MAP = "empty calls, submit", "empty calls, map in chunks of 100"
ROUNDS = 5
CHUNK = 100
LIMIT = 120.0


def fill(number: int) -> tuple[float, NDArray[np.float64]]:
    """Return the time when the result was ready, and the result."""
    array = np.empty(DOUBLES)
    array.fill(number)
    return clock(), array


def nothing(_number: int = 0) -> None:
    return


def executor(peer: str) -> Any:
    context = multiprocessing.get_context("fork")
    if peer == STANDARD:
        return ProcessPoolExecutor(WORKERS, context)
    import onecopy

    return onecopy.Executor(WORKERS, mp_context=context)


def large_results(peer: str) -> dict[str, float]:
    """Return milliseconds. This runs in its own process."""
    with ExitStack() as exits:
        call = caller(peer, exits)
        backs, reads = [], []
        for number in range(1, ROUNDS + 2):  # the first warms up
            ready, array = call(number)
            back = clock()
            total = array.sum()
            read = clock()
            assert total == number * DOUBLES, f"the result adds up to {total}"
            backs.append(back - ready)
            reads.append(read - ready)
            del array
    return {BACK: median(backs[1:]) * 1e3, READ: median(reads[1:]) * 1e3}


def caller(peer: str, exits: ExitStack) -> Callable[[int], tuple[float, NDArray[np.float64]]]:
    """Return a function that calls `fill` in a worker and waits for the result."""
    if peer in {OURS, STANDARD}:
        executor_ = exits.enter_context(executor(peer))
        return lambda number: executor_.submit(fill, number).result(LIMIT)
    import joblib

    if peer == OUR_JOBLIB:
        importlib.import_module("onecopy.joblib")  # it registers itself
    backend = "loky" if peer == LOKY else "onecopy"
    if peer == LOKY:
        # Its workers stay for the next `Parallel`, and would prevent this process from ending.
        from joblib.externals.loky import get_reusable_executor

        exits.callback(lambda: get_reusable_executor().shutdown())
    parallel = exits.enter_context(joblib.Parallel(WORKERS, backend=backend, timeout=LIMIT))
    return lambda number: parallel([joblib.delayed(fill)(number)])[0]


def empty_calls(peer: str, seconds: float) -> dict[str, float]:
    """Return calls per second. This runs in its own process."""
    with executor(peer) as running:

        def submit(count: int) -> None:
            for future in [running.submit(nothing) for _ in range(count)]:
                assert future.result(LIMIT) is None

        def map_(count: int) -> None:
            answers = list(running.map(nothing, range(count), chunksize=CHUNK))
            assert answers == [None] * count

        return {
            SUBMIT: rate(submit, round(5_000 * seconds)),
            MAP: rate(map_, round(200_000 * seconds)),
        }


def rate(action: Callable[[int], None], count: int) -> float:
    """Return how many per second, after a warm-up."""
    action(max(CHUNK, count // 10))
    start = clock()
    action(count)
    return count / (clock() - start)


def run(options: Options) -> Report:
    report = Report("calls", f"large results and empty calls, {WORKERS} workers", STANDARD)
    names = []
    for name, modules in NEEDED.items():
        if not options.wants(name):
            report.skipped[name] = NOT_ASKED_FOR
        elif why_not := missing(*modules):
            report.skipped[name] = why_not
        else:
            names.append(name)

    def results(name: str) -> Run:
        return lambda: apart(large_results, name, limit=LIMIT)

    def empty(name: str) -> Run:
        return lambda: apart(empty_calls, name, options.seconds, limit=LIMIT)

    outcomes = interleave({name: results(name) for name in names}, options.runs, options.say)
    for case in (BACK, READ):
        report.add(case, "ms", outcomes, case)
    both = [name for name in names if name in {OURS, STANDARD}]
    outcomes = interleave({name: empty(name) for name in both}, options.runs, options.say)
    for case in (SUBMIT, MAP):
        report.add(case, "calls/s", outcomes, case)
    report.targets += targets(report)
    return report


def targets(report: Report) -> list[Target]:
    def faster(case: str, ours: str, theirs: str) -> Target:
        measured = quotient(report.median(case, theirs), report.median(case, ours))
        return at_least(f"{case}: {ours}, times as fast as {theirs}", measured, 5.0)

    pairs = ((OURS, STANDARD), (OURS, LOKY), (OUR_JOBLIB, LOKY))
    found = [faster(case, ours, theirs) for case in (BACK, READ) for ours, theirs in pairs]
    for case in (SUBMIT, MAP):
        measured = quotient(report.median(case, OURS), report.median(case, STANDARD))
        found.append(at_least(f"{case}: rate", measured, 1.0))
    return found
