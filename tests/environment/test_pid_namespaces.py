"""Processes in different PID namespaces share a pool: their process ids mean nothing to others."""

import os
import random
import signal
import threading

import numpy as np
import pytest
from children import LIMIT, asleep, eventually, used
from namespaces import first_inside, own_pids, own_pids_foreign_proc
from programs import Running, left

import onecopy as oc
from onecopy import inspect

JOIN = """
assert os.getpid() == 1
pool = oc.Pool.open("shared")
here, there = pool.queue("to you"), pool.queue("to me")
"""


@pytest.fixture
def member_inside():
    """Start a program that is process 1 of a namespace and has joined; it ends with the test."""
    running = []

    def start(text):
        running.append(Running(JOIN + text, holding=False, inside=own_pids()))
        return running[-1]

    yield start
    for program in running:
        program.kill()


@pytest.fixture
def shared():
    with oc.Pool.create("shared", size="64MiB") as pool:
        pool.queue("to you")
        pool.queue("to me")
        yield pool


ECHO = """
while (message := here.get()) is not None:
    there.put({"again": message, "sum": message.sum()})
del message
"""


def test_messages_both_ways_between_two_with_the_same_number(shared, member_inside):
    both = [member_inside(ECHO) for _ in range(2)]
    here, there = shared.queue("to you"), shared.queue("to me")
    for index in range(200):
        here.put(shared.full(2000, index, "i8"))
        answer = there.get(timeout=LIMIT)
        assert answer["sum"] == 2000 * index
        assert (answer["again"] == index).all()
    eventually(lambda: shared.stats().processes == 3, "both")
    assert [holder["pid"] for holder in shared.member.holders()].count(1) == 2
    del answer
    here.put_many([None, None])
    assert [program.end() for program in both] == [(0, "")] * 2
    assert shared.stats().processes == 1
    assert used(shared) == 0
    assert shared.validate() == []


HOLD = """
held = pool.zeros(1 << 20, "u1"), pool.put({"a": np.zeros(100_000)}), pool.queue()
frame = pool.frames("frames", 1000, "u1", 2).acquire()
subscription = pool.stream("events", depth=1, policy="lossless").subscribe()
there.put("ready")
here.get()
"""


def test_one_inside_is_killed(shared, member_inside):
    frames, stream = shared.frames("frames", 1000, "u1", 2), shared.stream("events", 1, "lossless")
    survivor, victim = member_inside(ECHO), member_inside(HOLD)
    here, there = shared.queue("to you"), shared.queue("to me")
    assert there.get(timeout=LIMIT) == "ready"
    inner = first_inside(victim.pid)
    eventually(lambda: asleep(inner), "it to wait")
    eventually(lambda: shared.stats().processes == 3, "both")
    assert frames.available == 1
    stream.publish(1)  # the lossless stream is full because of the one that will die
    os.kill(inner, signal.SIGKILL)
    victim.end()
    stream.publish(2, timeout=LIMIT)
    stream.publish(3, timeout=LIMIT)
    shared.collect()
    assert shared.stats().processes == 2
    assert frames.available == 2
    # The other one, with the same number, is not affected.
    here.put(np.ones(10))
    answer = there.get(timeout=LIMIT)
    assert answer["sum"] == 10
    del answer
    here.put(None)
    assert survivor.end() == (0, "")
    shared.stream("events").shutdown()
    del stream
    shared.member.name_del(3, "events")
    shared.member.name_del(4, "frames")
    frames.close()
    assert used(shared) == 0
    assert shared.validate() == []


COLLECT = """
there.put("ready")
frames = pool.frames("frames", 1000, "u1", 2)
assert frames.available == 1
assert here.get() == "it is dead"
pool.collect()
assert pool.stats().processes == 2, pool.stats()
assert frames.available == 2
assert frames.acquire(timeout=5) is not None
assert pool.stats().used < 10_000, pool.stats()
assert pool.validate() == []
there.put([pool.zeros(24 << 20, "u1") for _ in range(2)])  # more than it left free
"""


def hold_outside(pool, ready):
    held = [pool.zeros(1 << 20, "u1") for _ in range(30)]
    frame = pool.frames("frames", 1000, "u1", 2).acquire()
    ready.put(len(held))
    threading.Event().wait()
    del frame


