"""2.33 MB frames: one producer copies each in, one consumer reads every 4096th byte.

The producer writes a number into the first and the last bytes of each frame. The consumer checks
both numbers, and the sum of the bytes that it reads, so that a late, torn or lost frame is an
error. At most FRAME_DEPTH frames are in transit. "copy and look, one process" is the same work
without transport. It is for comparison and is not an upper bound: two processes can copy and read
at the same time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks import peers
from benchmarks.flows import flow
from benchmarks.harness import Member, RunFailed, Span, Team, clock, interleave
from benchmarks.peers.base import FRAME_BYTES, FRAME_SHAPE
from benchmarks.report import Report, at_least, quotient

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Options, Run, Step
    from benchmarks.peers.base import Frame, FrameChannel

CASE = "720x1080x3 uint8"
ALONE = "(copy and look, one process)"
# Without the numbers at both ends of the frame.
LOOKED_AT = slice(2048, None, 4096)


def source() -> Frame:
    """Return the producer's frame: the same noise in every process."""
    return np.random.default_rng(7).integers(0, 256, FRAME_SHAPE, dtype=np.uint8)


def stamps(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last bytes as writable numbers."""
    flat = frame.reshape(-1)
    return flat[:8].view(np.uint64), flat[-8:].view(np.uint64)


class Inspector:
    """The consumer's check of a frame: reads samples, and counts correct frames."""

    def __init__(self) -> None:
        self.expected_sum = int(source().reshape(-1)[LOOKED_AT].sum())
        self.next = 0

    def __call__(self, frame: Frame) -> None:
        flat = frame.reshape(-1)
        number = self.next
        found = int.from_bytes(flat[:8], "little"), int.from_bytes(flat[-8:], "little")
        total = int(flat[LOOKED_AT].sum())
        if found != (number, number) or total != self.expected_sum or flat.size != FRAME_BYTES:
            msg = f"frame {number} came with stamps {found} and sum {total}"
            raise ValueError(msg)
        self.next = number + 1


def produce(channel: FrameChannel) -> Step:
    write = channel.writer()
    frame = source()
    head, tail = stamps(frame)
    sent = 0

    def step(count: int) -> Span:
        nonlocal sent
        start = clock()
        for number in range(sent, sent + count):
            head[0] = tail[0] = number
            write(frame)
        sent += count
        return Span(start, clock(), count)

    return step


def consume(channel: FrameChannel) -> Step:
    read = channel.reader()
    look = Inspector()

    def step(count: int) -> Span:
        start = clock()
        for _ in range(count):
            read(look)
        return Span(start, clock(), count)

    return step


def copy_and_look() -> Step:
    frame, target = source(), np.zeros(FRAME_SHAPE, np.uint8)
    head, tail = stamps(frame)
    look = Inspector()

    def step(count: int) -> Span:
        start = clock()
        for number in range(look.next, look.next + count):
            head[0] = tail[0] = number
            np.copyto(target, frame)
            look(target)
        return Span(start, clock(), count)

    return step


def measure(make: Callable[[], FrameChannel], seconds: float) -> dict[str, float]:
    channel = make()
    try:
        taking = [Member("consumer", consume, (channel,))]
        giving = [Member("producer", produce, (channel,))]
        return {"frames/s": flow(taking, giving, seconds, multiple=10)}
    finally:
        channel.close()


def measure_alone(seconds: float) -> dict[str, float]:
    with Team([Member("alone", copy_and_look)]) as team:
        pilot: Span = team.step(200)["alone"]
        span: Span = team.step(round(200 * seconds / (pilot.end - pilot.start)))["alone"]
    if span.end <= span.start:
        raise RunFailed("the clock stood still")
    return {"frames/s": span.count / (span.end - span.start)}


def run(options: Options) -> Report:
    field = peers.load(options)
    report = Report("frames", "2.33 MB frames, copied in and read", "multiprocessing.Queue")
    report.skipped = field.skipped

    def contender(make: Callable[[], FrameChannel]) -> Run:
        return lambda: measure(make, options.seconds)

    contenders = {peer.name: contender(peer.frames) for peer in field.peers if peer.frames}
    contenders[ALONE] = lambda: measure_alone(options.seconds)
    outcomes = interleave(contenders, options.runs, options.say)
    report.add(CASE, "frames/s", outcomes, "frames/s")

    for name, limit in (
        ("iceoryx2", 1.0),
        ("multiprocessing.Queue", 20.0),
        ("hand-made pool", 2.0),
    ):
        theirs = report.median(CASE, name)
        for ours in ("onecopy", "onecopy frames"):
            measured = quotient(report.median(CASE, ours), theirs)
            report.targets.append(at_least(f"{ours} against {name}", measured, limit))
    return report
