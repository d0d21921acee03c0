"""Semaphores: counted, and the tokens of dead processes come back."""

import pickle
import threading
import time

import pytest
from children import LIMIT, asleep, eventually

import onecopy as oc

pytestmark = pytest.mark.one_in(2)


@pytest.fixture(params=["semaphore", "bounded_semaphore"])
def make(request, pool):
    """Make both kinds: ``make(name, value)``."""
    return getattr(pool, request.param)


def take_and_stay(semaphore, ready, n=1):
    for _ in range(n):
        semaphore.acquire()
    ready.put(None)
    threading.Event().wait()


def take_one(semaphore, ready):
    ready.put("waits")
    semaphore.acquire()
    ready.put("has it")


def test_the_methods_of_the_standard_library(make):
    semaphore = make(None, 2)
    assert semaphore.get_value() == 2
    assert semaphore.acquire() is True
    with semaphore as got:
        assert got is True
        assert semaphore.get_value() == 0
        assert semaphore.acquire(False) is False
        assert semaphore.acquire(timeout=-1) is False
        before = time.monotonic()
        assert semaphore.acquire(True, 0.05) is False
        assert time.monotonic() - before >= 0.05
    semaphore.release()
    assert semaphore.get_value() == 2


def test_more_than_the_initial_value(pool):
    semaphore = pool.semaphore(None, 1)
    semaphore.release(n=3)
    assert semaphore.get_value() == 4
    bounded = pool.bounded_semaphore(None, 2)
    with pytest.raises(ValueError, match="released too many times"):
        bounded.release()
    bounded.acquire()
    with pytest.raises(ValueError, match="released too many times"):
        bounded.release(2)
    bounded.release()
    with pytest.raises(ValueError, match="one or more"):
        semaphore.release(0)


def test_tokens_of_the_dead_come_back(make, pool, start, method):
    semaphore, ready = make(None, 3), pool.queue()
    child = start(method, take_and_stay, semaphore, ready, 2)
    ready.get(timeout=LIMIT)
    assert semaphore.get_value() == 1
    child.kill()
    assert semaphore.get_value() == 3
    assert pool.validate() == []


def test_tokens_come_back_to_who_waits(make, pool, start, method):
    semaphore, ready = make(None, 1), pool.queue()
    owner = start(method, take_and_stay, semaphore, ready)
    ready.get(timeout=LIMIT)
    waiter = start("fork", take_one, semaphore, ready)
    ready.get(timeout=LIMIT)
    eventually(lambda: asleep(waiter.pid), "the child to wait")
    assert ready.empty()
    owner.kill()
    assert ready.get(timeout=LIMIT) == "has it"


def test_tokens_come_back_to_who_does_not_wait(make, pool, start):
    semaphore, ready = make(None, 1), pool.queue()
    owner = start("fork", take_and_stay, semaphore, ready)
    ready.get(timeout=LIMIT)
    assert semaphore.acquire(False) is False
    owner.kill()
    assert semaphore.acquire(False) is True


def test_a_killed_waiter_takes_nothing_along(make, pool, start, method):
    semaphore, ready = make(None, 1), pool.queue()
    semaphore.acquire()
    waiter = start(method, take_one, semaphore, ready)
    ready.get(timeout=LIMIT)
    eventually(lambda: asleep(waiter.pid), "the child to wait")
    waiter.kill()
    semaphore.release()
    assert semaphore.acquire(timeout=LIMIT)


def test_signals_are_used_up(pool, start, method):
    """Tokens that were released without being acquired do not come back with a death."""
    signals, ready = pool.semaphore(None, 0), pool.queue()
    for _ in range(5):
        signals.release()
    child = start(method, take_and_stay, signals, ready, 3)
    ready.get(timeout=LIMIT)
    child.kill()
    pool.collect()
    assert signals.get_value() == 2
    assert pool.validate() == []


def give_one(semaphore):
    semaphore.release()


def test_a_token_that_was_handed_on_comes_back_once(pool, start, method):
    semaphore, ready = pool.semaphore(None, 2), pool.queue()
    taker = start(method, take_and_stay, semaphore, ready)
    ready.get(timeout=LIMIT)
    assert start(method, give_one, semaphore).wait() == 0  # for the taker
    assert semaphore.get_value() == 2
    taker.kill()
    assert semaphore.get_value() == 2


def test_without_recovery_the_dead_keep_their_tokens(make, pool, start):
    places, ready = make("places", 3, recover=False), pool.queue()
    child = start("fork", take_and_stay, places, ready, 2)
    ready.get(timeout=LIMIT)
    child.kill()
    pool.collect()
    assert places.get_value() == 1
    places.release(2)
    assert places.get_value() == 3
    assert not make("places").recovers
    with pytest.raises(oc.OneCopyError, match="recover=False"):
        make("places", recover=True)


