"""Event: waiting until it is set."""

import pickle
import time

from children import LIMIT, asleep, eventually

import onecopy as oc

# ------------------------------------------------------------------------------------------- Event


def wait_for_event(event, ready):
    ready.put("waits")
    ready.put(event.wait())


def test_event(pool):
    event = pool.event("e")
    assert not event.is_set()
    before = time.monotonic()
    assert event.wait(0.05) is False
    assert time.monotonic() - before >= 0.05
    assert event.wait(0) is False
    event.set()
    event.set()
    assert event.is_set()
    assert event.wait() is True
    assert pool.event("e").is_set()
    assert pickle.loads(pickle.dumps(event)).is_set()
    event.clear()
    assert not event.is_set()
    assert oc.Event().wait(0) is False


def test_an_event_lets_all_go(pool, start, method):
    event, ready = pool.event(), pool.queue()
    waiters = [start(method, wait_for_event, event, ready) for _ in range(3)]
    for waiter in waiters:
        assert ready.get(timeout=LIMIT) == "waits"
        eventually(lambda waiter=waiter: asleep(waiter.pid), "the child to wait")
    waiters[0].kill()
    event.set()
    event.clear()  # the waiters have been woken anyway
    assert [ready.get(timeout=LIMIT) for _ in range(2)] == [True, True]
    assert [waiter.wait() for waiter in waiters[1:]] == [0, 0]
