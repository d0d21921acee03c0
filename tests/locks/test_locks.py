"""Lock and RLock: one owner at a time, by name or by handle, also when the owner dies."""

import gc
import pickle
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from children import LIMIT, asleep, eventually

import onecopy as oc
from onecopy.locks import LockOwner


@pytest.fixture(params=["lock", "rlock"])
def lock(request, pool):
    """Both kinds."""
    return getattr(pool, request.param)("it")


def hold(lock, ready):
    lock.acquire()
    ready.put(None)
    threading.Event().wait()


def test_the_methods_of_the_standard_library(lock):
    assert not lock.locked()
    assert lock.owner is None
    assert lock.acquire() is True
    assert lock.locked()
    lock.release()
    assert lock.acquire(False) is True
    lock.release()
    assert lock.acquire(block=True, timeout=0.1) is True
    lock.release()
    with lock as got:
        assert got is True
        assert lock.locked()
    assert not lock.locked()


def test_a_held_lock_is_refused_in_time(lock, pool, start, method):
    ready = pool.queue()
    started = time.monotonic()
    child = start(method, hold, lock, ready)
    ready.get(timeout=LIMIT)
    assert lock.locked()
    assert lock.acquire(False) is False
    assert lock.acquire(timeout=-1) is False
    before = time.monotonic()
    assert lock.acquire(timeout=0.05) is False
    assert time.monotonic() - before >= 0.05
    owner = lock.owner
    assert isinstance(owner, LockOwner)
    assert owner.pid == child.pid
    assert owner.alive
    assert 0.05 <= owner.age <= time.monotonic() - started
    assert f"process {child.pid}" in repr(lock)


def test_a_dead_owner_is_told_by_a_warning(lock, pool, start, method):
    ready = pool.queue()
    child = start(method, hold, lock, ready)
    ready.get(timeout=LIMIT)
    child.kill()
    assert not lock.locked()
    assert lock.owner.pid == child.pid
    assert not lock.owner.alive
    with pytest.warns(oc.OwnerDiedWarning, match=f"process {child.pid} died.*'it'"):
        assert lock.acquire(timeout=LIMIT)
    assert lock.owner.pid != child.pid
    lock.release()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with lock:  # reported once
            pass
    assert pool.validate() == []


def test_who_does_not_wait_gets_a_dead_owners_lock_too(lock, pool, start):
    ready = pool.queue()
    child = start("fork", hold, lock, ready)
    ready.get(timeout=LIMIT)
    assert lock.acquire(False) is False
    child.kill()
    with pytest.warns(oc.OwnerDiedWarning):
        assert lock.acquire(False) is True
    lock.release()


