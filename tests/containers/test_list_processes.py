"""A list that processes share, by name or by reference: its lock, and deaths of processes."""

import gc
import os
import pickle
import random
import re
import signal
import threading
import warnings

import numpy as np
import pytest
from children import LIMIT, asleep, eventually

import onecopy as oc

pytestmark = pytest.mark.one_in(2)


@pytest.fixture
def shared(pool):
    return pool.list(range(10))


# --------------------------------------------------------------------------- by reference, by name


def work(shared, answers):
    shared.append("child")
    shared[0] = np.arange(10_000)
    answers.put(shared[1:4])


def test_in_another_process(pool, start, method):
    shared, answers = pool.list(range(5)), pool.queue()
    child = start(method, work, shared, answers)
    assert answers.get(timeout=LIMIT) == [1, 2, 3]
    assert child.wait() == 0
    assert shared[-1] == "child"
    assert (shared[0] == np.arange(10_000)).all()


def test_names(pool):
    shared = pool.list([1, 2], name="jobs")
    again = pool.list(["not looked at"], name="jobs")
    assert again.handle == shared.handle
    assert again == [1, 2]
    assert shared.name == "jobs"
    assert "'jobs'" in repr(shared)
    pool.dict(name="jobs")  # another kind
    with pytest.raises(TypeError):
        pool.list(name=5)
    del shared, again
    gc.collect()
    assert pool.list(name="jobs") == [1, 2]


def test_pickles_are_the_same_list(pool):
    shared = pool.list([1], name="jobs")
    again = pickle.loads(pickle.dumps(shared))
    again.append(2)
    assert shared == [1, 2]
    assert again.name == "jobs"


def test_an_anonymous_list_goes_with_its_last_user(pool):
    shared = pool.list([np.zeros(1000)])
    gone = pickle.dumps(shared)
    del shared
    gc.collect()
    stats = pool.stats()
    assert (stats.used, stats.structures) == (0, 0)
    with pytest.raises(oc.StaleRef):
        pickle.loads(gone)


@pytest.mark.parametrize("kind", ["list", "dict", "queue", "stream", "lock", "rwlock", "event"])
def test_what_is_pickled_by_reference_stays_alive_in_it(pool, kind):
    shared = pool.list([getattr(pool, kind)()])
    gc.collect()
    thing = shared[0]
    again = shared[0]
    assert thing.handle == again.handle
    del thing, again
    shared.pop()
    gc.collect()
    assert pool.stats().structures == 5  # its body, lock, table, order, and a chunk
    shared.append(pool.put("object"))
    gc.collect()
    assert shared[0].get() == "object"


def test_closing(pool):
    shared = pool.list([1])
    shared.detach()
    for act in (
        lambda: len(shared),
        lambda: shared[0],
        lambda: shared.append(1),
        shared.lock,
        shared.clear,
    ):
        with pytest.raises(oc.OneCopyError, match="closed"):
            act()
    assert "closed" in repr(shared)
    with oc.Pool.create(size="1MiB") as other:
        kept = other.list()
    with pytest.raises(oc.OneCopyError):
        kept.append(1)


# ------------------------------------------------------------------------------------ several steps


def add_up(shared, rounds, failed):
    for _ in range(rounds):
        with shared.lock():
            shared[0] += 1
            shared[1] = shared[0]
    if shared[0] < rounds:
        failed.put(True)


def test_compound_updates_under_the_lock(pool, start, method):
    shared, failed = pool.list([0, 0]), pool.queue()
    children = [start(method, add_up, shared, 500, failed) for _ in range(4)]
    for _ in range(500):  # processes that do not acquire the lock see no intermediate state
        one, other = shared[:2]
        assert one == other
    for child in children:
        assert child.wait() == 0
    assert shared == [2000, 2000]
    assert failed.empty()
    assert pool.validate() == []


def test_the_lock_is_an_rlock(shared):
    lock = shared.lock()
    assert isinstance(lock, oc.RLock)
    with lock, shared.lock():
        assert shared.lock().locked()
        shared.append(1)
        assert shared.pop() == 1
        assert pickle.loads(pickle.dumps(lock)).acquire(False)
        lock.release()
    assert not lock.locked()
    with pytest.raises(RuntimeError):
        lock.release()
    assert lock.acquire(timeout=0.1) is True
    refused = []
    thread = threading.Thread(target=lambda: refused.append(lock.acquire(False)))
    thread.start()
    thread.join()
    assert refused == [False]
    lock.release()


def plain_append(shared, ready):
    ready.put(None)
    shared.append("late")


def test_others_wait_for_the_lock(pool, start, method):
    shared, ready = pool.list(), pool.queue()
    with shared.lock():
        child = start(method, plain_append, shared, ready)
        ready.get(timeout=LIMIT)
        eventually(lambda: asleep(child.pid), "the child to wait")
        shared.append("early")
    assert child.wait() == 0
    assert shared == ["early", "late"]


