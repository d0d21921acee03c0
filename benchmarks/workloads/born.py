"""Results of numpy that are made in a pool (`onecopy.born_in_pool`), or copied there.

One process computes results of 64 MB and hands each over by a queue to itself. It does so with
ordinary memory, which is copied into the pool once, and with memory of the pool. The two alternate.
The computation alone is measured, too: memory of a pool is slower when a page is used for the first
time, and faster when it is used again, because the pool keeps its pages.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import peers
from benchmarks.harness import Member, Team, clock, interleave
from benchmarks.report import Report, at_least, at_most, quotient

if TYPE_CHECKING:
    from benchmarks.harness import Options, Step

COUNT = 8_000_000  # float64
COMPUTE, HAND_OVER, BOTH = "compute 64 MB", "hand over 64 MB", "compute and hand over 64 MB"
SMALL = "np.empty(10)"
ORDINARY, BORN = "ordinary memory", "born in the pool"


def setup() -> Step:
    import onecopy

    pool: Any = onecopy.Pool.create(size=16 * 8 * COUNT)
    queue = pool.queue(maxsize=2)
    source = np.arange(COUNT, dtype="f8")

    def once(number: int) -> tuple[float, float]:
        start = clock()
        result = np.multiply(source, number)
        computed = clock()
        queue.put(result)
        got = queue.get()
        handed = clock()
        assert got[1] == number
        assert got[-1] == (COUNT - 1) * number
        return (computed - start) * 1e6, (handed - computed) * 1e6

    def small() -> float:
        empty, rounds = np.empty, range(20_000)
        start = clock()
        for _ in rounds:
            empty(10)
        return (clock() - start) / len(rounds) * 1e6

    def rounds(count: int, switch: Any) -> dict[str, float]:
        with switch:
            once(2)
            compute, hand_over = np.median([once(n + 3) for n in range(count)], axis=0)
            return {
                COMPUTE: float(compute),
                HAND_OVER: float(hand_over),
                BOTH: float(compute + hand_over),
                SMALL: small(),
            }

    def step(count: int) -> dict[str, dict[str, float]]:
        return {
            ORDINARY: rounds(count, contextlib.nullcontext()),
            BORN: rounds(count, onecopy.born_in_pool("1MiB", pool)),
        }

    return step


def measure(seconds: float) -> dict[str, float]:
    with Team([Member("process", setup)]) as team:
        found = team.step(max(3, round(15 * seconds)), 60.0 + 60 * seconds)["process"]
    return {
        f"{way}: {case}": value for way, cases in found.items() for case, value in cases.items()
    }


def run(options: Options) -> Report:
    report = Report("born", "results of numpy that are made in a pool", ORDINARY)
    why_not = peers.without_onecopy(options)
    if why_not:
        report.skipped["onecopy"] = why_not
        return report
    outcomes = interleave({"onecopy": lambda: measure(options.seconds)}, options.runs, options.say)
    for case in (COMPUTE, HAND_OVER, BOTH, SMALL):
        for way in (ORDINARY, BORN):
            report.add(case, "µs", {way: outcomes["onecopy"]}, f"{way}: {case}")

    def gain(case: str) -> float | None:
        return quotient(report.median(case, ORDINARY), report.median(case, BORN))

    report.targets += [
        at_least(f"{HAND_OVER}: ordinary against born", gain(HAND_OVER), 100.0),
        at_least(f"{BOTH}: ordinary against born", gain(BOTH), 1.5),
        at_most(
            f"{SMALL}: born against ordinary",
            quotient(report.median(SMALL, BORN), report.median(SMALL, ORDINARY)),
            1.1,
        ),
    ]
    return report
