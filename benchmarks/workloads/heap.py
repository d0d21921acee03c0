"""The heap under a million random allocations and frees, 64 B to 64 MB, half of the slots live.

The logarithms of the sizes are uniformly distributed. Each operation selects a slot: a full slot is
freed, an empty slot is filled. A call is slow if it takes more than 1 ms and has not grown the pool
(`stats().committed` is not larger after it). If the kernel took the process off its core during a
slow call, and the call used less than 1 ms of processor time, it is counted separately.
"""

from __future__ import annotations

import gc
import resource
from random import Random
from statistics import median
from time import perf_counter_ns, thread_time_ns
from typing import TYPE_CHECKING, Any

from benchmarks import peers
from benchmarks.environment import shared_memory_free
from benchmarks.harness import Member, Team, interleave
from benchmarks.report import Report, at_least, at_most

if TYPE_CHECKING:
    from benchmarks.harness import Options, Outcome, Step

SMALLEST, LARGEST = 64, 64 << 20
# The mean of sizes with uniformly distributed logarithms: (b - a) / ln(b / a).
MEAN = 4_860_000
OPERATIONS, QUICK_OPERATIONS = 1_000_000, 30_000
MOST_SLOTS = 1024
SLOW = 1_000_000
IN_USE, LEAST_IN_USE = "share of committed memory in use", "the same, at its least"
SLOW_CALLS, PREEMPTED = "calls above 1 ms that grew nothing", "the same, off the core"
LONGEST, TYPICAL = "longest call that grew nothing", "median call"


def slots_that_fit() -> int:
    """Return how many slots, half of them live, use at most a quarter of shared memory."""
    return max(64, min(MOST_SLOTS, shared_memory_free() // 4 // MEAN * 2))


def allocate_and_free(slots: int, seed: int) -> Step:
    import onecopy

    pool: Any = onecopy.Pool.create(size=slots * MEAN * 2)
    random = Random(seed)
    span = LARGEST / SMALLEST

    def step(operations: int) -> dict[str, float]:
        live: list[Any] = [None] * slots
        shares: list[float] = []
        times: list[int] = []
        slow = preempted = longest = 0
        committed = pool.stats().committed
        for number in range(operations):
            slot = random.randrange(slots)
            nbytes = int(SMALLEST * span ** random.random())
            switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
            cpu = thread_time_ns()
            start = perf_counter_ns()
            if live[slot] is None:
                live[slot] = pool.empty((nbytes,), "uint8")
            else:
                live[slot] = None
            took = perf_counter_ns() - start
            cpu = thread_time_ns() - cpu
            times.append(took)
            stats = pool.stats()
            grew, committed = stats.committed > committed, stats.committed
            if took > SLOW and not grew:
                off = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw > switches
                if off and cpu < SLOW:
                    preempted += 1
                else:
                    slow += 1
            if not grew:
                longest = max(longest, took)
            # Until every slot has been used a few times, the pool is still filling.
            if number > 8 * slots and number % 64 == 0:
                shares.append(stats.used / stats.committed)
        live.clear()
        assert shares, "too few operations to fill the slots"
        broken = pool.validate()
        assert not broken, broken[:3]
        assert pool.stats().used == 0, "memory is still in use after everything was freed"
        return {
            IN_USE: median(shares),
            LEAST_IN_USE: min(shares),
            SLOW_CALLS: float(slow),
            PREEMPTED: float(preempted),
            LONGEST: longest / 1e6,
            TYPICAL: median(times) / 1e3,
        }

    # Python's garbage collector would delay calls.
    gc.disable()
    return step


def measure(operations: int, seed: int) -> dict[str, float]:
    members = [Member("heap", allocate_and_free, (slots_that_fit(), seed))]
    with Team(members) as team:
        numbers: dict[str, float] = team.step(operations, 300.0)["heap"]
    return numbers


def run(options: Options) -> Report:
    report = Report("heap", "random allocations and frees, 64 B to 64 MB, half live")
    outcomes: dict[str, Outcome] = {}
    why_not = peers.without_onecopy(options)
    if why_not:
        report.skipped["onecopy"] = why_not
    else:
        operations = QUICK_OPERATIONS if options.quick else OPERATIONS
        seeds = iter(range(1, options.runs + 1))
        contenders = {"onecopy": lambda: measure(operations, next(seeds))}
        outcomes = interleave(contenders, options.runs, options.say)
        seeded = f"seeds 1 to {options.runs}"
        report.notes.append(f"{operations:,} operations on {slots_that_fit()} slots, {seeded}")
    units = {
        IN_USE: "",
        LEAST_IN_USE: "",
        SLOW_CALLS: "calls",
        PREEMPTED: "calls",
        LONGEST: "ms",
        TYPICAL: "µs",
    }
    for case, unit in units.items():
        report.add(case, unit, outcomes, case)
    share, slow = report.median(IN_USE, "onecopy"), report.median(SLOW_CALLS, "onecopy")
    report.targets.append(at_least(IN_USE, share, 0.7, ""))
    report.targets.append(at_most(SLOW_CALLS, slow, 0.0, "calls"))
    return report
