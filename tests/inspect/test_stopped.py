"""Processes that are stopped in the middle of an operation, with a lock inside of the pool."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from children import LIMIT, eventually

import onecopy as oc
from onecopy import inspect


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "onecopy.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )


def put_and_get(name):
    queue = oc.Pool.open(name).queue("jobs")
    while True:
        queue.put(1)
        queue.get()


def allocate(name):
    pool = oc.Pool.open(name)
    while True:
        pool.empty(1 << 20, "u1")


@pytest.fixture
def stopped_inside(start):
    """Stop a process when it has a lock: ``stopped_inside(function, name, locks)``."""

    def stop(function, name, locks):
        child = start("fork", function, name)
        with oc.observe(name) as observer:
            eventually(lambda: _is_member(observer, child.pid), "it to join")

            def has_it():
                os.kill(child.pid, signal.SIGSTOP)
                os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
                seen = observer.snapshot()
                slots = {holder.slot for holder in locks(seen)}
                if any(seen.process(slot).pid == child.pid for slot in slots if slot is not None):
                    return True
                os.kill(child.pid, signal.SIGCONT)
                return False

            eventually(has_it, "it to be stopped with a lock")
        return child

    return stop


def of_queue(seen):
    """Give the owners of the queue's locks, if none has one of the pool, as in the first put."""
    return () if seen.inner else seen.queues[0].inner


def _is_member(observer, pid):
    return any(process.pid == pid for process in observer.snapshot().processes)


def test_a_stopped_owner_of_a_lock_is_no_broken_invariant(stopped_inside):
    with oc.Pool.create("camera", size="16MiB") as pool:
        pool.queue("jobs")
        pool["kept"] = 1
        kept = pool.queue("jobs")
        child = stopped_inside(put_and_get, "camera", of_queue)
        view = inspect.inspect_pool("camera")
        assert (view.problems, view.unchecked, view.checked) == ([], [], False)
        assert [each.state for each in view.holders if each.pid == child.pid] == ["stopped"]
        for arguments in (["inspect", "camera"], ["holders", "camera"]):
            done = command(*arguments)
            assert (done.returncode, done.stderr) == (0, "")
            assert re.search(rf"{child.pid} \S.* is stopped\.", done.stdout)
        done = command("inspect", "camera", "--validate")
        assert (done.returncode, done.stderr) == (3, "")
        said = rf"queue 'jobs' could not be checked: {child.pid} \(.*\), which is stopped, has its "
        assert re.search(said + "(producer|consumer) lock\n", done.stdout)
        assert "Broken" not in done.stdout
        assert "Every invariant holds" not in done.stdout
        done = command("doctor")
        assert (done.returncode, done.stderr) == (3, "")
        assert re.search(f"camera: in_use, {said}", done.stdout)
        assert json.loads(command("doctor", "--json").stdout)["sound"] is None
        del kept


def test_a_stopped_owner_of_the_heap_s_lock_delays_nothing(stopped_inside, start):
    oc.Pool.create("camera", size="16MiB", persistent=True).close()
    child = stopped_inside(allocate, "camera", lambda seen: seen.inner)
    done = command("inspect", "camera")
    assert (done.returncode, done.stderr) == (0, "")
    done = command("inspect", "camera", "--validate")
    assert (done.returncode, done.stderr) == (3, "")
    said = rf"the pool could not be checked: {child.pid} \(.*\), which is stopped, has the lock"
    assert re.search(said, done.stdout)
    child.kill()
    oc.Pool.open("camera").unlink()


def test_a_broken_invariant_counts_more_than_what_could_not_be_checked(stopped_inside):
    with oc.Pool.create("camera", size="16MiB") as pool:
        kept = pool.queue("jobs")
        stopped_inside(put_and_get, "camera", of_queue)
        with Path(pool.member.path).open("r+b") as file:
            file.seek(3 * 64 + 24)  # header.used
            before = file.read(8)
            file.seek(3 * 64 + 24)
            file.write(struct.pack("Q", 77))
            file.flush()
            done = command("inspect", "camera", "--validate")
            file.seek(3 * 64 + 24)
            file.write(before)
        assert done.returncode == 1
        assert "Broken invariants:\n  heap: used is 77" in done.stdout
        assert "queue 'jobs' could not be checked" in done.stdout
        del kept


def test_a_busy_pool_is_sound(start):
    """A process that works changes what the check counts."""
    with oc.Pool.create("camera", size="16MiB") as pool:
        kept = pool.queue("jobs")
        start("fork", put_and_get, "camera")
        eventually(lambda: pool.stats().processes == 2, "it to join")
        for _ in range(20):
            view = inspect.inspect_pool("camera", validate=True)
            assert (view.problems, view.checked) == ([], True)
        del kept
