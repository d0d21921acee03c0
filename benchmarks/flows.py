"""Runs that several workloads share: a message flow from P senders to C receivers."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from benchmarks.harness import Member, Span, Team, calibrated, clock, rate
from benchmarks.peers.base import BATCH, MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Step
    from benchmarks.peers.base import BatchChannel, MessageChannel

# Only every BLOCK-th message is compared with what was sent, because the comparison is timed, too.
BLOCK = 1000


def message(number: int) -> bytes:
    """The message that begins block `number`: the number, then filling."""
    return number.to_bytes(8, "little") + bytes(range(8, MESSAGE_BYTES))


FILLING = message(2**63)


def send_singly(channel: MessageChannel) -> Step:
    send = channel.sender()

    def step(count: int) -> Span:
        start = clock()
        for number in range(count // BLOCK):
            send(message(number))
            for _ in repeat(None, BLOCK - 1):
                send(FILLING)
        return Span(start, clock(), count)

    return step


def receive_singly(channel: MessageChannel, ordered: bool) -> Step:
    receive = channel.receiver()

    def step(count: int) -> Span:
        last = b""
        start = clock()
        for number in range(count // BLOCK):
            first = receive()
            assert not ordered or first == message(number), f"got {first!r} for {number}"
            for _ in repeat(None, BLOCK - 1):
                last = receive()
        end = clock()
        assert len(last) == MESSAGE_BYTES, f"got {last!r}"
        return Span(start, end, count)

    return step


def send_batches(channel: BatchChannel) -> Step:
    send = channel.batch_sender()

    def step(count: int) -> Span:
        # A hundred different objects: pickle would write the same object only once.
        batch = [message(number) for number in range(BATCH)]
        start = clock()
        for _ in repeat(None, count // BATCH):
            send(batch)
        return Span(start, clock(), count)

    return step


def receive_batches(channel: BatchChannel) -> Step:
    receive = channel.batch_receiver()

    def step(count: int) -> Span:
        got, batch = 0, [b""]
        start = clock()
        while got < count:
            batch = receive()
            got += len(batch)
        end = clock()
        assert got == count, f"{got} messages came of {count}"
        assert batch[-1] == message(BATCH - 1), f"got {batch[-1]!r}"
        return Span(start, end, count)

    return step


def single_rate(
    make: Callable[[], MessageChannel], seconds: float, senders: int = 1, receivers: int = 1
) -> float:
    """Messages per second through one channel. Senders and receivers have equal shares."""
    channel = make()
    try:
        ordered = senders == receivers == 1
        taking = [
            Member(f"receiver {n}", receive_singly, (channel, ordered)) for n in range(receivers)
        ]
        giving = [Member(f"sender {n}", send_singly, (channel,)) for n in range(senders)]
        assert senders == receivers, "the shares would differ"
        return flow(taking, giving, seconds, BLOCK)
    finally:
        channel.close()


def batch_rate(make: Callable[[], BatchChannel], seconds: float) -> float:
    """Messages per second from one sender to one receiver, BATCH per call."""
    channel = make()
    try:
        taking = [Member("receiver", receive_batches, (channel,))]
        giving = [Member("sender", send_batches, (channel,))]
        return flow(taking, giving, seconds, BATCH * 10)
    finally:
        channel.close()


def flow(
    taking: list[Member], giving: list[Member], seconds: float, multiple: int, pilot: int = 0
) -> float:
    """Items per second. A short pilot run warms up and determines the number of items.

    The count of a step is a multiple of `multiple`. The default count of the pilot is three times
    that.
    """
    limit = 20.0 + 10 * seconds
    pilot = pilot or 3 * multiple
    with Team([*taking, *giving]) as team:
        per_second = 0.0
        count = pilot
        # Twice: the first pilot also pays for page faults and connections.
        for share in (0.1, 1.0):
            spans = team.step(count, limit)
            per_second = rate(
                [spans[member.name] for member in giving],
                [spans[member.name] for member in taking],
            )
            each = per_second / len(taking)
            count = calibrated(pilot, pilot / each, seconds * share, multiple)
        spans = team.step(count, limit)
        return rate(
            [spans[member.name] for member in giving], [spans[member.name] for member in taking]
        )
