"""`oc.wait`, and the descriptor of a queue."""

import selectors
import threading
from decimal import Decimal
from fractions import Fraction
from queue import Empty

import children
import forks
import numpy as np
import pytest

import onecopy as oc
from onecopy import _native


@pytest.fixture(params=["futex_waitv", "polling"], autouse=True)
def kernel(request):
    _native.pretend_no_futex_waitv(request.param == "polling")
    yield
    _native.pretend_no_futex_waitv(False)


def later(function, *arguments):
    timer = threading.Timer(0.02, function, arguments)
    timer.start()
    return timer


def everything(pool):
    """Make each kind of thing, not ready, and what makes it so."""
    queue, stream, event = pool.queue(), pool.stream(), pool.event("e")
    subscription = stream.subscribe()
    frames, lock = pool.frames("f", shape=(2,), dtype="u1", count=1), pool.lock("l")
    semaphore = pool.semaphore("s", 0)
    held = [frames.acquire()]
    lock.acquire()
    return {
        "queue": (queue, lambda: queue.put(1)),
        "subscription": (subscription, lambda: stream.publish(1)),
        "frames": (frames, held.clear),
        "event": (event, event.set),
        "lock": (lock, lock.release),
        "semaphore": (semaphore, semaphore.release),
    }


KINDS = ["queue", "subscription", "frames", "event", "lock", "semaphore"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_one_that_is_ready(pool, kind):
    made = everything(pool)
    things = [thing for thing, _ in made.values()]
    assert oc.wait(things, 0) == []
    assert oc.wait(things, 0.01) == []
    thing, make_ready = made[kind]
    timer = later(make_ready)
    assert oc.wait(things) == [thing]
    timer.join()
    assert oc.wait(things) == [thing]
    assert oc.wait(iter([thing]), 0) == [thing]


def test_all_that_are_ready_in_their_order(pool):
    made = everything(pool)
    for _, make_ready in made.values():
        make_ready()
    things = [thing for thing, _ in made.values()]
    assert oc.wait(things) == things


def test_the_end_of_a_queue_is_news(pool):
    queue = pool.queue()
    timer = later(queue.shutdown)
    assert oc.wait([queue]) == [queue]
    timer.join()


def test_a_wait_for_more_things_than_one_thread_has(pool):
    queues = [pool.queue(maxsize=1) for _ in range(200)]
    timer = later(queues[150].put, 1)
    assert oc.wait(queues) == [queues[150]]
    timer.join()


def test_wrong_arguments(pool):
    queue = pool.queue()
    with pytest.raises(TypeError, match="queues"):
        oc.wait([queue, 7])
    with pytest.raises(ValueError, match="timeout=-1"):
        oc.wait([queue], -1)
    with pytest.raises(ValueError, match="timeout=-inf"):
        oc.wait([queue], float("-inf"))
    with pytest.raises(ValueError, match="'timeout' must be a non-negative number"):
        oc.wait([queue], float("nan"))
    with pytest.raises(TypeError, match=r"write timeout=1"):
        oc.wait([queue], "1")
    queue.close()
    with pytest.raises(oc.Closed):
        oc.wait([queue])


@pytest.mark.parametrize(
    "number", [np.float32(0.01), np.int64(0), Fraction(1, 100), Decimal("0.01")]
)
def test_any_number_is_a_timeout(pool, number):
    assert oc.wait([pool.queue()], number) == []


def test_a_timeout_without_end(pool):
    queue = pool.queue()
    for endless in (float("inf"), 1e300):
        timer = later(queue.put, 1)
        assert oc.wait([queue], endless) == [queue]
        timer.join()
        queue.get()


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_thing_is_passed_in_a_list(pool, kind):
    thing, make_ready = everything(pool)[kind]
    make_ready()
    for things in (thing, iter(thing) if hasattr(thing, "__iter__") else thing):
        with pytest.raises(TypeError, match=rf"write onecopy\.wait\(\[{kind}\]\)"):
            oc.wait(things, 0.1)
    assert oc.wait([thing], 0) == [thing]  # nothing was taken


@pytest.mark.parametrize("wrong", [7, None, "stream", "condition", "barrier", "rwlock"])
def test_what_is_neither_a_thing_nor_a_list(pool, wrong):
    made = {
        "stream": pool.stream,
        "condition": pool.condition,
        "barrier": lambda: pool.barrier("b", 2),
        "rwlock": pool.rwlock,
    }
    with pytest.raises(TypeError, match="'things' must be a list of queues, subscriptions"):
        oc.wait(made[wrong]() if wrong in made else wrong)


def test_a_generator_over_a_queue_is_left_at_the_first_message(pool):
    queue = pool.queue()
    queue.put_many([1, 2, 3])
    with pytest.raises(TypeError, match="not int 1"):
        oc.wait(message for message in queue)
    assert queue.get_many(3) == [2, 3]


def wait_and_do_not_take(queue, ready, done):
    oc.wait([queue])
    ready.set()
    done.wait()


def test_who_only_looks_keeps_no_wake_from_who_takes(pool):
    queue, ready, done = pool.queue(), pool.event("r"), pool.event("d")
    child = children.start("fork", wait_and_do_not_take, queue, ready, done)
    children.eventually(lambda: children.asleep(child.pid), "the child")
    got = []
    thread = threading.Thread(target=lambda: got.append(queue.get()))
    thread.start()
    queue.put(1)
    thread.join()
    assert got == [1]
    queue.put(2)  # in case that the first one was taken before the child looked
    assert ready.wait(children.LIMIT)
    done.set()
    assert child.wait() == 0


# ---- the descriptor -----------------------------------------------------------------------------


def readable(descriptor, timeout):
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(timeout))


