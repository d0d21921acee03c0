"""One-way latency: a 64-byte message goes back and forth between two processes that only do that.

Each round trip is timed on one side; half of it is one way. Both sides do nothing else: each waits
in its receiving call for the other's answer. Peers that can only poll do so.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import peers
from benchmarks.flows import FILLING
from benchmarks.harness import Member, Team, calibrated, interleave
from benchmarks.report import Report, at_most, quotient

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Options, Run, Step
    from benchmarks.peers.base import MessageChannel

P50, P99 = "p50", "p99"
PILOT = 2000


def ask(forth: MessageChannel, back: MessageChannel) -> Step:
    send, receive = forth.sender(), back.receiver()

    def step(count: int) -> dict[str, float]:
        times = np.zeros(count, np.int64)
        answer = b""
        for number in range(count):
            start = perf_counter_ns()
            send(FILLING)
            answer = receive()
            times[number] = perf_counter_ns() - start
        assert answer == FILLING, f"got {answer!r}"
        p50, p99 = np.percentile(times, (50, 99)) / 2000
        return {P50: float(p50), P99: float(p99), "seconds": float(times.sum()) / 1e9}

    return step


def reply(forth: MessageChannel, back: MessageChannel) -> Step:
    send, receive = back.sender(), forth.receiver()

    def step(count: int) -> int:
        for _ in range(count):
            send(receive())
        return count

    return step


def measure(make: Callable[[], MessageChannel], seconds: float) -> dict[str, float]:
    forth = make()
    back = make()
    members = [Member("answering", reply, (forth, back)), Member("asking", ask, (forth, back))]
    limit = 20.0 + 10 * seconds
    try:
        with Team(members) as team:
            pilot = team.step(PILOT, limit)["asking"]
            count = calibrated(PILOT, pilot["seconds"], seconds)
            numbers: dict[str, float] = team.step(count, limit)["asking"]
        return {P50: numbers[P50], P99: numbers[P99]}
    finally:
        forth.close()
        back.close()


def run(options: Options) -> Report:
    field = peers.load(options)
    report = Report("latency", "64-byte message, one way, both sides hot", "sharedbox stream")
    report.skipped = field.skipped

    def contender(make: Callable[[], MessageChannel]) -> Run:
        return lambda: measure(make, options.seconds)

    contenders = {
        peer.name: contender(hot)
        for peer in field.peers
        if (hot := peer.messages_hot or peer.messages)
    }
    outcomes = interleave(contenders, options.runs, options.say)
    for percentile in (P50, P99):
        report.add(percentile, "µs", outcomes, percentile)

    rival = report.median(P50, "sharedbox stream")
    for name in ("onecopy", "onecopy stream"):
        ours = report.median(P50, name)
        report.targets.append(at_most(f"{name}: one way, p50", ours, 1.2, "µs"))
        against = quotient(ours, rival)
        report.targets.append(at_most(f"{name} against sharedbox's stream, p50", against, 0.8))
    return report
