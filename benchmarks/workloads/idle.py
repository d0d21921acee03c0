"""The cost of waiting: eight processes are blocked in a call that never returns.

The processes of onecopy wait in `queue.get`, `frames.acquire` and `stream.get`. Another process
reads their processor time, in nanoseconds if the kernel reports them, so that the measurement wakes
no process.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.harness import Member, RunFailed, Team, clock, interleave
from benchmarks.peers.base import IDLE_PROCESSES
from benchmarks.report import Report, at_most

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Options, Run, Step
    from benchmarks.peers.base import IdleChannel

CASE = f"{IDLE_PROCESSES} processes blocked"
# How long the processes are measured. For peers it is shorter, because they have no target.
WATCHED, QUICKLY, PEERS_WATCHED = 10.0, 2.0, 2.0
# The time until all of them sleep.
SETTLING = 0.5


def processor_seconds(pid: int) -> float:
    """Processor time that all threads of a process have used.

    Raises
    ------
    RunFailed
        If the process is gone.
    """
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        nanoseconds = 0
        for task in tasks:
            nanoseconds += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    except FileNotFoundError:
        return ticks(pid) / os.sysconf("SC_CLK_TCK")
    return nanoseconds / 1e9


def ticks(pid: int) -> int:
    """Processor time in the kernel's ticks, for kernels without schedstat."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunFailed(f"process {pid} is gone: it should have been waiting") from None
    fields = line.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])  # utime and stime, the 14th and 15th of the line


def wait_for_nothing(channel: IdleChannel, number: int) -> Step:
    wait = channel.waiter(number)

    def step(_count: int) -> str:
        return repr(wait())

    return step


def measure(make: Callable[[], IdleChannel], seconds: float) -> dict[str, float]:
    """Percent of one core that the processes used together."""
    channel = make()
    members = [
        Member(f"waiter {number}", wait_for_nothing, (channel, number))
        for number in range(IDLE_PROCESSES)
    ]
    try:
        with Team(members) as team:
            team.tell(1)
            time.sleep(SETTLING)
            used = sum(processor_seconds(pid) for pid in team.pids.values())
            start = clock()
            time.sleep(seconds)
            used = sum(processor_seconds(pid) for pid in team.pids.values()) - used
            took = clock() - start
            answers = team.answers()
            # They would wait for ever, so kill them.
            team.stop(kill=True)
        if answers:
            raise RunFailed(f"did not wait: {answers}")
        return {CASE: used / took * 100}
    finally:
        channel.close()


def run(options: Options) -> Report:
    field = peers.load(options)
    report = Report("idle", "processor time of processes that wait", "multiprocessing.Queue")
    report.skipped = field.skipped

    def contender(make: Callable[[], IdleChannel], seconds: float) -> Run:
        return lambda: measure(make, seconds)

    watched = QUICKLY if options.quick else WATCHED
    contenders = {
        peer.name: contender(peer.idle, watched if peer.name == "onecopy" else PEERS_WATCHED)
        for peer in field.peers
        if peer.idle
    }
    outcomes = interleave(contenders, options.runs, options.say)
    report.add(CASE, "% of a core", outcomes, CASE)
    used = report.median(CASE, "onecopy")
    report.targets.append(at_most(f"{CASE}, all of them", used, 1.0, "% of a core"))
    return report