def test_threads_wait_for_the_lock_too(shared):
    seen = []
    with shared.lock():
        thread = threading.Thread(target=lambda: seen.append(shared[0]))
        thread.start()
        shared[0] = "changed"
    thread.join()
    assert seen == ["changed"]


def wait_then_compute(shared, ready, go_on):
    """Let a thread wait for the list's lock, and keep the GIL while it is released."""
    thread = threading.Thread(target=lambda: shared[0])
    thread.start()
    ready.put(None)
    go_on.get()
    # Regular expressions do not release the GIL: this one would run for ever.
    re.match("(a+)+b", "a" * 60)


def test_who_waits_for_the_lock_does_not_have_it(pool, start):
    shared, ready, go_on = pool.list([1]), pool.queue(), pool.queue()
    lock = shared.lock()
    with lock:
        child = start("fork", wait_then_compute, shared, ready, go_on)
        ready.get(timeout=LIMIT)
        eventually(lambda: asleep(child.pid), "the child to wait, with both threads")
        go_on.put(None)
        eventually(lambda: not asleep(child.pid), "the child to compute")
    for _ in range(20):
        assert lock.acquire(False)
        lock.release()
    assert shared[0] == 1
    child.kill()


def wait_and_be_interrupted(shared, ready):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ready.put(None)
    try:
        shared.append("never")
    except KeyboardInterrupt:
        ready.put("interrupted")


def test_ctrl_c_while_waiting_for_the_lock(pool, start, method):
    shared, ready = pool.list(), pool.queue()
    with shared.lock():
        child = start(method, wait_and_be_interrupted, shared, ready)
        ready.get(timeout=LIMIT)
        eventually(lambda: asleep(child.pid), "the child to wait")
        os.kill(child.pid, signal.SIGINT)
        assert ready.get(timeout=LIMIT) == "interrupted"
    assert child.wait() == 0
    assert shared == []


# ------------------------------------------------------------------------------------------- deaths


def die_inside(shared, ready):
    with shared.lock():
        shared.append("half")
        ready.put(None)
        threading.Event().wait()


def test_an_owner_of_the_lock_is_killed(pool, start, method):
    shared, ready = pool.list(name="accounts"), pool.queue()
    child = start(method, die_inside, shared, ready)
    ready.get(timeout=LIMIT)
    child.kill()
    with pytest.warns(oc.OwnerDiedWarning, match=f"process {child.pid} died.*list 'accounts'"):
        shared.append("whole")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shared == ["half", "whole"]  # it is reported once
    assert pool.validate() == []


def test_a_death_told_by_an_exception_is_told_again(pool, start):
    shared, ready = pool.list(), pool.queue()
    child = start("fork", die_inside, shared, ready)
    ready.get(timeout=LIMIT)
    child.kill()
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(oc.OwnerDiedWarning):
                shared.append("whole")
    with pytest.warns(oc.OwnerDiedWarning), shared.lock():
        assert shared == ["half"]


def mutate_for_ever(shared, seed):
    """All items of the list are runs of equal pairs: each operation keeps that."""
    seeded = random.Random(seed)  # noqa: S311 - to be repeated
    while True:
        size = len(shared)
        number = seeded.randrange(1000)
        pair = [(number, 0), (number, np.full(2000, number))]
        what = seeded.randrange(6)
        if what == 0 or size < 20:
            shared.extend(pair)
        elif what == 1:
            shared[0:0] = pair
        elif what == 2:
            shared[2:4] = pair
        elif what == 3:
            del shared[:2]
        elif what == 4:
            shared[4:8] = ()
        elif size > 200:
            shared.clear()


def whole(shared):
    items = shared.copy()
    assert len(items) % 2 == 0
    for one, other in zip(items[::2], items[1::2], strict=True):
        assert one == (one[0], 0)
        assert other[0] == one[0]
        assert (other[1] == one[0]).all()


@pytest.mark.parametrize("round_", range(3))
def test_writers_are_killed_in_the_middle(pool, start, round_):
    shared = pool.list()
    seeded = random.Random(round_)  # noqa: S311 - to be repeated
    writers = []
    for death in range(12):
        while len(writers) < 2:
            writers.append(start("fork", mutate_for_ever, shared, round_ * 100 + death))
        for _ in range(seeded.randrange(1, 30)):
            whole(shared)
        writers.pop(seeded.randrange(2)).kill()
        whole(shared)
    for writer in writers:
        writer.kill()
    pool.collect()
    assert pool.validate() == []
    whole(shared)
    shared.clear()
    gc.collect()
    stats = pool.stats()
    assert (stats.used, stats.structures) == (0, 3)
