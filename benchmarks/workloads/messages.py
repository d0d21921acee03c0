"""Small messages: 64 bytes, one sender and one receiver, one per call and 100 per call.

Every thousandth message is compared with what was sent, and all are counted. Peers without a call
for many messages are not in the second case, except multiprocessing.Queue, which gets lists of 100.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.flows import batch_rate, single_rate
from benchmarks.harness import interleave
from benchmarks.report import Report, at_least

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Options, Run
    from benchmarks.peers.base import BatchChannel, MessageChannel

SINGLE = "one per call"
BATCHED = "100 per call"


def run(options: Options) -> Report:
    field = peers.load(options)
    report = Report("messages", "64-byte messages, 1 sender, 1 receiver", "multiprocessing.Queue")
    report.skipped = field.skipped

    def single(make: Callable[[], MessageChannel]) -> Run:
        return lambda: {SINGLE: single_rate(make, options.seconds)}

    def batched(make: Callable[[], BatchChannel]) -> Run:
        return lambda: {BATCHED: batch_rate(make, options.seconds)}

    singles = {peer.name: single(peer.messages) for peer in field.peers if peer.messages}
    batches = {peer.name: batched(peer.batches) for peer in field.peers if peer.batches}
    for case, contenders in ((SINGLE, singles), (BATCHED, batches)):
        options.say(f" {case}")
        report.add(case, "messages/s", interleave(contenders, options.runs, options.say), case)

    ours = report.median(SINGLE, "onecopy")
    report.targets.append(at_least("put, get", ours, 1.2e6, "messages/s"))
    ours = report.median(BATCHED, "onecopy")
    report.targets.append(at_least("put_many, get_many of 100", ours, 4e6, "messages/s"))
    return report
