"""A cancelled task has taken nothing, has put nothing, and has kept no wake for itself."""

import asyncio
import random
import threading
from queue import Empty, Full

import children
import numpy as np
import pytest
import seeds

ROUNDS = 100_000


def run(coroutine):
    async def limited():
        return await asyncio.wait_for(coroutine, 10 * children.LIMIT)

    return asyncio.run(limited())


async def cancel(tasks):
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_a_cancelled_get_leaves_the_object(pool):
    queue = pool.queue()

    async def main():
        task = asyncio.create_task(queue.aio.get())
        await asyncio.sleep(0)
        await cancel([task])
        queue.put(1)
        assert await queue.aio.get(timeout=children.LIMIT) == 1

    run(main())


def test_a_wake_of_a_cancelled_task_goes_to_the_next(pool):
    """The put has woken the first task. It is cancelled before it runs."""
    queue = pool.queue()

    async def main():
        first, second = (asyncio.create_task(queue.aio.get()) for _ in range(2))
        await asyncio.sleep(0.01)
        queue.put(1)
        first.cancel()
        assert await second == 1
        assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], BaseException)

    run(main())


def take(queue, got):
    got.put(queue.get())


def test_a_wake_of_a_cancelled_task_goes_to_another_process(pool):
    queue, got = pool.queue(), pool.queue()

    async def main():
        task = asyncio.create_task(queue.aio.get())
        await asyncio.sleep(0.01)
        child = children.start("fork", take, queue, got)
        children.eventually(lambda: children.asleep(child.pid), "the child")
        queue.put(1)
        await cancel([task])
        assert got.get(timeout=children.LIMIT) == 1
        assert child.wait() == 0

    run(main())


@pytest.mark.seeded
@pytest.mark.parametrize("share", [1, pytest.param(50, marks=pytest.mark.check)])
def test_random_cancellations_neither_lose_nor_double(pool, share):
    """Objects, tokens, frames and a lock; threads are at the other end."""
    rounds = ROUNDS * share // 50
    draw = random.Random(seeds.SEED)  # noqa: S311
    jobs = pool.queue(maxsize=8)
    results = pool.queue(maxsize=4)
    semaphore = pool.semaphore("s", 3)
    lock = pool.lock("l")
    frames = pool.frames("f", shape=(8,), dtype="i8", count=2)
    ended = threading.Event()
    sent, taken, put, received = [], [], [], []
    inside = [0]

    def feed():
        number = 0
        while not ended.is_set():
            try:
                jobs.put(number, timeout=0.01)
            except Full:
                continue
            sent.append(number)
            number += 1

    def drain():
        while not (ended.is_set() and results.empty()):
            try:
                received.append(results.get(timeout=0.01))
            except Empty:
                continue

    async def get():
        taken.append(await jobs.aio.get())

    async def get_some():
        async for number in jobs.aio:
            taken.append(number)
            if number % 3 == 0:
                break

    async def put_one(number):
        await results.aio.put(number)
        put.append(number)

    async def token():
        await semaphore.aio.acquire()
        try:
            await asyncio.sleep(0)
        finally:
            semaphore.release()

    async def locked():
        async with lock.aio:
            inside[0] += 1
            assert inside[0] == 1
            try:
                await asyncio.sleep(0)
            finally:
                inside[0] -= 1

    async def frame():
        held = await frames.aio.acquire()
        held[0] = 1
        await asyncio.sleep(0)
        del held

    async def main():
        kinds = [get, get_some, put_one, token, locked, frame]
        tasks, cancelled, number = set(), 0, 0
        while cancelled < rounds:
            while len(tasks) < 24:
                kind = draw.choice(kinds)
                number += 1
                coroutine = kind(number) if kind is put_one else kind()
                tasks.add(asyncio.create_task(coroutine))
            for _ in range(draw.randrange(3)):
                await asyncio.sleep(0)
            for task in draw.sample(sorted(tasks, key=id), 8):
                cancelled += task.cancel()
            tasks = {task for task in tasks if not task.done()}
        await cancel(tasks)

    threads = [threading.Thread(target=each) for each in (feed, drain)]
    for thread in threads:
        thread.start()
    try:
        run(main())
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    while not jobs.empty():
        taken.append(jobs.get())
    assert taken == sent
    assert received == put
    assert semaphore.get_value() == 3
    assert lock.acquire(False)
    lock.release()
    assert frames.available == 2
    assert pool.validate() == []


def test_timeouts_at_the_moment_of_a_put_lose_nothing(pool):
    queue, got = pool.queue(), []
    rounds = seeds.more(300)

    def feed():
        for number in range(rounds):
            queue.put(number)

    thread = threading.Thread(target=feed)

    async def main():
        thread.start()
        while len(got) < rounds:
            try:
                async with asyncio.timeout(0.0003):
                    got.append(await queue.aio.get())
            except TimeoutError:
                continue

    run(main())
    thread.join()
    assert got == list(range(rounds))


def test_a_large_object_of_a_cancelled_put_is_released(pool):
    queue = pool.queue(maxsize=1)
    queue.put(0)
    before = children.used(pool)

    async def main():
        tasks = [asyncio.create_task(queue.aio.put(np.zeros(1 << 20))) for _ in range(4)]
        await asyncio.sleep(0.01)
        await cancel(tasks)

    run(main())
    assert children.used(pool) == before
    assert queue.get() == 0