def test_one_outside_is_killed_and_one_inside_collects(shared, member_inside, start):
    shared.frames("frames", 1000, "u1", 2)
    victim = start("stranger", hold_outside, shared, shared.queue("ready"))
    eventually(lambda: shared.queue("ready").qsize() == 1, "the holder")
    here, there = shared.queue("to you"), shared.queue("to me")
    inside = member_inside(COLLECT)
    assert there.get(timeout=LIMIT) == "ready"
    victim.kill()
    here.put("it is dead")
    assert inside.end() == (0, "")
    assert [each.nbytes for each in there.get(timeout=LIMIT)] == [24 << 20] * 2
    assert shared.validate() == []


HAMMER = """
there.put("ready")
numbers = pool.queue("numbers")
while True:
    numbers.put(np.full(3000, 7, "u1")); got = numbers.get(); assert (got == 7).all()
    pool["name"] = got; numbers.put(1); numbers.get()
"""


@pytest.mark.parametrize("turns", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_in_two_namespaces(shared, member_inside, turns):
    """Often inside a critical section: the lock names its owner by slot, not by a process id."""
    randomness = random.Random(0)  # noqa: S311 - not for secrets
    numbers, there = shared.queue("numbers"), shared.queue("to me")
    for _ in range(turns):
        both = [member_inside(HAMMER) for _ in range(2)]
        for _ in both:
            assert there.get(timeout=LIMIT) == "ready"
        inner = [first_inside(program.pid) for program in both]
        threading.Event().wait(randomness.random() * 0.02)  # any moment is suitable
        os.kill(inner[0], signal.SIGKILL)
        numbers.put("alive", timeout=LIMIT)  # the other one may acquire it
        shared["name"] = 1
        os.kill(inner[1], signal.SIGKILL)
        for program in both:
            program.end()
        shared.collect()
        assert shared.stats().processes == 1
        assert shared.validate() == []
        numbers.put("alive", timeout=LIMIT)
        while numbers.qsize():
            numbers.get(timeout=LIMIT)
    del shared["name"]
    assert used(shared) == 0


# ------------------------------------------------------------------------- pools without a file


def test_a_memfd_of_another_namespace_is_out_of_sight_and_left_alone():
    with oc.Pool.create("apart", size="16MiB", backing="memfd") as pool:
        text = """
        from onecopy import inspect
        try: oc.Pool.open("apart")
        except PermissionError as error: assert "apart" in str(error), error
        else: assert False
        assert inspect.gc() == []
        """
        assert Running(text, holding=False, inside=own_pids()).end() == (0, "")
        assert left() == ["apart.pool"]
        queue = pool.queue()
        queue.put(1)
        assert queue.get() == 1
    assert left() == []


def test_a_memfd_where_proc_belongs_to_another_namespace():
    """`unshare --pid` without `--mount-proc`: /proc has another name for us than our process id."""
    text = """
    import subprocess
    pool = oc.Pool.create("apart", size="16MiB", backing="memfd")
    pool["a"] = np.arange(10)
    stranger = "import onecopy as oc; assert oc.Pool.open('apart')['a'].sum() == 45"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", stranger], check=True)
        from onecopy import inspect
        assert inspect.gc() == []
    """
    program = Running(text, holding=False, inside=own_pids_foreign_proc())
    assert program.end() == (0, "")
    assert left() == []


def test_a_child_with_its_parent_s_number_is_a_process_of_its_own():
    """Process 1 of a namespace whose child is process 1 of the next one."""
    text = """
    import ctypes, subprocess
    libc = ctypes.CDLL(None, use_errno=True)
    pool = oc.Pool.create("apart", size="16MiB", backing="memfd")
    pool["a"] = np.arange(10)
    gone, go = os.pipe()
    assert libc.unshare(0x20000000) == 0  # CLONE_NEWPID: for children from now on
    child = os.fork()
    if child == 0:
        assert os.getpid() == 1
        os.close(go); os.read(gone, 1)
        stranger = "import onecopy as oc; assert oc.Pool.open('apart')['a'].sum() == 45"
        subprocess.run([sys.executable, "-c", stranger], check=True)
        sys.exit(3)
    pool.close()
    os.close(go)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    """
    program = Running(text, holding=False, inside=own_pids())
    assert program.end() == (0, "")
    assert left() == []
    assert inspect.gc() == []