def test_the_descriptor_is_readable_until_a_get_finds_nothing(pool):
    queue = pool.queue()
    descriptor = queue.fileno()
    assert queue.fileno() == descriptor
    assert not readable(descriptor, 0)
    queue.put_many([1, 2])
    assert readable(descriptor, children.LIMIT)
    assert [queue.get_nowait(), queue.get_nowait()] == [1, 2]
    with pytest.raises(Empty):
        queue.get_nowait()
    assert not readable(descriptor, 0)
    timer = later(queue.put, 3)
    assert readable(descriptor, children.LIMIT)
    timer.join()
    assert queue.get() == 3


def test_a_descriptor_of_a_queue_with_something_in_it_and_of_one_that_ends(pool):
    queue = pool.queue()
    queue.put(1)
    assert readable(queue.fileno(), 0)
    queue.get()
    with pytest.raises(Empty):
        queue.get(timeout=0.001)
    assert not readable(queue.fileno(), 0)
    queue.shutdown()
    assert readable(queue.fileno(), children.LIMIT)


def test_a_selector_loop_gets_all(pool):
    queue, got = pool.queue(maxsize=4), []
    thread = threading.Thread(target=lambda: [queue.put(number) for number in range(500)])
    thread.start()
    with selectors.DefaultSelector() as selector:
        selector.register(queue, selectors.EVENT_READ)
        while len(got) < 500:
            assert selector.select(children.LIMIT)
            try:
                got.append(queue.get_nowait())
            except Empty:
                continue
    thread.join()
    assert got == list(range(500))


def test_a_forked_child_has_a_descriptor_of_its_own(pool):
    queue = pool.queue()
    mine = queue.fileno()

    def child():
        descriptor = queue.fileno()
        assert descriptor != mine
        assert not readable(descriptor, 0)
        queue.put(1)
        assert readable(descriptor, children.LIMIT)

    assert forks.in_child(child) is None
    assert readable(mine, children.LIMIT)


def test_it_goes_with_the_queue(pool):
    queue = pool.queue()
    before = children.descriptors()
    queue.fileno()
    assert children.descriptors() == before + 1
    queue.close()
    assert children.descriptors() == before
    with pytest.raises(oc.Closed):
        queue.fileno()
