"""Eight calls in two workers over the same table: time and memory; `get` of a 1 GB data frame.

The table has rows of (date, number with NaN, text): 24 bytes each in a recarray, about 30 in a
pandas frame. Each call returns the `nansum` of the numbers, which is checked. A run is a fresh
process that makes the table, and then times

* *cold*: making the executor, copying the table for the calls, the calls, and shutting down;
* *warm*: a new table, the copying and the calls, with an executor whose workers have started.

For memory, another process starts the workers and makes a call with a small table in each of them.
Then it measures the memory of itself, its workers and a manager's server: the baseline. This is the
sum of their proportional set sizes, and of the files in shared memory that they have open, mapped
or not. Then it makes the table and submits the eight calls. When each worker has summed its table
and still has it, memory is measured again. The difference is reported in copies of the table. For
*given*, the table stays in private memory of the caller. For *shared first*, the caller uses the
copy in shared memory (``table = oc.put(table).get()``) and drops the original; the standard
executor cannot do this. The peak of tracemalloc is of the same run as *given*. It counts what
Python and numpy allocate in the caller from the first `submit` to the last result.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import tracemalloc
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import memory, peers
from benchmarks.environment import memory_available
from benchmarks.harness import apart, clock, interleave
from benchmarks.inputs import (
    ROW,
    data_frame,
    frugal_nansum,
    nansum,
    record_table,
    sum_of_values,
)
from benchmarks.report import Report, at_least, at_most, quotient
from benchmarks.runners import BY_HAND, OURS, RUNNERS, STANDARD, load, missing

if TYPE_CHECKING:
    from benchmarks.harness import Options, Outcome, Run
    from benchmarks.report import Target
    from benchmarks.runners import Runner

WORKERS, CALLS = 2, 8
ROWS = (1_000_000, 10_000_000)
RECORDS, FRAME = "recarray", "DataFrame"
COLD, WARM = "cold", "warm"
GIVEN, SHARED, TRACED = "memory, given", "memory, shared first", "tracemalloc peak"
MAKERS = {RECORDS: record_table, FRAME: data_frame}
LIMIT = 180.0

BIG_FRAME_ROWS, BIG_FRAME_COLUMNS = 12_500_000, 10  # of 8 bytes: 1 GB
BIG_FRAME_NEEDS = 4 << 30
GET, PUT = "get of a 1 GB DataFrame", "put of a 1 GB DataFrame"
GETS = 20


# -------------------------------------------------------------------------------------------- time


def timed(peer: str, kind: str, rows: int) -> dict[str, float]:
    """Return milliseconds, cold and warm. This runs in its own process."""
    runner_of = load(peer)
    table, expected = MAKERS[kind](rows), sum_of_values(rows)
    start = clock()
    with runner_of(WORKERS) as runner:
        sums = runner.results(nansum, table, CALLS)
    cold = clock() - start
    check(sums, expected)
    table = table.copy()
    with runner_of(WORKERS, gated=True) as runner:
        runner.visit(nansum, MAKERS[kind](1000))
        assert runner.gate
        runner.gate.opened.set()
        start = clock()
        sums = runner.results(nansum, table, CALLS)
        warm = clock() - start
    check(sums, expected)
    return {COLD: cold * 1e3, WARM: warm * 1e3}


def check(sums: list[float], expected: float) -> None:
    assert sums == [expected] * CALLS, f"{sums} are not all {expected}"


# ------------------------------------------------------------------------------------------ memory


def held(peer: str, kind: str, rows: int) -> dict[str, float]:
    """Return memory and tracemalloc's peak in copies of the table, which is in private memory."""
    with load(peer)(WORKERS, gated=True) as runner:
        baseline = before(runner, kind)
        table = MAKERS[kind](rows)
        trim()
        tracemalloc.start()
        used = at_work(runner, table, rows) - baseline
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        nbytes = size_of(table)
        del table
    return {GIVEN: used / nbytes, TRACED: peak / nbytes}


def held_shared(peer: str, kind: str, rows: int) -> dict[str, float]:
    """Return memory in copies of the table, which is in shared memory only."""
    with load(peer)(WORKERS, gated=True) as runner:
        MAKERS[kind](rows)  # what this leaves in allocators is not part of the table
        baseline = before(runner, kind)
        table = runner.place(MAKERS[kind](rows))
        trim()
        used = at_work(runner, table, rows) - baseline
        nbytes = size_of(table)
        del table
    return {SHARED: used / nbytes}


def before(runner: Runner, kind: str) -> int:
    """Return the memory before the table exists, after the same work with a small table."""
    for _ in range(2):
        small = MAKERS[kind](1000)
        runner.visit(frugal_nansum, runner.place(small))
        del small
    trim()
    return memory.together()


