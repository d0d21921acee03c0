"""Condition: waiting for a notification, also when a process dies."""

import contextlib
import pickle
import signal
import threading
import time
import warnings

import pytest
from children import LIMIT, eventually

import onecopy as oc

# --------------------------------------------------------------------------------------- Condition


def wait_once(condition, ready, timeout=None):
    with condition:
        ready.put("waits")
        answer = condition.wait(timeout)
        ready.put(answer)


def waiting(condition, n):
    eventually(lambda: condition.n_waiting == n, f"{n} to wait")


@pytest.fixture(params=["rlock", "lock"])
def condition(request, pool):
    """With both kinds of lock."""
    return pool.condition("it", getattr(pool, request.param)())


def test_condition_needs_its_lock(condition):
    for act in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError, match="whose lock is not held"):
            act()
    with condition:
        condition.notify()
        condition.notify_all()
        before = time.monotonic()
        assert condition.wait(0.05) is False
        assert time.monotonic() - before >= 0.05
        assert condition.wait(0) is False


def test_notify_wakes_exactly_so_many_and_the_oldest(condition, pool, start):
    ready, order = pool.queue(), []
    children = []
    for n in range(5):
        children.append(start("fork", wait_and_say, condition, ready, n))
        waiting(condition, n + 1)
    for n in (1, 2):
        with condition:
            condition.notify(n)
        order += [ready.get(timeout=LIMIT) for _ in range(n)]
        assert condition.n_waiting == 5 - len(order)
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2]
    with condition:
        condition.notify_all()
    assert sorted(ready.get(timeout=LIMIT) for _ in range(2)) == [3, 4]
    assert ready.empty()
    assert [child.wait() for child in children] == [0] * 5


def wait_and_say(condition, ready, number):
    with condition:
        condition.wait()
    ready.put(number)


