"""Speed in a pool with many things, and with many processes.

Put, get and a queue hand-off to another process are timed in an empty pool, in one with 100,000
live blocks, in one with 1,000 named queues, and in one to which 64 more processes are attached.
Then four senders and four receivers share one queue, against one and one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from benchmarks import peers
from benchmarks.flows import flow, single_rate
from benchmarks.harness import Member, Team, interleave
from benchmarks.report import Report, at_least, at_most, quotient
from benchmarks.workloads import handoff
from benchmarks.workloads.objects import filled, small

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Options, Run, Step
    from benchmarks.peers.base import MessageChannel

EMPTY = "empty pool"
BLOCKS, QUEUES, PROCESSES = 100_000, 1_000, 64
CROWDED = {
    "blocks": f"{BLOCKS:,} live blocks",
    "queues": f"{QUEUES:,} named queues",
    "processes": f"{PROCESSES} more processes",
}
COSTS = ("put 1 KB", "get 1 KB", "hand-off")
POOL_BYTES = 1 << 30
LIVE_BLOCK = bytes(200)
HANDED_OVER = 64_000
ALONE, CROWD = "1 x 1", "4 x 4"


def crowd(name: str, kind: str) -> Step:
    """A member that fills the pool with live blocks or queues, or attaches processes, and stays."""
    import onecopy

    kept: list[Any] = []
    if kind == "processes":
        # Forked before this process has opened the pool, so each of them opens it itself.
        kept.extend(attached(name) for _ in range(PROCESSES))
        for opened, _hold in kept:
            assert os.read(opened, 1) == b"y", "a process could not attach"
    else:
        pool: Any = onecopy.Pool.open(name)
        kept.append(pool)
        if kind == "blocks":
            kept.extend(pool.put(LIVE_BLOCK) for _ in range(BLOCKS))
        else:
            kept.extend(pool.queue(f"crowd-{number}", maxsize=16) for number in range(QUEUES))

    def step(_count: int) -> int:
        return len(kept)

    return step


def attached(name: str) -> tuple[int, int]:
    """Fork a process that joins the pool until our end of a pipe is closed."""
    opened, tell = os.pipe()
    wait, hold = os.pipe()
    if os.fork():
        os.close(tell)
        os.close(wait)
        return opened, hold
    try:
        # Keep only these two: the ends of other pipes would keep earlier siblings alive.
        low, high = sorted((tell, wait))
        os.closerange(3, low)
        os.closerange(low + 1, high)
        os.closerange(high + 1, high + 2 * PROCESSES + 64)
        import onecopy

        pool: Any = onecopy.Pool.open(name)
        os.write(tell, b"y")
        os.read(wait, 1)
        pool.close()
    finally:
        os._exit(0)


def store(name: str) -> Step:
    import onecopy

    pool: Any = onecopy.Pool.open(name)
    array = filled(1000)

    def step(count: int) -> tuple[float, float]:
        return small(pool.put, array, count)

    return step


def measure(kind: str | None, seconds: float) -> dict[str, float]:
    """Microseconds per put, get and hand-off in a fresh pool that `kind` has been added to."""
    from benchmarks.peers.onecopy_blocks import ArrayHandoff

    channel = ArrayHandoff(HANDED_OVER, POOL_BYTES)
    crowded = [Member("crowd", crowd, (channel.name, kind))] if kind else []
    storing = [Member("store", store, (channel.name,))]
    taking = [Member("taker", handoff.take, (channel, HANDED_OVER))]
    giving = [Member("giver", handoff.give, (channel,))]
    try:
        with Team(crowded, start_limit=180.0):
            with Team(storing) as team:
                put, get = team.step(round(50_000 * seconds), 60.0)["store"]
            per_item = 1e6 / flow(taking, giving, seconds, multiple=1000)
        return dict(zip(COSTS, (put, get, per_item), strict=True))
    finally:
        channel.close()


def run(options: Options) -> Report:
    field = peers.load(options)
    report = Report("scale", "a crowded pool; many senders and receivers")
    report.skipped = field.skipped

    def contender(kind: str | None) -> Run:
        return lambda: measure(kind, options.seconds / 2)

    if any(peer.name == "onecopy" for peer in field.peers):
        pools = {EMPTY: contender(None)}
        pools |= {label: contender(kind) for kind, label in CROWDED.items()}
        outcomes = interleave(pools, options.runs, options.say)
        for label, outcome in outcomes.items():
            for cost in COSTS:
                report.add(f"{cost}, {label}", "µs", {"onecopy": outcome}, cost)

    def many(make: Callable[[], MessageChannel], each: int) -> float:
        return single_rate(make, options.seconds, each, each)

    def both(make: Callable[[], MessageChannel]) -> Run:
        return lambda: {ALONE: many(make, 1), CROWD: many(make, 4)}

    sharers = {
        peer.name: both(peer.messages) for peer in field.peers if peer.shared and peer.messages
    }
    outcomes = interleave(sharers, options.runs, options.say)
    for case in (ALONE, CROWD):
        report.add(case, "messages/s", outcomes, case)

    for label in CROWDED.values():
        for cost in COSTS:
            crowded = report.median(f"{cost}, {label}", "onecopy")
            empty = report.median(f"{cost}, {EMPTY}", "onecopy")
            target = at_most(f"{cost}, {label} against empty", quotient(crowded, empty), 1.5)
            report.targets.append(target)
    kept = quotient(report.median(CROWD, "onecopy"), report.median(ALONE, "onecopy"))
    report.targets.append(at_least(f"messages, {CROWD} against {ALONE}", kept, 0.7))
    return report
