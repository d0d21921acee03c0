"""Tasks that wait at a condition, and the ends of tasks, loops, processes and pools around them."""

import asyncio
import gc
import threading

import children
import forks
import pytest
from condition_waits import hold, is_free, notify, started, wait_as_a_task, wait_once
from event_loops import run, until

import onecopy as oc

# ---- destroyed tasks ----------------------------------------------------------------------------


def destroy(task):
    """As when the loop is closed, and the task is collected."""
    task._log_destroy_pending = False
    task.get_coro().close()


async def ended(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_a_destroyed_task_leaves_nothing(condition):
    async def main():
        first, second = await started(condition, wait_once(condition), wait_once(condition))
        destroy(first)
        assert condition.n_waiting == 1
        notify(condition)
        assert await second is True
        await ended(first)

    run("asyncio", main)
    assert is_free(condition)


def test_a_destroyed_task_does_not_release_the_lock_of_another(condition):
    async def main():
        first, second = await started(condition, wait_once(condition), wait_once(condition))
        async with condition.aio:
            destroy(first)
            assert not condition.acquire(False)
            assert condition.n_waiting == 1
            condition.aio.notify()
        assert await second is True
        await ended(first)

    run("asyncio", main)
    assert is_free(condition)


@pytest.mark.parametrize("is_held", [False, True])
def test_a_notification_of_a_destroyed_task_goes_to_another(pool, condition, is_held):
    async def main():
        first, second = await started(condition, wait_once(condition), wait_once(condition))
        async with condition.aio:
            condition.aio.notify()
            if is_held:
                destroy(first)
                assert not condition.acquire(False)
        if not is_held:
            destroy(first)
        assert await second is True
        await ended(first)

    run("asyncio", main)
    assert is_free(condition)
    assert pool.validate() == []


def test_a_destroyed_task_that_waits_for_the_lock(condition):
    async def main():
        (task,) = await started(condition, wait_once(condition))
        async with condition.aio:
            condition.aio.notify()
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.sleep(0.01)
            destroy(task)
            assert not condition.acquire(False)
        await ended(task)

    run("asyncio", main)
    assert is_free(condition)


def test_the_release_of_a_thread_counts_for_a_destroyed_task(condition):
    """The thread releases between the end of the wait and the end of the task's block."""

    async def main():
        async def one():
            async with condition.aio:
                try:
                    await condition.aio.wait()
                finally:
                    assert condition.acquire(False) is False
                    release.set()
                    thread.join()
                    assert condition.acquire(False) is False  # as if it had been handed over

        (task,) = await started(condition, one())
        thread = threading.Thread(target=hold, args=(condition, entered, release))
        thread.start()
        assert entered.wait(children.LIMIT)
        destroy(task)
        await ended(task)

    entered, release = threading.Event(), threading.Event()
    run("asyncio", main)
    assert is_free(condition)


def test_a_loop_that_is_closed_with_waits(condition):
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(wait_once(condition)) for _ in range(3)]
    loop.run_until_complete(asyncio.sleep(0.01))
    assert condition.n_waiting == 3
    for task in tasks:
        task._log_destroy_pending = False
    notify(condition)
    loop.close()
    del tasks, task, loop
    gc.collect()
    assert is_free(condition)


# ---- lives --------------------------------------------------------------------------------------


def wait_until_killed(condition):
    run("asyncio", many_waits, condition)


async def many_waits(condition):
    await asyncio.gather(*(wait_once(condition) for _ in range(5)))


@pytest.mark.parametrize("method", children.METHODS)
def test_a_process_killed_while_its_tasks_wait(pool, condition, method):
    child = children.start(method, wait_until_killed, condition)
    children.eventually(lambda: condition.n_waiting == 5, "the child")

    async def main():
        (task,) = await started(condition, wait_once(condition))
        child.kill()
        async with condition.aio:
            condition.aio.notify()
        assert await task is True

    run("asyncio", main)
    pool.collect()
    assert is_free(condition)
    assert pool.validate() == []


