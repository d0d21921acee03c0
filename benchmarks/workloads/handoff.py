"""Handing over a block that is already in the pool: put, get in another process, release.

Both sides are busy. No process writes or reads the contents, so the time must not depend on the
size. iceoryx2 hands over a loaned sample that is not filled; the hand-made pool hands over the
number of a block. The largest sizes run only if shared memory has twice the room that they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.environment import shared_memory_free
from benchmarks.flows import flow
from benchmarks.harness import Member, Span, clock, interleave
from benchmarks.report import Report, at_most

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Options, Run, Step
    from benchmarks.peers.base import HandoffChannel

SIZES = {"1 KB": 1_000, "64 KB": 64_000, "1 MB": 1_000_000, "100 MB": 100_000_000, "1 GB": 10**9}
# The sizes for the peers. Their times do not depend on the size.
PEER_SIZES = ("1 KB", "1 MB")
# Blocks that onecopy makes of each size (its adapter: HANDOFF_BLOCKS).
BLOCKS = 4


def give(channel: HandoffChannel) -> Step:
    hand_over = channel.giver()

    def step(count: int) -> Span:
        start = clock()
        for number in range(count):
            hand_over(number)
        return Span(start, clock(), count)

    return step


def take(channel: HandoffChannel, nbytes: int) -> Step:
    take_one = channel.taker()

    def step(count: int) -> Span:
        total = 0
        start = clock()
        for _ in range(count):
            total += take_one()
        end = clock()
        assert total == count * nbytes, f"{total} bytes came, not {count} times {nbytes}"
        return Span(start, end, count)

    return step


def microseconds(make: Callable[[int], HandoffChannel], nbytes: int, seconds: float) -> float:
    """Time per item, from the first put to the last release."""
    channel = make(nbytes)
    try:
        taking = [Member("taker", take, (channel, nbytes))]
        giving = [Member("giver", give, (channel,))]
        return 1e6 / flow(taking, giving, seconds, multiple=1000)
    finally:
        channel.close()


def run(options: Options) -> Report:
    field = peers.load(options)
    report = Report(
        "handoff", "a block that is already there, put + get + release", "hand-made pool"
    )
    report.skipped = field.skipped

    def contender(make: Callable[[int], HandoffChannel], nbytes: int, case: str) -> Run:
        return lambda: {case: microseconds(make, nbytes, options.seconds)}

    sizes = {case: size for case, size in SIZES.items() if fits(size)}
    report.notes += [f"no room for {case}" for case in SIZES if case not in sizes]
    # One contender per peer and size: sizes are compared with each other, so they alternate, too.
    contenders = {
        (peer.name, case): contender(peer.handoff, size, case)
        for case, size in sizes.items()
        for peer in field.peers
        if peer.handoff and (peer.name.startswith("onecopy") or case in PEER_SIZES)
    }
    named = {f"{peer}, {case}": run_ for (peer, case), run_ in contenders.items()}
    outcomes = interleave(named, options.runs, options.say)
    for peer, case in contenders:
        report.add(case, "µs", {peer: outcomes[f"{peer}, {case}"]}, case)

    times = [time for case in sizes if (time := report.median(case, "onecopy")) is not None]
    slowest = max(times, default=None)
    report.targets.append(at_most("onecopy: slowest of all sizes, per item", slowest, 3.0, "µs"))
    spread = max(times) / min(times) if len(times) > 1 else None
    report.targets.append(at_most("onecopy: slowest size against fastest", spread, 1.2))
    return report


def fits(nbytes: int) -> bool:
    """Whether BLOCKS of this size leave half of shared memory free."""
    return 2 * BLOCKS * nbytes <= shared_memory_free()
