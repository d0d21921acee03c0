"""The awaitable twins do what the blocking methods do, on each event loop."""

import asyncio
import queue as standard
import threading

import children
import numpy as np
import pytest
from event_loops import later, run

import onecopy as oc


def test_a_get_waits_for_a_put(pool, loop):
    queue = pool.queue()
    timer = later(queue.put, "late")
    assert run(loop, queue.aio.get) == "late"
    timer.join()
    queue.put("early")
    assert run(loop, queue.aio.get) == "early"


def test_a_put_waits_for_room(pool, loop):
    queue = pool.queue(maxsize=1)
    queue.put(1)
    timer = later(queue.get)
    run(loop, queue.aio.put, np.arange(10_000))
    timer.join()
    assert queue.get().sum() == 49_995_000


def test_the_errors_are_those_of_the_blocking_methods(pool, loop):
    queue = pool.queue(maxsize=1)
    with pytest.raises(standard.Empty):
        run(loop, queue.aio.get, True, 0.01)
    with pytest.raises(standard.Empty):
        run(loop, queue.aio.get, False)
    with pytest.raises(ValueError, match="non-negative"):
        run(loop, queue.aio.get, True, -1)
    with pytest.raises(TypeError):
        run(loop, queue.aio.get, True, "soon")
    queue.put(1)
    with pytest.raises(standard.Full):
        run(loop, queue.aio.put, 2, True, 0.01)
    with pytest.raises(standard.Full):
        run(loop, queue.aio.put_many, [2, 3], 0.01)
    with pytest.raises(TimeoutError):
        run(loop, queue.aio.join, 0.01)


def test_many_and_messages(pool, loop):
    queue = pool.queue(maxsize=4, redeliver=True)

    async def both():
        await queue.aio.put_many(range(4))
        assert await queue.aio.get_many(3) == [0, 1, 2]
        message = await queue.aio.get_message()
        assert message.item == 3
        message.task_done()
        for _ in range(3):
            queue.task_done()
        await queue.aio.join(1)

    run(loop, both)


def test_a_loop_over_a_queue_ends_with_it(pool, loop):
    queue = pool.queue()
    queue.put_many(range(200))
    timer = later(queue.shutdown)

    async def all_of_it():
        return [item async for item in queue.aio]

    assert run(loop, all_of_it) == list(range(200))
    timer.join()


def test_a_subscription(pool, loop):
    stream = pool.stream()
    subscription = stream.subscribe()
    timer = later(stream.publish, "news")
    assert run(loop, subscription.aio.get) == "news"
    timer.join()
    with pytest.raises(standard.Empty):
        run(loop, subscription.aio.get, 0.01)
    run(loop, stream.aio.publish, "more")
    stream.shutdown()

    async def rest():
        return [item async for item in subscription.aio]

    assert run(loop, rest) == ["more"]


def test_a_lossless_publisher_waits_for_its_reader(pool, loop):
    stream = pool.stream(depth=2, policy="lossless")
    subscription = stream.subscribe()
    for number in range(2):
        stream.publish(number)
    with pytest.raises(standard.Full):
        run(loop, stream.aio.publish, 2, 0.01)
    timer = later(subscription.get)
    run(loop, stream.aio.publish, 2)
    timer.join()


def test_frames(pool, loop):
    frames = pool.frames("f", shape=(4,), dtype="u1", count=1)
    held = [frames.acquire()]
    with pytest.raises(standard.Empty):
        run(loop, frames.aio.acquire, 0.01)
    timer = later(held.clear)
    assert run(loop, frames.aio.acquire).shape == (4,)
    timer.join()


@pytest.mark.parametrize("make", ["lock", "semaphore", "bounded_semaphore"])
def test_locks(pool, loop, make):
    lock = getattr(pool, make)("l")

    async def inside():
        async with lock.aio:
            assert not await lock.aio.acquire(timeout=0.01)
            assert not await lock.aio.acquire(False)
        assert await lock.aio.acquire()
        lock.aio.release()

    run(loop, inside)
    lock.acquire()
    timer = later(lock.release)
    assert run(loop, lock.aio.acquire)
    timer.join()
    lock.release()