def trim() -> None:
    """Free the memory that making the table needed besides the table."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()


def size_of(table: Any) -> int:
    """Bytes of a table."""
    nbytes = table.memory_usage(deep=True).sum() if hasattr(table, "columns") else table.nbytes
    return int(nbytes)


def at_work(runner: Runner, table: Any, rows: int) -> int:
    """Return the memory while every worker has the table."""
    futures = runner.submit(frugal_nansum, table, CALLS)
    runner.arrived()
    used = memory.together()
    assert runner.gate
    runner.gate.opened.set()
    check([future.result(LIMIT) for future in futures], sum_of_values(rows))
    return used


# --------------------------------------------------------------------------------------- 1 GB frame


def get_big_frame() -> dict[str, float]:
    """Milliseconds for `put` and `get` of a frame of float and integer columns."""
    import pandas as pd

    import onecopy

    half = BIG_FRAME_COLUMNS // 2
    numbers = np.arange(BIG_FRAME_ROWS * half, dtype="i8").reshape(BIG_FRAME_ROWS, half)
    frame = pd.concat(
        [
            pd.DataFrame(numbers, columns=[f"i{number}" for number in range(half)]),
            pd.DataFrame(numbers / 2, columns=[f"f{number}" for number in range(half)]),
        ],
        axis=1,
        copy=False,
    )
    with onecopy.Pool.create(size=frame.memory_usage().sum() + (64 << 20)) as pool:
        start = clock()
        ref = pool.put(frame)
        putting = clock() - start
        gets = []
        for _ in range(GETS):
            start = clock()
            got = ref.get()
            gets.append(clock() - start)
        assert got.shape == frame.shape
        assert (got.iloc[-1] == frame.iloc[-1]).all()
        assert got["i3"].sum() == frame["i3"].sum()
        del got
        ref.release()
    return {GET: median(gets) * 1e3, PUT: putting * 1e3}


# ---------------------------------------------------------------------------------------------- all


def run(options: Options) -> Report:
    report = Report("tables", f"{CALLS} calls, {WORKERS} workers, one table", STANDARD)
    names = [name for name in RUNNERS if options.wants(name)]
    why_not = peers.without_onecopy(options)
    if why_not:
        report.skipped[OURS] = why_not
        names = [name for name in names if name != OURS]
    without_pandas = missing("pandas")
    by_pickle = [name for name in names if name != BY_HAND]
    for rows in ROWS:
        for kind, contenders in ((RECORDS, names), (FRAME, by_pickle)):
            if kind == FRAME and without_pandas:
                continue
            add_times(report, options, contenders, kind, rows)
            add_memory(report, options, contenders, kind, rows)
    if without_pandas:
        report.skipped[FRAME] = without_pandas
    elif OURS in names:
        add_big_frame(report, options)
    report.targets += targets(report)
    report.notes += [
        "cold: executor made, table copied, calls, shut down; warm: table copied, calls",
        "copies: PSS and shared memory of all while each worker has the table, less that of before",
    ]
    return report


def add_times(report: Report, options: Options, names: list[str], kind: str, rows: int) -> None:
    def contender(name: str) -> Run:
        return lambda: apart(timed, name, kind, rows, limit=LIMIT)

    outcomes = interleave({name: contender(name) for name in names}, options.runs, options.say)
    for case in (COLD, WARM):
        report.add(case_of(kind, rows, case), "ms", outcomes, case)


def add_memory(report: Report, options: Options, names: list[str], kind: str, rows: int) -> None:
    def contender(name: str) -> Run:
        def measure() -> dict[str, float]:
            numbers: dict[str, float] = apart(held, name, kind, rows, limit=LIMIT)
            if name != STANDARD:
                numbers |= apart(held_shared, name, kind, rows, limit=LIMIT)
            return numbers

        return measure

    outcomes = interleave({name: contender(name) for name in names}, options.runs, options.say)
    for case in (GIVEN, SHARED, TRACED):
        report.add(case_of(kind, rows, case), "copies", having(outcomes, case), case)


def having(outcomes: dict[str, Outcome], key: str) -> dict[str, Outcome]:
    """Return the contenders that have such a number, or that failed."""
    return {
        name: outcome
        for name, outcome in outcomes.items()
        if key in outcome.values or not outcome.values
    }


def add_big_frame(report: Report, options: Options) -> None:
    available = memory_available()
    if available < BIG_FRAME_NEEDS:
        report.skipped[GET] = (
            f"{available / (1 << 30):.1f} GiB are available, {BIG_FRAME_NEEDS >> 30} are wanted"
        )
        return
    contenders: dict[str, Run] = {OURS: lambda: apart(get_big_frame, limit=LIMIT)}
    outcomes = interleave(contenders, options.runs, options.say)
    for case in (GET, PUT):
        report.add(case, "ms", outcomes, case)


def case_of(kind: str, rows: int, case: str) -> str:
    if kind == RECORDS:
        return f"{rows * ROW.itemsize / 1e6:.0f} MB {kind}, {case}"
    return f"{rows / 1e6:.0f} M rows {kind}, {case}"


def targets(report: Report) -> list[Target]:
    found = []
    for rows in ROWS:
        for kind in (RECORDS, FRAME):
            case = case_of(kind, rows, COLD)
            ours = report.median(case, OURS)
            for theirs, limit in ((STANDARD, 4.0), (BY_HAND, 1.0)):
                if theirs == BY_HAND and kind == FRAME:  # it is not done by hand
                    continue
                faster = quotient(report.median(case, theirs), ours)
                found.append(at_least(f"{case}: times as fast as {theirs}", faster, limit))
            case = case_of(kind, rows, SHARED)
            found.append(at_most(case, report.median(case, OURS), 1.15, "copies"))
    found.append(at_most(GET, report.median(GET, OURS), 1.0, "ms"))
    return found