def wait_in_threads(condition, number, woken):
    """Wait in that many threads of one process."""

    def wait():
        with condition:
            condition.wait()
        woken.put(1)

    threading.stack_size(256 << 10)
    threads = [threading.Thread(target=wait) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_more_threads_wait_than_a_condition_begins_with(start):
    """It begins with 256 places in a pool for few processes, and adds 1024 at a time."""
    with oc.Pool.create(size="64MiB", max_processes=8) as pool:
        condition, woken = pool.condition(), pool.queue()
        children = [start("fork", wait_in_threads, condition, 500, woken) for _ in range(3)]
        eventually(lambda: condition.n_waiting == 1500, "all to wait")
        assert pool.validate() == []
        with condition:
            condition.notify(3)
        for _ in range(3):
            woken.get(timeout=LIMIT)
        assert condition.n_waiting == 1497
        children[0].kill()
        with condition:
            condition.notify_all()
        for child in children[1:]:
            assert child.wait() == 0
        assert condition.n_waiting == 0
        assert pool.validate() == []


def fill(pool, size):
    """Allocate arrays until there is no space for another one."""
    with contextlib.suppress(oc.PoolFull):
        while True:
            yield pool.empty(size, "u1")


def test_a_wait_for_which_there_is_no_room(start):
    """The caller has the lock as before, and the condition continues to work."""
    with oc.Pool.create(size="8MiB", max_processes=8) as pool, oc.Pool.create(size="8MiB") as other:
        condition, woken = pool.condition(), other.queue()
        child = start("fork", wait_in_threads, condition, 256, woken)
        eventually(lambda: condition.n_waiting == 256, "all to wait")
        full = list(fill(pool, 1 << 20)) + list(fill(pool, 1 << 10))
        with condition:
            with pytest.raises(oc.PoolFull):
                condition.wait(0)
            condition.notify()
        woken.get(timeout=LIMIT)
        full.clear()
        with condition:
            assert condition.wait(0) is False
            condition.notify_all()
        assert child.wait() == 0


def test_notify_without_a_waiter_is_not_kept(condition):
    with condition:
        condition.notify(5)
        assert condition.wait(0.02) is False


def test_a_killed_waiter_is_passed_over(condition, pool, start, method):
    ready = pool.queue()
    first = start(method, wait_once, condition, ready)
    waiting(condition, 1)
    second = start(method, wait_once, condition, ready)
    waiting(condition, 2)
    first.kill()
    with condition:
        condition.notify()
    assert [ready.get(timeout=LIMIT) for _ in range(3)] == ["waits", "waits", True]
    assert second.wait() == 0
    assert pool.validate() == []


def test_who_dies_after_it_was_notified_passes_it_on(condition, pool, start):
    ready = pool.queue()
    first = start("fork", wait_once, condition, ready)
    waiting(condition, 1)
    second = start("fork", wait_once, condition, ready)
    waiting(condition, 2)
    with condition:  # it is notified, and cannot return before we release the lock
        condition.notify()
        assert condition.n_waiting == 1
        first.kill()
    assert [ready.get(timeout=LIMIT) for _ in range(3)] == ["waits", "waits", True]
    assert second.wait() == 0
    assert condition.n_waiting == 0


def test_the_lock_of_a_dead_notifier_comes_back_to_the_waiter(pool, start):
    condition, ready = pool.condition(), pool.queue()
    waiter = start("fork", wait_and_count_warnings, condition, ready)
    waiting(condition, 1)
    notifier = start("fork", notify_and_stay, condition, ready)
    assert ready.get(timeout=LIMIT) == "notified"
    notifier.kill()
    assert ready.get(timeout=LIMIT) == (True, 1)
    assert waiter.wait() == 0


def notify_and_stay(condition, ready):
    condition.acquire()
    condition.notify()
    ready.put("notified")
    threading.Event().wait()


def wait_and_count_warnings(condition, ready):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with condition:
            answer = condition.wait()
            ready.put((answer, len(caught)))


def test_wait_gives_back_all_of_an_rlock(pool, start):
    condition, ready = pool.condition(), pool.queue()
    child = start("fork", wait_twice_inside, condition, ready)
    waiting(condition, 1)
    assert condition.acquire(timeout=LIMIT)
    condition.notify()
    condition.release()
    assert ready.get(timeout=LIMIT) == [True, True, False]
    assert child.wait() == 0


def wait_twice_inside(condition, ready):
    lock = condition._lock
    with condition, condition:
        answers = [condition.wait()]
        condition.release()
        answers.append(lock._mine)
        condition.acquire()
    answers.append(lock._mine)
    ready.put(answers)


def test_wait_for(condition):
    state = []

    def later():
        with condition:
            state.append(1)
            condition.notify_all()

    thread = threading.Thread(target=later)
    with condition:
        thread.start()
        assert condition.wait_for(lambda: state, timeout=LIMIT) == [1]
        assert condition.wait_for(lambda: False, timeout=0.05) is False
    thread.join()


def test_an_interrupted_wait_has_the_lock_again(condition):
    class Stop(Exception):  # noqa: N818 - no error
        pass

    def stop(number, frame):
        raise Stop

    before = signal.signal(signal.SIGUSR1, stop)
    main = threading.get_ident()

    def interrupt():
        waiting(condition, 1)
        signal.pthread_kill(main, signal.SIGUSR1)

    thread = threading.Thread(target=interrupt)
    try:
        with condition:
            thread.start()
            with pytest.raises(Stop):
                condition.wait()
            assert condition._lock._mine
            assert condition.n_waiting == 0
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_producers_and_consumers_with_a_condition(condition, pool, start):
    box, ready = pool.shared_array(2, "i8"), pool.queue()
    takers = [start("fork", take_from_box, condition, box, 200) for _ in range(3)]
    for _ in range(600):
        with condition:
            box[0] += 1
            condition.notify()
    assert [taker.wait() for taker in takers] == [0, 0, 0]
    assert box.tolist() == [0, 600]
    del ready


def take_from_box(condition, box, times):
    for _ in range(times):
        with condition:
            condition.wait_for(lambda: box[0] > 0)
            box[0] -= 1
            box[1] += 1


def test_killed_waiters_at_any_instant(pool, start):
    condition, box, ready = pool.condition(), pool.shared_array(2, "i8"), pool.queue()
    for _ in range(10):
        victims = [start("fork", take_for_ever, condition, box, ready) for _ in range(3)]
        for _ in victims:
            ready.get(timeout=LIMIT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for victim in victims:
                for _ in range(5):
                    with condition:
                        box[0] += 1
                        condition.notify()
                victim.kill()
            with condition:
                condition.notify_all()
        assert pool.validate() == []
    answers = []
    thread = threading.Thread(target=lambda: answers.append(notified(condition)))
    thread.start()
    waiting(condition, 1)
    with condition:
        condition.notify()
    thread.join()
    assert answers == [True]


def notified(condition):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with condition:
            return condition.wait()


def take_for_ever(condition, box, ready):
    warnings.simplefilter("ignore")
    ready.put(None)
    while True:
        with condition:
            condition.wait_for(lambda: box[0] > 0)
            box[0] -= 1


def test_a_condition_keeps_its_lock(pool):
    lock = pool.lock()
    condition = pool.condition("c", lock)
    handle = lock.handle
    del lock
    again = pool.condition("c")
    assert again._lock_handle == handle
    with condition:
        assert again._lock.locked()
    assert pickle.loads(pickle.dumps(condition))._lock_handle == handle
    with pytest.raises(oc.OneCopyError, match="another lock"):
        pool.condition("c", pool.lock())
    with pytest.raises(TypeError, match="Lock or RLock"):
        pool.condition(None, threading.Lock())
    with oc.Pool.create(size="16MiB") as other, pytest.raises(ValueError, match="same pool"):
        pool.condition(None, other.lock())


def test_condition_in_the_default_pool():
    condition = oc.Condition()
    with condition:
        assert condition.wait(0) is False
    lock = oc.Lock()
    with oc.Condition(lock):
        assert lock.locked()


def test_a_callback_that_fails_in_wait_leaves_the_lock_held_and_unrepaired(pool, start):
    def fail(lock):
        raise KeyError("no")

    ready = pool.queue()
    lock = pool.lock("x", on_owner_death=fail)
    condition = pool.condition(None, lock)
    report = []

    def wait():
        try:
            with condition:
                condition.wait()
        except KeyError:
            report.append(lock.locked())

    thread = threading.Thread(target=wait)
    thread.start()
    waiting(condition, 1)
    notifier = start("fork", notify_and_stay, condition, ready)
    ready.get(timeout=LIMIT)
    notifier.kill()
    thread.join()
    assert report == [False]  # `with` has released it
    with pytest.warns(oc.OwnerDiedWarning):
        pool.lock("x").acquire()
    lock.release()


def test_an_interruption_comes_before_a_death(pool, start):
    class Stop(Exception):  # noqa: N818 - no error
        pass

    def stop(number, frame):
        raise Stop

    ready, seen = pool.queue(), []
    lock = pool.lock(on_owner_death=seen.append)
    condition = pool.condition(None, lock)
    before = signal.signal(signal.SIGUSR1, stop)
    main = threading.get_ident()

    def interrupt():
        waiting(condition, 1)
        holder = start("fork", acquire_and_stay, condition, ready)
        ready.get(timeout=LIMIT)
        signal.pthread_kill(main, signal.SIGUSR1)
        holder.kill()

    thread = threading.Thread(target=interrupt)
    try:
        with condition:
            thread.start()
            with pytest.raises(Stop):
                condition.wait()
            assert lock._mine
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert len(seen) == 1


def acquire_and_stay(condition, ready):
    condition.acquire()
    ready.put(None)
    threading.Event().wait()


def test_closing_a_pool_closes_the_lock_of_a_condition(pool_directory):
    pool = oc.Pool.create(size="16MiB")
    condition = pool.condition()
    pool.close()
    with pytest.raises(oc.OneCopyError, match="closed"):
        condition.acquire()
    assert list(pool_directory.iterdir()) == []


@pytest.mark.parametrize("name", [None, "c"])
def test_what_cannot_be_the_lock_of_a_condition(name, pool):
    pool.condition("c")
    with pytest.raises(TypeError, match="Lock or RLock"):
        pool.condition(name, threading.Lock())
    with pytest.raises(TypeError, match="Lock or RLock"):
        oc.Condition(threading.Lock())