def wait_for(lock, ready):
    ready.put(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lock.acquire()
    ready.put("has it")
    lock.release()


def test_a_waiter_finds_its_owners_death_by_itself(lock, pool, start, method):
    """No other process uses the lock, and the waiter has no time limit that could wake it."""
    ready = pool.queue()
    owner = start("fork", hold, lock, ready)
    ready.get(timeout=LIMIT)
    waiter = start(method, wait_for, lock, ready)
    ready.get(timeout=LIMIT)
    eventually(lambda: asleep(waiter.pid), "the child to wait")
    assert ready.empty()
    owner.kill()
    assert ready.get(timeout=LIMIT) == "has it"
    assert waiter.wait() == 0


def test_a_killed_waiter_holds_up_nobody(lock, pool, start, method):
    ready = pool.queue()
    lock.acquire()
    waiters = [start(method, wait_for, lock, ready) for _ in range(2)]
    for waiter in waiters:
        ready.get(timeout=LIMIT)
        eventually(lambda waiter=waiter: asleep(waiter.pid), "the child to wait")
    waiters[0].kill()
    lock.release()
    ready.get(timeout=LIMIT)
    assert waiters[1].wait() == 0
    assert lock.acquire(timeout=LIMIT)
    lock.release()


def leave_without_release(lock):
    lock.acquire()


def test_an_owner_that_ends_without_a_release_is_told_too(lock, start, method):
    assert start(method, leave_without_release, lock).wait() == 0
    with pytest.warns(oc.OwnerDiedWarning, match="died, or left the pool"):
        lock.acquire(timeout=LIMIT)
    lock.release()


@pytest.mark.parametrize("kind", ["lock", "rlock"])
class TestPolicies:
    def kill_an_owner(self, lock, pool, start):
        ready = pool.queue()
        child = start("fork", hold, lock, ready)
        ready.get(timeout=LIMIT)
        child.kill()

    def test_raise_has_the_lock(self, kind, pool, start):
        lock = getattr(pool, kind)(on_owner_death="raise")
        self.kill_an_owner(lock, pool, start)
        with pytest.raises(oc.OwnerDied, match="then release the lock"):
            lock.acquire()
        assert lock._mine
        lock.release()
        with lock:
            pass

    def test_raise_out_of_with_has_the_lock(self, kind, pool, start):
        lock = getattr(pool, kind)(on_owner_death="raise")
        self.kill_an_owner(lock, pool, start)
        with pytest.raises(oc.OwnerDied), lock:
            pass
        assert lock._mine
        lock.release()

    def test_a_function_repairs(self, kind, pool, start):
        seen = []
        lock = getattr(pool, kind)("x", on_owner_death=lambda it: seen.append(it._mine))
        self.kill_an_owner(lock, pool, start)
        assert lock.acquire() is True
        assert seen == [True]
        lock.release()

    def test_a_function_that_fails_leaves_it_to_the_next(self, kind, pool, start):
        def fail(it):
            raise KeyError("no")

        lock = getattr(pool, kind)("x", on_owner_death=fail)
        self.kill_an_owner(lock, pool, start)
        for _ in range(3):
            with pytest.raises(KeyError):
                lock.acquire()
            assert not lock._mine
        with pytest.warns(oc.OwnerDiedWarning):
            getattr(pool, kind)("x").acquire()
        lock.release()

    def test_a_warning_that_is_an_error_leaves_it_to_the_next(self, kind, pool, start):
        lock = getattr(pool, kind)()
        self.kill_an_owner(lock, pool, start)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(oc.OwnerDiedWarning):
                lock.acquire()
        with pytest.warns(oc.OwnerDiedWarning):
            lock.acquire()
        lock.release()

    def test_the_policy_travels(self, kind, pool):
        lock = getattr(pool, kind)(on_owner_death="raise")
        assert pickle.loads(pickle.dumps(lock))._on_death.policy == "raise"

    @pytest.mark.parametrize(("policy", "error"), [("shout", ValueError), (5, TypeError)])
    def test_what_is_no_policy(self, kind, policy, error, pool):
        with pytest.raises(error, match="on_owner_death"):
            getattr(pool, kind)(on_owner_death=policy)


def test_releasing_a_lock_that_nobody_has(pool):
    lock = pool.lock()
    with pytest.raises(ValueError, match="nobody holds"):
        lock.release()
    with lock:
        pass
    with pytest.raises(ValueError, match="nobody holds"):
        lock.release()


def test_a_dead_owners_lock_is_not_released_by_others(pool, start):
    """Otherwise no process would ever be informed of the death."""
    lock, ready = pool.lock(), pool.queue()
    child = start("fork", hold, lock, ready)
    ready.get(timeout=LIMIT)
    child.kill()
    pool.collect()
    with pytest.raises(ValueError, match="is dead"):
        lock.release()
    with pytest.warns(oc.OwnerDiedWarning):
        lock.acquire()
    lock.release()


def release(lock):
    lock.release()


def test_another_process_may_release_a_lock(pool, start, method):
    lock = pool.lock()
    lock.acquire()
    assert start(method, release, lock).wait() == 0
    assert lock.acquire(False)
    lock.release()


def test_rlock_counts(pool):
    lock = pool.rlock()
    for _ in range(3):
        assert lock.acquire()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(lock.acquire(False)))
    thread.start()
    thread.join()
    for _ in range(2):
        lock.release()
        assert lock.locked()
    lock.release()
    assert answers == [False]
    assert not lock.locked()
    with pytest.raises(RuntimeError, match="this thread does not hold"):
        lock.release()


def test_rlock_belongs_to_the_thread(pool):
    lock = pool.rlock()
    lock.acquire()
    errors = []

    def release():
        try:
            lock.release()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=release)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert lock._mine
    lock.release()


def try_both(lock, answers):
    answers.put(lock.acquire(False))
    answers.put(lock._mine)


def test_a_forked_child_does_not_have_its_parents_lock(lock, pool, start):
    answers = pool.queue()
    with lock:
        assert start("fork", try_both, lock, answers).wait() == 0
        assert lock._mine
    assert answers.get_many(2) == [False, False]


def test_the_same_name_is_the_same_lock(pool, lock):
    again = getattr(pool, type(lock).__name__.lower())("it")
    assert again.name == "it"
    with lock:
        assert again.locked()
    assert again.handle == lock.handle


def test_lock_and_rlock_of_one_name_are_two(pool):
    with pool.lock("x"):
        assert pool.rlock("x").acquire(False)


def test_in_the_default_pool():
    for kind in (oc.Lock, oc.RLock):
        lock = kind()
        with lock:
            assert pickle.loads(pickle.dumps(lock)).locked()
        assert lock.name is None


