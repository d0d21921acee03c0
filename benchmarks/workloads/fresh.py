"""One-way latency of two processes that have just started: a 64-byte message back and forth.

Unlike `latency`, nothing warms the two up. Each run starts two processes. The answering process
begins to wait some milliseconds before the first message, so it sleeps, and the asking process
waits for it to wake. A waiting call that still sleeps then, although answers take less time
than a wake-up, shows here. All round trips count, also the first. The median over a run is one
number, and the largest of these numbers is the target: it must hold in every run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.harness import Member, Team, interleave
from benchmarks.report import Report, at_most
from benchmarks.workloads.latency import P50, P99, ask, reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Options, Run
    from benchmarks.peers.base import MessageChannel

ROUND_TRIPS = 20_000
PAUSE = 0.02  # seconds after which a waiting process sleeps
RUNS = 20  # a pair that never warms up may be one of many
MOST = 2.0  # µs


def measure(make: Callable[[], MessageChannel], round_trips: int = ROUND_TRIPS) -> dict[str, float]:
    """Percentiles over the first round trips of two new processes."""
    forth = make()
    back = make()
    members = [Member("answering", reply, (forth, back)), Member("asking", ask, (forth, back))]
    try:
        with Team(members) as team:
            team.tell(round_trips, ["answering"])
            time.sleep(PAUSE)
            team.tell(round_trips, ["asking"])
            numbers: dict[str, float] = team.collect(60.0)["asking"]
        return {P50: numbers[P50], P99: numbers[P99]}
    finally:
        forth.close()
        back.close()


def run(options: Options) -> Report:
    field = peers.load(options)
    report = Report("fresh", "64-byte message, one way, two processes that just started", None)
    report.skipped = field.skipped
    round_trips = ROUND_TRIPS // 10 if options.quick else ROUND_TRIPS
    runs = 1 if options.quick else max(RUNS, options.runs)

    def contender(make: Callable[[], MessageChannel]) -> Run:
        return lambda: measure(make, round_trips)

    # Only calls that wait by themselves: those of `messages_hot` poll.
    contenders = {peer.name: contender(peer.messages) for peer in field.peers if peer.messages}
    outcomes = interleave(contenders, runs, options.say)
    for percentile in (P50, P99):
        report.add(percentile, "µs", outcomes, percentile)
    for name in ("onecopy", "onecopy stream"):
        medians = outcomes[name].values.get(P50, []) if name in outcomes else []
        worst = max(medians) if medians else None
        report.targets.append(
            at_most(f"{name}: p50 in each of {len(medians)} runs", worst, MOST, "µs")
        )
    return report
