"""Many tasks that wait cost little, and still learn of a death at once."""

import asyncio
import signal

import children
import pytest
from event_loops import until

import onecopy as oc
from onecopy._aio import loops

TASKS = 1200  # so many that a task tries again by itself only once in a minute
SOON = 30  # seconds; far less than that minute


@pytest.fixture
def attempts(monkeypatch):
    """Counts how often tasks were woken to try again."""
    counted = [0]

    def wake_all(wakeups):
        for wait in wakeups.take():
            counted[0] += 1
            if wait.wake is not None:
                wait.wake()

    monkeypatch.setattr(loops, "wake_all", wake_all)
    return counted


async def all_idle(attempts, waits):
    """Tasks of which each has tried once more, after its first nap."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    before = attempts[0]
    await until(lambda: attempts[0] >= before + len(tasks))
    return tasks


async def cancelled(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_idle_tasks_seldom_try_again(pool, attempts):
    queues = [pool.queue(maxsize=1) for _ in range(300)]

    async def main():
        tasks = await all_idle(attempts, [queue.aio.get() for queue in queues])
        before = attempts[0]
        await asyncio.sleep(1)  # the time in which attempts are counted
        tried = attempts[0] - before
        await cancelled(tasks)
        return tried

    # 20 per second, two looks at the pool, and those whose first nap was late.
    assert asyncio.run(main()) < len(queues)


def hold(locks, frames, ready):
    kept = frames.acquire()
    for lock in locks:
        lock.acquire()
    ready.set()
    signal.pause()
    del kept


def test_all_idle_tasks_learn_of_a_death(pool, attempts):
    locks = [pool.lock() for _ in range(TASKS)]
    frames = pool.frames("f", shape=(2,), dtype="u1", count=1)
    ready = pool.event()
    child = children.start("fork", hold, locks, frames, ready)
    assert ready.wait(children.LIMIT)

    async def main():
        waits = [lock.aio.acquire() for lock in locks]
        tasks = await all_idle(attempts, [*waits, frames.aio.acquire()])
        child.kill()
        async with asyncio.timeout(SOON):
            return await asyncio.gather(*tasks)

    with pytest.warns(oc.OwnerDiedWarning):
        *taken, frame = asyncio.run(main())
    assert taken == [True] * TASKS
    assert frame.shape == (2,)
    for lock in locks:
        lock.release()