def test_a_lock_that_is_gone(pool):
    lock = pool.lock()
    pickled = pickle.dumps(lock)
    del lock
    gc.collect()
    with pytest.raises(oc.StaleRef):
        pickle.loads(pickled)


def test_after_the_pool_was_closed(pool_directory):
    pool = oc.Pool.create(size="16MiB")
    lock = pool.lock("x")
    pool.close()
    with pytest.raises(oc.OneCopyError, match="closed"):
        lock.acquire()
    assert "closed" in repr(lock)


def count(lock, total, times):
    for _ in range(times):
        with lock:
            value = int(total[0])
            total[1] = value  # a second word, so that an overlap would show
            total[0] = value + 1


def test_nobody_is_in_between(lock, pool, start):
    total = pool.shared_array(2, "i8")
    running = [start("fork", count, lock, total, 3000) for _ in range(3)]
    threads = [threading.Thread(target=count, args=(lock, total, 1000)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [child.wait() for child in running] == [0, 0, 0]
    assert total.tolist() == [12_000, 11_999]


def count_for_ever(lock, pair, ready):
    ready.put(None)
    while True:
        with lock:
            pair[0] += 1
            pair[1] += 1


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", ["lock", "rlock"])
def test_killed_at_any_instant(kind, pool, start):
    """The next owner repairs what the lock protects, and no process sees it half changed."""
    pair, ready = pool.shared_array(2, "i8"), pool.queue()

    def repair(it):
        pair[:] = pair.min()

    lock = getattr(pool, kind)("x", on_owner_death=repair)
    for _ in range(15):
        victims = [start("fork", count_for_ever, lock, pair, ready) for _ in range(2)]
        for _ in victims:
            ready.get(timeout=LIMIT)
        reached = int(pair[0]) + 50
        eventually(lambda reached=reached: int(pair[0]) >= reached, "the children to count")
        for victim in victims:
            victim.kill()
            assert lock.acquire(timeout=LIMIT)
            assert pair[0] == pair[1]
            lock.release()
    assert pool.validate() == []


def test_signals_do_not_keep_a_dead_owner_from_being_found(lock, pool, start):
    """A profiler's timer interrupts every sleep."""
    ready = pool.queue()
    child = start("fork", hold, lock, ready)
    ready.get(timeout=LIMIT)
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    try:
        child.kill()
        with pytest.warns(oc.OwnerDiedWarning):
            assert lock.acquire(timeout=LIMIT)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    lock.release()


def test_a_lock_in_a_message(pool, start, method):
    queue, answers = pool.queue(), pool.queue()
    lock = pool.lock()
    queue.put({"lock": lock, "data": np.zeros(1000)})
    with lock:
        child = start(method, try_what_comes, queue, answers)
        assert answers.get(timeout=LIMIT) is False
    assert child.wait() == 0


def try_what_comes(queue, answers):
    answers.put(queue.get(timeout=LIMIT)["lock"].acquire(False))


def acquire_and_report(lock, report):
    try:
        report.append(lock.acquire())
    except oc.OneCopyError as error:
        report.append(error)


def asleep_in(native):
    with open(f"/proc/self/task/{native}/stat") as stat:  # noqa: PTH123 - short
        return stat.read().rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize("kind", ["lock", "rlock"])
def test_a_pool_that_is_closed_while_a_thread_waits(kind, pool, pool_directory):
    """The thread has no lock when it returns, and no process is informed of a death."""
    mine = oc.Pool.open(pool.name)
    lock, held = getattr(mine, kind)("x"), getattr(pool, kind)("x")
    held.acquire()
    report = []
    thread = threading.Thread(target=acquire_and_report, args=(lock, report))
    thread.start()
    eventually(lambda: asleep_in(thread.native_id), "the thread to wait")
    mine.close()
    held.release()
    thread.join()
    assert "closed in this process" in str(report[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert held.acquire(False)
    held.release()


@pytest.mark.parametrize("cls", [oc.Lock, oc.RLock])
def test_an_object_that_was_never_made(cls):
    class Unmade(cls):
        def __init__(self):
            pass

    for act in ("acquire", "__enter__"):
        with pytest.raises(TypeError, match="__init__"):
            getattr(Unmade(), act)()


def test_a_policy_that_refers_to_the_lock_is_garbage_in_the_end(pool):
    class Holder:
        def __init__(self):
            self.lock = pool.lock(on_owner_death=self.repair)
            self.rw = pool.rwlock(on_owner_death=self.repair)
            self.sides = self.rw.read(), self.rw.write()

        def repair(self, lock):
            pass

    before = pool.stats().structures
    Holder()
    assert pool.stats().structures > before
    gc.collect()
    assert pool.stats().structures == before
