"""One-way latency to a receiver that sleeps: a 64-byte message every few milliseconds.

The message carries the time at which the sender began to send it; the receiver subtracts it from
the time at which it has it. Both read CLOCK_MONOTONIC, which is one clock for all processes. Pauses
are from 2 to 4 ms, drawn from a fixed seed: longer than anybody spins, except those that only poll.
What the receiver's process used of a core tells those: next to nothing for one that sleeps, 100 %
for one that polls. "(futex alone)" is a message in a shared page and a bare futex from Python:
nobody can wake a sleeper in less.
"""

from __future__ import annotations

import time
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import peers
from benchmarks.harness import Member, Team, interleave
from benchmarks.peers.base import MESSAGE_BYTES
from benchmarks.report import Report, at_most, quotient

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Options, Run, Step
    from benchmarks.peers.base import MessageChannel

P50, P99, USED = "p50", "p99", "the receiver uses"
YARDSTICK = "(futex alone)"
SHORTEST_PAUSE, LONGEST_PAUSE = 0.002, 0.004
WARMING = 20
FILLING = bytes(range(16, MESSAGE_BYTES))


def tell(channel: MessageChannel) -> Step:
    send = channel.sender()
    generator = np.random.default_rng(7)

    def step(count: int) -> int:
        for number, pause in enumerate(generator.uniform(SHORTEST_PAUSE, LONGEST_PAUSE, count)):
            time.sleep(pause)
            head = number.to_bytes(8, "little")
            send(head + perf_counter_ns().to_bytes(8, "little") + FILLING)
        return count

    return step


def hear(channel: MessageChannel) -> Step:
    receive = channel.receiver()

    def step(count: int) -> dict[str, float]:
        times = np.zeros(count, np.int64)
        used, began = time.process_time(), time.perf_counter()
        for number in range(count):
            message = receive()
            now = perf_counter_ns()
            times[number] = now - int.from_bytes(message[8:16], "little")
            head = int.from_bytes(message[:8], "little")
            assert head == number, f"message {head} came for {number}"
            assert message[16:] == FILLING, f"message {number} came as {message!r}"
        used = (time.process_time() - used) / (time.perf_counter() - began)
        p50, p99 = np.percentile(times, (50, 99)) / 1000
        return {P50: float(p50), P99: float(p99), USED: 100 * used}

    return step


def measure(make: Callable[[], MessageChannel], seconds: float) -> dict[str, float]:
    channel = make()
    # At least 50, or there is no 99th percentile to speak of.
    count = max(50, round(seconds / ((SHORTEST_PAUSE + LONGEST_PAUSE) / 2)))
    try:
        members = [Member("receiver", hear, (channel,)), Member("sender", tell, (channel,))]
        with Team(members) as team:
            team.step(WARMING, 20.0)
            numbers: dict[str, float] = team.step(count, 20.0 + 10 * seconds)["receiver"]
        return numbers
    finally:
        channel.close()


def run(options: Options) -> Report:
    field = peers.load(options)
    report = Report("cold", "64-byte message, one way, the receiver sleeps", "multiprocessing.Pipe")
    report.skipped = field.skipped

    def contender(make: Callable[[], MessageChannel]) -> Run:
        return lambda: measure(make, options.seconds)

    contenders = {
        peer.name: contender(cold)
        for peer in field.peers
        if (cold := peer.messages_cold or peer.messages)
    }
    outcomes = interleave(contenders, options.runs, options.say)
    for percentile in (P50, P99):
        report.add(percentile, "µs", outcomes, percentile)
    report.add(USED, "% of a core", outcomes, USED)
    for percentile in (P50, P99):
        against = quotient(
            report.median(percentile, "onecopy"), report.median(percentile, YARDSTICK)
        )
        report.targets.append(at_most(f"onecopy against a bare futex, {percentile}", against, 1.2))
    return report
