"""Processes hang in every way that there is, and `explain` names the one that is to blame."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from children import LIMIT, eventually
from stage import Stage

from onecopy.observer import explain, headline

WAITS_FOR_JOBS = "pool.queue('jobs').get()"


def empty_queue(stage):
    """A consumer waits. The producer has put all that it had, and does something else."""
    stage.enter("culprit", "q = pool.queue('jobs'); idle()")
    stage.enter("consumer", WAITS_FOR_JOBS, "get")
    return "could", "queue 'jobs', which is empty"


def full_queue(stage):
    """A producer waits. The consumer does something else."""
    stage.enter("culprit", "q = pool.queue('jobs', maxsize=2); idle()")
    stage.enter("producer", "q = pool.queue('jobs'); [q.put(i) for i in range(3)]", "put")
    return "could", "room in queue 'jobs', which has 2 of 2 messages"


def held_lock(stage):
    """A lock is held for long."""
    stage.enter("culprit", "lock = pool.lock('door'); lock.acquire(); idle()")
    stage.enter("waiter", "pool.lock('door').acquire()", "lock")
    return "holds", "lock 'door'"


def frames(stage):
    """The example of the issue: consumer, producer, and the process that has all frames."""
    stage.enter(
        "culprit",
        "f = pool.frames('cam0', (16,), 'u1', count=4)\n"
        "kept = [f.acquire() for _ in range(4)]; idle()",
    )
    stage.enter("camera", "q = pool.queue('jobs'); pool.frames('cam0').acquire()", "frame")
    stage.enter("detector", WAITS_FOR_JOBS, "get")
    return "holds", "a frame of frames 'cam0', of which 0 of 4 are free"


def frames_in_a_queue(stage):
    """All frames are in messages that a consumer does not take."""
    stage.enter("culprit", "q = pool.queue('jobs'); idle()")
    stage.enter(
        "camera",
        "q = pool.queue('jobs'); f = pool.frames('cam0', (16,), 'u1', count=4)\n"
        "while True: q.put(f.acquire())",
        "frame",
    )
    return "holds", "all 4 frames are in queue 'jobs'"


def lossless_stream(stage):
    """One reader of a lossless stream does not read."""
    stage.enter(
        "culprit", "s = pool.stream('news', depth=4, policy='lossless').subscribe(); idle()"
    )
    stage.enter("publisher", "s = pool.stream('news')\nwhile True: s.publish(1)", "publish")
    return "holds", "room in the lossless stream 'news', which keeps 4 messages"


def silent_stream(stage):
    """A subscriber waits, and the publisher does something else."""
    stage.enter("culprit", "s = pool.stream('news'); idle()")
    stage.enter("subscriber", "pool.stream('news').subscribe().get()", "read")
    return "could", "a message of stream 'news'"


def full_pool(stage):
    """One process holds the memory."""
    stage.enter("culprit", "kept = [pool.zeros((1 << 20,), 'u1') for _ in range(14)]; idle()")
    stage.enter("hungry", "pool.queue('jobs').put(bytes(4 << 20), timeout=1000)", "memory")
    return "holds", "memory in the pool"


def semaphore(stage):
    """The tokens are taken."""
    stage.enter("culprit", "s = pool.semaphore('seats', 1); s.acquire(); idle()")
    stage.enter("waiter", "pool.semaphore('seats').acquire()", "semaphore")
    return "holds", "semaphore 'seats', whose value is 0"


def barrier(stage):
    """One party does not come."""
    stage.enter("culprit", "b = pool.barrier('start', 3); idle()")
    stage.enter("first", "pool.barrier('start').wait()", "barrier")
    stage.enter("second", "pool.barrier('start').wait()", "barrier")
    return "could", "barrier 'start', at which 2 of 3 parties have arrived"


def event(stage):
    """Nobody sets an event."""
    stage.enter("culprit", "e = pool.event('go'); idle()")
    stage.enter("waiter", "pool.event('go').wait()", "event")
    return "could", "event 'go', which is not set"


def condition(stage):
    """Nobody notifies."""
    stage.enter("culprit", "c = pool.condition('news'); idle()")
    stage.enter("waiter", "c = pool.condition('news'); c.acquire(); c.wait()", "condition")
    return "could", "condition 'news', which was not notified"


def writer_and_reader(stage):
    """A reader does not finish."""
    stage.enter("culprit", "lock = pool.rwlock('table'); lock.read().__enter__(); idle()")
    stage.enter("writer", "pool.rwlock('table').write().__enter__()", "drain")
    return "holds", "the readers of rwlock 'table'"


def reader_and_writer(stage):
    """A writer does not finish."""
    stage.enter("culprit", "lock = pool.rwlock('table'); lock.write().__enter__(); idle()")
    stage.enter("reader", "pool.rwlock('table').read().__enter__()", "read_lock")
    return "holds", "rwlock 'table'"


def unfinished(stage):
    """A message was taken and is not finished."""
    stage.enter(
        "culprit", "q = pool.queue('jobs', redeliver=True); q.put(1); kept = q.get(); idle()"
    )
    stage.enter("joiner", "pool.queue('jobs').join()", "join")
    return "holds", "the end of 1 message of queue 'jobs'"


HANGS = [
    empty_queue,
    full_queue,
    held_lock,
    frames,
    frames_in_a_queue,
    lossless_stream,
    silent_stream,
    full_pool,
    semaphore,
    barrier,
    event,
    condition,
    writer_and_reader,
    reader_and_writer,
    unfinished,
]


def said(stage):
    """Return all chains, and the blamed processes with their faults."""
    chains = explain(stage.observer.snapshot())
    roles = {pid: role for role, pid in stage.pids.items()}
    blamed = {
        (roles.get(culprit.pid), culprit.fault) for chain in chains for culprit in chain.culprits
    }
    return chains, blamed


@pytest.mark.parametrize("hang", HANGS)
def test_a_process_that_is_busy_elsewhere(hang):
    with Stage() as stage:
        fault, subject = hang(stage)
        chains, blamed = said(stage)
        assert blamed == {("culprit", fault)}
        assert len(chains) == 1
        assert subject in chains[0].text
        assert str(stage.pids["culprit"]) in chains[0].culprits[0].text


@pytest.mark.parametrize("hang", HANGS)
def test_a_stopped_process(hang):
    with Stage() as stage:
        hang(stage)
        stage.stop("culprit")
        chains, blamed = said(stage)
        assert blamed == {("culprit", "stopped")}
        assert f"{stage.pids['culprit']} " in chains[0].text
        assert "is stopped" in chains[0].text
        assert f"kill -CONT {stage.pids['culprit']}" in chains[0].culprits[0].text


@pytest.mark.parametrize("hang", HANGS)
def test_all_processes_are_stopped(hang):
    with Stage() as stage:
        hang(stage)
        for role in stage.pids:
            stage.stop(role)
        _, blamed = said(stage)
        assert blamed == {(role, "stopped") for role in stage.pids}


@pytest.mark.parametrize("hang", [empty_queue, silent_stream, event])
def test_a_dead_process_that_nobody_has_cleaned_up(hang):
    """Waiters of these do not look for dead processes: a new one could come."""
    with Stage() as stage:
        hang(stage)
        stage.kill("culprit")
        chains, blamed = said(stage)
        assert blamed == {("culprit", "dead")}
        assert f"{stage.pids['culprit']} is dead" in chains[0].text


def test_two_locks_in_two_orders():
    with Stage() as stage:
        take = (
            "import threading\n"
            "a, b, e = pool.lock({0!r}), pool.lock({1!r}), pool.event('both')\n"
            "a.acquire()\n"
            "{2}\n"
            "b.acquire()"
        )
        stage.enter("one", take.format("a", "b", "e.wait()"), "event")
        stage.enter("two", take.format("b", "a", "e.set()"), "lock")
        eventually(lambda: stage.waits("one") == ["lock"], "the first to wait for a lock")
        chains, blamed = said(stage)
        assert blamed == {("one", "cycle"), ("two", "cycle")}
        assert len(chains) == 1
        assert "this is a cycle" in chains[0].text


def test_three_locks_in_a_ring():
    with Stage() as stage:
        for mine, other in ("ab", "bc", "ca"):
            stage.enter(
                mine,
                f"a, b = pool.lock({mine!r}), pool.lock({other!r})\n"
                "a.acquire(); pool.event('go').wait(); b.acquire()",
                "event",
            )
        stage.enter("starter", "pool.event('go').set(); idle()")
        for mine in "abc":
            eventually(lambda mine=mine: stage.waits(mine) == ["lock"], "a lock")
        _, blamed = said(stage)
        assert blamed == {(mine, "cycle") for mine in "abc"}


def test_two_queues_that_wait_for_each_other():
    with Stage() as stage:
        text = "a, b = pool.queue('a'), pool.queue('b'); {}.get()"
        stage.enter("one", text.format("a"), "get")
        stage.enter("two", text.format("b"), "get")
        _, blamed = said(stage)
        assert blamed == {("one", "cycle"), ("two", "cycle")}


def test_a_lock_that_its_own_process_has():
    with Stage() as stage:
        stage.enter("one", "lock = pool.lock('door'); lock.acquire(); lock.acquire()", "lock")
        chains, blamed = said(stage)
        assert blamed == {("one", "itself")}
        assert "waits for itself" in chains[0].text


def test_nobody_can_fill_a_queue():
    with Stage() as stage:
        stage.enter("one", WAITS_FOR_JOBS, "get")
        stage.enter("two", WAITS_FOR_JOBS, "get")
        chains, blamed = said(stage)
        assert blamed == {(None, "nobody")}
        assert "no other process that has the queue open could put a message" in chains[0].text


def test_a_thread_in_the_background_is_no_excuse():
    """It waits for orders all the time. That is not why its process keeps a lock."""
    with Stage() as stage:
        stage.enter(
            "culprit",
            "import threading\n"
            "orders = pool.queue('orders')\n"
            "threading.Thread(target=orders.get, daemon=True).start()\n"
            "pool.lock('door').acquire(); idle()",
        )
        stage.enter("waiter", "pool.lock('door').acquire()", "lock")
        _, blamed = said(stage)
        assert ("culprit", "holds") in blamed


def test_short_waits_are_left_out():
    with Stage() as stage:
        empty_queue(stage)
        assert explain(stage.observer.snapshot(), longer_than=3600) == []


def test_a_pool_whose_processes_are_all_dead():
    with Stage() as stage:
        empty_queue(stage)
        for role in stage.pids:
            stage.kill(role)
        seen = stage.observer.snapshot()
        assert {each.state for each in seen.processes} == {"dead"}
        assert explain(seen) == []
        lines = " ".join(headline(seen))
        assert "All processes of the pool are dead." in lines
        assert "it waited for queue 'jobs', which is empty" in lines


# ---- the command --------------------------------------------------------------------------------


def onecopy(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "onecopy.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
        env=os.environ | {"PYTHONUTF8": "1"},
    )


def test_the_command_names_the_culprit():
    with Stage() as stage:
        frames(stage)
        stage.stop("culprit")
        done = onecopy("why", stage.name, "--longer-than", "0")
        assert (done.stderr, done.returncode) == ("", 0)
        assert f"kill -CONT {stage.pids['culprit']}" in done.stdout
        assert "frames 'cam0', of which 0 of 4 are free" in done.stdout


def test_the_command_in_json():
    with Stage() as stage:
        held_lock(stage)
        done = onecopy("why", stage.name, "--longer-than", "0", "--json")
        assert (done.stderr, done.returncode) == ("", 0)
        (pool,) = json.loads(done.stdout)
        assert pool["pool"] == stage.name
        (chain,) = pool["chains"]
        assert chain["pids"] == [stage.pids["waiter"]]
        assert [each["pid"] for each in chain["culprits"]] == [stage.pids["culprit"]]
        assert {each["pid"] for each in pool["processes"]} == set(stage.pids.values())


def test_the_command_without_a_pool_explains_all():
    with Stage() as stage:
        held_lock(stage)
        done = onecopy("why", "--longer-than", "0")
        assert (done.stderr, done.returncode) == ("", 0)
        assert f"Pool {stage.name}:" in done.stdout
        assert "lock 'door'" in done.stdout


def test_the_command_for_a_pool_that_is_not_there():
    done = onecopy("why", "nothing")
    assert done.returncode == 1
    assert done.stderr.startswith("onecopy: ")
    assert done.stderr.count("\n") == 1


def test_stacks_without_py_spy(tmp_path):
    """One line says what to install; with py-spy, its answer is printed as it is."""
    with Stage() as stage:
        held_lock(stage)
        done = onecopy("why", stage.name, "--longer-than", "0", "--stacks")
        assert (done.stderr, done.returncode) == ("", 0)
        for role in ("culprit", "waiter"):
            assert f"--- {stage.pids[role]}" in done.stdout
        assert "py-spy" in done.stdout or "Thread" in done.stdout


def test_a_process_that_goes_on_is_not_disturbed():
    with Stage() as stage:
        stage.enter("waiter", "q = pool.queue('jobs'); q.get(); idle()", "get")
        stage.stop("waiter")
        os.kill(stage.pids["waiter"], signal.SIGCONT)
        stage.enter("producer", "pool.queue('jobs').put(1); idle()")
        eventually(lambda: stage.waits("waiter") == [], "the waiter to continue")