def test_a_dead_predecessor_in_the_same_slot(pool, start):
    """A new process gets the table entry of a dead one; the tokens in it are not its own."""
    semaphore, ready = pool.semaphore(None, 5), pool.queue()
    for _ in range(3):
        child = start("fork", take_and_stay, semaphore, ready, 3)
        ready.get(timeout=LIMIT)
        child.kill()
        pool.collect()  # the slot is free now; the semaphore does not know of it yet
    assert semaphore.get_value() == 5


def test_traffic_does_not_keep_the_deads_token(pool, start):
    """Processes that pass one token all the time must not hide that another token is lost."""
    semaphore, ready, stop = pool.semaphore(None, 2), pool.queue(), pool.event()
    dead = start("fork", take_and_stay, semaphore, ready)
    ready.get(timeout=LIMIT)
    busy = [start("fork", pass_around, semaphore, ready, stop) for _ in range(2)]
    for _ in busy:
        ready.get(timeout=LIMIT)
    dead.kill()
    eventually(lambda: not stop.is_set() and both_at_once(semaphore), "both tokens")
    stop.set()
    assert [child.wait() for child in busy] == [0, 0]


def pass_around(semaphore, ready, stop):
    ready.put(None)
    while not stop.is_set():
        with semaphore:
            pass


def both_at_once(semaphore):
    if not semaphore.acquire(timeout=1):
        return False
    second = semaphore.acquire(timeout=1)
    if second:
        semaphore.release()
    semaphore.release()
    return second


def work_inside(semaphore, inside, peak, lock, times):
    for _ in range(times):
        with semaphore:
            with lock:
                inside[0] += 1
                peak[0] = max(peak[0], inside[0])
            with lock:
                inside[0] -= 1


def test_never_more_inside_than_there_are_tokens(make, pool, start):
    semaphore, lock = make(None, 2), pool.lock()
    inside, peak = pool.shared_array(1, "i8"), pool.shared_array(1, "i8")
    running = [start("fork", work_inside, semaphore, inside, peak, lock, 500) for _ in range(4)]
    assert [child.wait() for child in running] == [0] * 4
    assert inside[0] == 0
    assert 1 <= peak[0] <= 2
    assert semaphore.get_value() == 2


def take_and_give(semaphore, ready):
    ready.put(None)
    while True:
        with semaphore:
            pass


@pytest.mark.one_in(2)
def test_killed_at_any_instant(make, pool, start):
    semaphore, ready = make(None, 2), pool.queue()
    for _ in range(15):
        victims = [start("fork", take_and_give, semaphore, ready) for _ in range(3)]
        for _ in victims:
            ready.get(timeout=LIMIT)
        for victim in victims:
            victim.kill()
        assert semaphore.acquire(timeout=LIMIT)
        assert semaphore.acquire(timeout=LIMIT)
        semaphore.release(2)
        assert semaphore.get_value() == 2
        assert pool.validate() == []


def test_by_name_and_by_handle(make):
    semaphore = make("x", 4)
    assert make("x").get_value() == 4
    assert make("x", 4).initial == 4
    with pytest.raises(oc.OneCopyError, match=r"value=4.*value=5"):
        make("x", 5)
    with pickle.loads(pickle.dumps(semaphore)):
        assert semaphore.get_value() == 3


@pytest.mark.parametrize("kind", [oc.Semaphore, oc.BoundedSemaphore])
def test_in_the_default_pool(kind):
    assert kind().get_value() == 1
    assert kind(7).get_value() == 7
    with pytest.raises(ValueError, match="value=-1"):
        kind(-1)


def test_whether_somebody_has_looked_makes_no_difference(pool, start):
    """A release after a death wakes one waiter; the dead process's token comes back as well."""
    for look in (False, True):
        semaphore, ready = pool.semaphore(None, 1), pool.queue()
        child = start("fork", take_and_stay, semaphore, ready)
        ready.get(timeout=LIMIT)
        child.kill()
        pool.collect()
        if look:
            assert semaphore.get_value() == 1
        semaphore.release()
        assert semaphore.get_value() == 2


def test_many_at_once(pool):
    semaphore = pool.semaphore(None, 3)
    for _ in range(3):
        semaphore.acquire()
    semaphore.release(2**31 - 1)
    assert semaphore.get_value() == 2**31 - 1
    with pytest.raises(ValueError, match="too large"):
        semaphore.release(2**31)
    assert pool.validate() == []
