"""The arguments of the awaitable twins.

Names are those of the blocking methods, what is refused is the same, and each number is a timeout.
"""

import asyncio
import inspect
import re
import threading
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from children import LIMIT
from event_loops import later, run

# Each makes a thing that a call has to wait for. It returns the blocking call, its twin, and what
# ends the wait.
CALLS = {}


def call(make):
    CALLS[make.__name__] = make
    return make


def _of(thing, name, *arguments):
    twin = getattr(thing.aio, name)
    return (
        lambda timeout: getattr(thing, name)(*arguments, timeout=timeout),
        lambda timeout: twin(*arguments, timeout=timeout),
    )


@call
def get(pool):
    queue = pool.queue()
    return *_of(queue, "get"), lambda: queue.put(1)


@call
def get_message(pool):
    queue = pool.queue()
    return *_of(queue, "get_message"), lambda: queue.put(1)


@call
def get_many(pool):
    queue = pool.queue()
    return *_of(queue, "get_many", 2), lambda: queue.put(1)


@call
def put(pool):
    queue = pool.queue(maxsize=1)
    queue.put(1)
    return *_of(queue, "put", 2), queue.get


@call
def put_many(pool):
    queue = pool.queue(maxsize=1)
    queue.put(1)
    return *_of(queue, "put_many", [2]), queue.get


@call
def join(pool):
    queue = pool.queue()
    queue.put(1)
    queue.get()
    return *_of(queue, "join"), queue.task_done


@call
def publish(pool):
    stream = pool.stream(depth=1, policy="lossless")
    subscription = stream.subscribe()
    stream.publish(1)
    return *_of(stream, "publish", 2), subscription.get


@call
def subscription(pool):
    stream = pool.stream()
    subscribed = stream.subscribe()
    return *_of(subscribed, "get"), lambda: stream.publish(1)


@call
def frames(pool):
    made = pool.frames("f", (2,), "u1", 1)
    held = [made.acquire()]
    return *_of(made, "acquire"), held.clear


@call
def lend(pool):
    made = pool.frames("f", (2,), "u1", 1)
    held = [made.acquire()]

    def blocking(timeout):
        with made.lend(timeout):
            pass

    async def twin(timeout):  # noqa: ASYNC109 - as the twins have it
        async with made.aio.lend(timeout):
            pass

    return blocking, twin, held.clear


@call
def lock(pool):
    made = pool.lock("l")
    made.acquire()
    return *_of(made, "acquire"), made.release


@call
def semaphore(pool):
    made = pool.semaphore("s", 0)
    return *_of(made, "acquire"), made.release


@call
def event(pool):
    made = pool.event("e")
    return *_of(made, "wait"), made.set


@call
def condition(pool):
    made, locked = pool.condition("c", pool.lock("cl")), threading.Event()

    def blocking(timeout):
        with made:
            locked.set()
            return made.wait(timeout)

    async def twin(timeout):  # noqa: ASYNC109 - as the twins have it
        async with made.aio:
            locked.set()
            return await made.aio.wait(timeout)

    def notify():
        # Before the other has the lock, a notification would reach nobody.
        assert locked.wait(LIMIT)
        with made:
            made.notify()

    return blocking, twin, notify


@call
def condition_wait_for(pool):
    made, done = pool.condition("c", pool.lock("cl")), []

    def blocking(timeout):
        with made:
            return made.wait_for(lambda: bool(done), timeout)

    async def twin(timeout):  # noqa: ASYNC109 - as the twins have it
        async with made.aio:
            return await made.aio.wait_for(lambda: bool(done), timeout)

    def notify():
        with made:
            done.append(1)
            made.notify()

    return blocking, twin, notify


@call
def barrier(pool):
    made = pool.barrier("b", 2)
    return *_of(made, "wait"), made.wait


THINGS = {
    "barrier": lambda pool: pool.barrier(None, 2),
    "bounded semaphore": lambda pool: pool.bounded_semaphore(None, 1),
    "condition": lambda pool: pool.condition(None, pool.lock()),
    "event": lambda pool: pool.event(),
    "frames": lambda pool: pool.frames("f", (2,), "u1", 1),
    "lock": lambda pool: pool.lock(),
    "queue": lambda pool: pool.queue(),
    "semaphore": lambda pool: pool.semaphore(None, 1),
    "stream": lambda pool: pool.stream(),
    "subscription": lambda pool: pool.stream().subscribe(),
}