def test_a_notification_of_a_killed_process_goes_to_a_task(pool, condition):
    """The child dies after it was notified, before it has the lock."""
    child = children.start("fork", wait_as_a_task, condition, pool.queue())
    children.eventually(lambda: condition.n_waiting == 1, "the child")

    async def main():
        (task,) = await started(condition, wait_once(condition))
        with condition:
            condition.notify()
            child.kill()
        assert await task is True

    run("asyncio", main)
    assert is_free(condition)
    assert pool.validate() == []


def take_and_die(condition):
    condition.acquire()
    threading.Event().wait()


def test_the_owner_of_the_lock_dies(pool):
    condition = pool.condition("c", pool.lock("l", on_owner_death="raise"))

    async def main():
        async with condition.aio:
            child = children.start("fork", take_and_die, condition)
            task = asyncio.create_task(kill_the_owner(child))
            with pytest.raises(oc.OwnerDied):
                await forever()
            assert not condition.acquire(False)
            await task

    async def forever():
        while True:  # a waiter learns of the death when it gets the lock
            await condition.aio.wait(0.01)

    async def kill_the_owner(child):
        # Not this process, which has the lock between two waits.
        await until(lambda: (owner := condition._lock.owner) and owner.pid == child.pid)
        child.kill()

    run("asyncio", main)
    assert is_free(condition)


def test_a_child_has_no_part_in_the_waits_of_its_parent(condition):
    async def main():
        task, other = await started(condition, wait_once(condition), wait_once(condition))
        async with condition.aio:

            def child():
                destroy(task)
                destroy(other)
                assert condition._lock.owner is not None
                assert condition.n_waiting == 2
                assert condition._lock._owed == 0  # the copies have released what they owed

            assert forks.in_child(child) is None
            assert not condition.acquire(False)
            assert condition.n_waiting == 2
            condition.aio.notify(2)
        assert await asyncio.gather(task, other) == [True, True]

    run("asyncio", main)
    assert is_free(condition)


@pytest.mark.parametrize("make", ["lock", "semaphore", "condition"])
def test_a_child_does_not_release_the_lock_of_a_task_of_its_parent(pool, make):
    lock = pool.lock("l")
    it = {"lock": lock, "semaphore": pool.semaphore("s"), "condition": pool.condition("c", lock)}
    it = it[make]

    async def main():
        async def keep():
            async with it.aio:
                await asyncio.sleep(children.LIMIT)

        task = asyncio.create_task(keep())
        await asyncio.sleep(0.01)
        assert forks.in_child(task.get_coro().close) is None
        assert not it.acquire(False)
        await ended(task)
        assert it.acquire(False)
        it.release()

    run("asyncio", main)


def test_a_child_waits_by_itself(pool, condition):
    def child():
        assert run("asyncio", wait_once, condition)

    async def main():
        (before,) = await started(condition, wait_once(condition))
        outcome = asyncio.get_running_loop().run_in_executor(None, forks.in_child, child)
        await until(lambda: condition.n_waiting == 2)
        notify(condition, 2)
        assert await before is True
        assert await outcome is None

    run("asyncio", main)
    assert is_free(condition)


def test_a_condition_is_detached_while_tasks_wait(pool, condition):
    other = pool.condition("c")

    async def main():
        (task,) = await started(condition, wait_once(condition))
        condition.detach()
        notify(other)
        with pytest.raises(oc.Closed):  # from the end of the block, as for threads
            await task

    run("asyncio", main)
    other.acquire(timeout=children.LIMIT)
    assert other.n_waiting == 0


def test_a_pool_is_closed_while_tasks_wait():
    pool = oc.Pool.create(size="8MiB")
    condition = pool.condition("c", pool.lock("l"))

    async def main():
        tasks = await started(condition, *(wait_once(condition) for _ in range(3)))
        pool.close()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(error, oc.OneCopyError), error

    run("asyncio", main)


def test_more_tasks_than_one_thread_can_wait_for(condition):
    async def main():
        tasks = [asyncio.create_task(wait_once(condition)) for _ in range(300)]
        await until(lambda: condition.n_waiting == 300)
        notify(condition, 1000)
        assert await asyncio.gather(*tasks) == [True] * 300

    run("asyncio", main)
    assert is_free(condition)