def test_tasks_exclude_each_other(pool, loop):
    lock, inside, total = pool.lock("l"), [], []

    async def one():
        for _ in range(20):
            async with lock.aio:
                inside.append(1)
                assert len(inside) == 1
                await asyncio.sleep(0)
                inside.pop()
            total.append(1)

    async def all_of_them():
        await asyncio.gather(*(one() for _ in range(10)))

    if loop == "trio":
        pytest.skip("gather is asyncio's")
    run(loop, all_of_them)
    assert len(total) == 200


def test_an_event(pool, loop):
    event = pool.event("e")
    assert run(loop, event.aio.wait, 0.01) is False

    done = threading.Event()

    def blink():
        while not done.wait(0.001):
            event.set()
            event.clear()  # waiters resume nevertheless

    timer = later(blink)
    assert run(loop, event.aio.wait) is True
    done.set()
    timer.join()
    event.set()
    assert run(loop, event.aio.wait) is True


def test_a_full_pool_is_waited_for(loop):
    with oc.Pool.create(size="8MiB") as pool:
        queue = pool.queue()
        queue.put(np.zeros(5 << 20, "u1"))

        async def put():
            await queue.aio.put(np.ones(5 << 20, "u1"))

        timer = later(queue.get)
        run(loop, put)
        timer.join()
        assert queue.get()[0] == 1


def test_a_busy_queue_lets_other_tasks_run(pool, loop):
    queue, ticks = pool.queue(maxsize=0), []
    queue.put_many(range(1000))
    if loop == "trio":
        pytest.skip("the same code runs on trio")

    async def main():
        async def tick():
            while True:
                ticks.append(1)
                await asyncio.sleep(0)

        other = asyncio.create_task(tick())
        for _ in range(1000):
            await queue.aio.get()
        other.cancel()

    run(loop, main)
    assert len(ticks) >= 10


def test_a_dead_owner_of_a_lock_is_found(pool, loop):
    lock = pool.lock("l", on_owner_death="raise")
    child = children.start("fork", hold, lock)
    children.eventually(lambda: lock.owner is not None, "the child")
    child.kill()

    async def take():
        with pytest.raises(oc.OwnerDied):
            await lock.aio.acquire()

    run(loop, take)
    lock.release()


def hold(lock):
    lock.acquire()
    threading.Event().wait()


def test_many_tasks_on_one_queue_each_get_one(pool, loop):
    if loop == "trio":
        pytest.skip("gather is asyncio's")
    queue = pool.queue()

    async def main():
        tasks = [asyncio.create_task(queue.aio.get()) for _ in range(100)]
        await asyncio.sleep(0)
        for number in range(100):
            queue.put(number)
        return await asyncio.gather(*tasks)

    assert sorted(run(loop, main)) == list(range(100))


def test_more_words_than_one_thread_can_wait_for(pool, loop):
    if loop == "trio":
        pytest.skip("gather is asyncio's")
    queues = [pool.queue(maxsize=1) for _ in range(300)]

    async def main():
        tasks = [asyncio.create_task(each.aio.get()) for each in queues]
        await asyncio.sleep(0)
        for number, each in enumerate(queues):
            each.put(number)
        return await asyncio.gather(*tasks)

    assert run(loop, main) == list(range(300))


def test_futures_of_an_executor(loop):
    with oc.Executor(1) as executor:

        async def main():
            assert await executor.submit(pow, 2, 10) == 1024
            with pytest.raises(ZeroDivisionError):
                await executor.submit(divmod, 1, 0)

        run(loop, main)


def test_a_call_outside_of_a_loop(pool):
    queue, lock = pool.queue(), pool.lock()
    # Each 64th call lets other tasks run first.
    for _ in range(64):
        with pytest.raises(RuntimeError, match="no running event loop"):
            queue.aio.get().send(None)
    lock.acquire()
    for _ in range(64):
        with pytest.raises(RuntimeError, match="no running event loop"):
            lock.aio.acquire().send(None)
    lock.release()