def parameters(method):
    try:
        found = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return []
    return [(each.name, each.kind, each.default) for each in found]


@pytest.mark.parametrize("name", THINGS)
def test_each_method_that_may_wait_has_a_twin_with_the_same_parameters(pool, name):
    thing = THINGS[name](pool)
    methods = {each: parameters(getattr(thing, each)) for each in dir(thing) if each[0] != "_"}
    may_wait = {
        each: found
        for each, found in methods.items()
        if any(parameter[0] == "timeout" for parameter in found)
    }
    assert may_wait
    assert {each: parameters(getattr(thing.aio, each)) for each in may_wait} == may_wait


@pytest.mark.parametrize("name", ["lock", "semaphore", "condition"])
def test_blocking_is_another_name_of_block(pool, name):
    thing = THINGS[name](pool)
    acquire = thing.aio.acquire

    async def main():
        assert await acquire(blocking=True, timeout=60)
        assert not await acquire(blocking=False)
        assert not await acquire(block=False, blocking=False)
        assert not await acquire(timeout=0.01, blocking=True)
        with pytest.raises(TypeError, match="pass one of them"):
            await acquire(block=False, blocking=True)
        thing.aio.release()

    run("asyncio", main)


def outcome(function, *arguments):
    """Return the result or the error, without the names of classes and functions."""
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - each is compared
        return type(error), re.sub(r"^\w+\.\w+\(\)", "", str(error))


NO_TIMEOUTS = [float("nan"), "1", b"1", [1], object()]


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_timeout_is_refused_as_by_the_blocking_method(pool, name):
    blocking, twin, _ = CALLS[name](pool)
    for wrong in NO_TIMEOUTS:
        error = outcome(blocking, wrong)
        assert error[0] in {TypeError, ValueError}, (wrong, error)
        assert outcome(run, "asyncio", twin, wrong) == error
        with pytest.raises(error[0]) as caught:
            run("asyncio", twin, wrong)
        assert not re.match(r"(ConditionStay|BarrierParty)\.", str(caught.value))


# The barrier breaks.
@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"barrier"}))
def test_a_negative_timeout_does_what_it_does_for_the_blocking_method(pool, name):
    blocking, twin, _ = CALLS[name](pool)
    for number in (-1, -1.5, float("-inf")):
        assert outcome(run, "asyncio", twin, number) == outcome(blocking, number)


@pytest.mark.parametrize("endless", [float("inf"), 1e300])
@pytest.mark.parametrize("name", CALLS)
def test_a_timeout_without_end(pool, loop, name, endless):
    _, twin, end = CALLS[name](pool)
    timer = later(end)
    run(loop, twin, endless)
    timer.join()


NUMBERS = [np.float32(60), np.int64(60), Fraction(60), Decimal(60)]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("name", CALLS)
def test_a_number_of_another_type_does_not_stop_the_loop(pool, name, number):
    """The task that ends the wait runs in the same loop."""
    _, twin, end = CALLS[name](pool)

    async def main():
        task = asyncio.create_task(twin(number))
        await asyncio.sleep(0)
        assert not task.done()
        # In a thread, because a barrier's end waits.
        ender = threading.Thread(target=end)
        ender.start()
        await asyncio.wait_for(task, 30)
        ender.join()

    run("asyncio", main)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("name", ["condition_wait_for", "condition", "get"])
def test_a_number_of_another_type_is_a_timeout_of_the_blocking_method(pool, name, number):
    blocking, _, end = CALLS[name](pool)
    timer = later(end)
    blocking(number)
    timer.join()


def test_many_that_are_put_are_checked_before_the_first(pool):
    queue = pool.queue()
    for wrong in (*NO_TIMEOUTS, -1):
        expected = outcome(queue.put_many, [], wrong)
        assert expected[0] in {TypeError, ValueError}
        assert outcome(run, "asyncio", queue.aio.put_many, [], wrong) == expected
        assert outcome(run, "asyncio", queue.aio.put_many, [1], wrong) == expected
    assert outcome(run, "asyncio", queue.aio.put_many, 5) == outcome(queue.put_many, 5)
    assert queue.empty()


def test_many_that_do_not_fit_are_counted(pool):
    queue = pool.queue(maxsize=2)
    text = outcome(run, "asyncio", queue.aio.put_many, [1, 2, 3], 0.01)[1]
    assert text.endswith("; 2 objects were put before that")
    assert outcome(queue.put_many, [3], 0.01)[1].endswith("; 0 objects were put before that")
