"""A pool with nearly as many processes as it has slots."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from children import LIMIT, eventually
from commands import output

import onecopy as oc
from onecopy.observer import explain

MANY = 500
PROGRAM = f"""
import os, signal
import onecopy as oc

queue = oc.Pool.open("crowd").queue("jobs")
for _ in range({MANY}):
    if os.fork() == 0:
        queue.get()
        os._exit(0)
print("started", flush=True)
signal.pause()
"""


@pytest.fixture
def crowd():
    """Start 500 processes that wait for one queue; they are children of one that does not wait."""
    with oc.Pool.create("crowd", size="16MiB") as pool:
        kept = pool.queue("jobs")
        parent = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            assert parent.stdout.readline() == b"started\n"
            with oc.observe(pool) as observer:
                eventually(
                    lambda: observer.snapshot().queues[0].consumers_waiting == MANY, "all to wait"
                )
            yield pool
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
            parent.wait(LIMIT)
            parent.stdout.close()
        del kept


def test_500_processes(crowd):
    """This process and the parent do not wait."""
    with oc.observe(crowd) as observer:
        seen = observer.snapshot()
    assert len(seen.processes) == MANY + 2
    assert len({process.pid for process in seen.processes}) == MANY + 2
    assert all(process.state == "alive" for process in seen.processes)
    waiting = [process for process in seen.processes if process.waits]
    assert len(waiting) == seen.queues[0].consumers_waiting == MANY
    (chain,) = explain(seen)
    assert len(chain.pids) == MANY
    assert {culprit.pid for culprit in chain.culprits} == {
        process.pid for process in seen.processes if not process.waits
    }
    text = output("show", "crowd", "--seconds", "0")
    assert f"{MANY + 2} of 512 slots" in text
    assert text.count("get queue 'jobs'") == MANY
    text = output("why", "crowd", "--longer-than", "0")
    assert text.count("* ") == 1
    assert f"{MANY - 5} others wait for it too" in text
    assert len(text.splitlines()) < 10
    assert output("holders", "crowd").count("get queue 'jobs'") == MANY
