"""Tasks that wait, and the lives of processes, loops, threads and pools around them."""

import asyncio
import gc
import os
import select
import subprocess
import sys
import textwrap
import threading
from functools import partial

import children
import forks
import pytest

import onecopy as oc
from onecopy._aio.loops import _loops


async def limited(coroutine):
    return await asyncio.wait_for(coroutine, children.LIMIT)


def run(coroutine):
    return asyncio.run(limited(coroutine))


# ---- deaths of processes ------------------------------------------------------------------------


def wait_in_all_ways(queue, full, lock, event, semaphore, frames, subscribed, stream):
    async def main():
        subscription = stream.subscribe()
        waits = [
            asyncio.create_task(each)
            for each in (
                queue.aio.get(),
                full.aio.put(2),
                lock.aio.acquire(),
                event.aio.wait(),
                semaphore.aio.acquire(),
                frames.aio.acquire(),
                subscription.aio.get(),
            )
        ]
        await asyncio.sleep(0.05)
        subscribed.set()
        await asyncio.gather(*waits)

    asyncio.run(main())


@pytest.mark.parametrize("method", children.METHODS)
def test_a_process_killed_while_it_waits_leaves_nothing(pool, method):
    queue, full, lock = pool.queue(), pool.queue(maxsize=1), pool.lock("l")
    event, semaphore, subscribed = pool.event("e"), pool.semaphore("s", 0), pool.event("b")
    frames = pool.frames("f", shape=(2,), dtype="u1", count=1)
    stream = pool.stream()
    full.put(1)
    lock.acquire()
    held = frames.acquire()
    child = children.start(
        method, wait_in_all_ways, queue, full, lock, event, semaphore, frames, subscribed, stream
    )
    assert subscribed.wait(children.LIMIT)
    child.kill()
    del held
    lock.release()
    semaphore.release()
    queue.put(3)
    event.set()

    async def here():
        assert await queue.aio.get() == 3
        assert full.get() == 1
        assert full.empty()
        assert await lock.aio.acquire()
        lock.release()
        assert await semaphore.aio.acquire()
        assert await event.aio.wait()
        await frames.aio.acquire()

    run(here())
    pool.collect()
    assert frames.available == 1
    assert pool.validate() == []


def take_one(queue):
    run(queue.aio.get())


def test_a_message_for_a_process_that_dies_asleep_goes_to_another(pool):
    queue = pool.queue()
    child = children.start("fork", take_one, queue)
    children.eventually(lambda: children.asleep(child.pid), "the child")
    child.kill()
    thread = threading.Timer(0.05, queue.put, ["it"])
    thread.start()
    assert run(queue.aio.get()) == "it"
    thread.join()


# ---- forks --------------------------------------------------------------------------------------


def test_a_forked_child_waits_by_itself(pool):
    queue, answers = pool.queue(), pool.queue()

    def child():
        assert run(queue.aio.get()) == 1
        answers.put(2)

    async def main():
        before = asyncio.create_task(queue.aio.get())
        await asyncio.sleep(0.01)
        before.cancel()
        await asyncio.gather(before, return_exceptions=True)
        loop = asyncio.get_running_loop()
        outcome = loop.run_in_executor(None, forks.in_child, child)
        await asyncio.sleep(0.05)
        queue.put(1)
        assert await answers.aio.get() == 2
        assert await outcome is None

    run(main())


def test_the_parents_waits_go_on_after_a_fork(pool):
    queue = pool.queue()

    async def main():
        task = asyncio.create_task(queue.aio.get())
        await asyncio.sleep(0.01)
        assert forks.in_child(lambda: None) is None
        queue.put(1)
        assert await task == 1

    run(main())


def test_a_child_drops_the_waits_of_its_parent(pool):
    """The copies of tasks that wait end in the child, and take no wake from the parent."""
    queue = pool.queue()

    async def main():
        task = asyncio.create_task(queue.aio.get())
        await asyncio.sleep(0.01)

        def child():
            nonlocal task
            coroutine = task.get_coro()
            coroutine.close()
            gc.collect()

        assert forks.in_child(child) is None
        queue.put(1)
        assert await task == 1

    run(main())


# ---- loops --------------------------------------------------------------------------------------


def test_several_loops_in_one_process(pool):
    queue, got = pool.queue(), []

    def one():
        got.extend(run(all_of_it()))

    async def all_of_it():
        return [item async for item in queue.aio]

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(400):
        queue.put(number)
    queue.shutdown()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(400))


def test_loops_one_after_the_other_leave_no_descriptor(pool):
    queue = pool.queue()

    async def main():
        await asyncio.gather(queue.aio.get(timeout=0.001), return_exceptions=True)

    run(main())
    gc.collect()
    before = children.descriptors()
    for _ in range(10):
        run(main())
    gc.collect()
    assert children.descriptors() == before


def test_a_loop_that_is_closed_with_waits_gives_their_wakes_back(pool):
    queue = pool.queue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(queue.aio.get())
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0.01))
    queue.put(1)  # the wake is for that task
    loop.close()
    del task, loop
    gc.collect()
    assert run(queue.aio.get()) == 1


def is_readable(wakeups):
    return bool(select.select([wakeups.fileno()], [], [], 0)[0])


@pytest.mark.parametrize("looks_again", [False, True])
def test_a_loop_that_stands_still_does_not_keep_the_wakes(pool, looks_again):
    queue = pool.queue()
    still = asyncio.new_event_loop()
    task = still.create_task(queue.aio.get())
    still.run_until_complete(asyncio.sleep(0.01))
    if looks_again:  # it was notified before any other task waits
        children.eventually(
            partial(is_readable, _loops[still].wakeups), "the end of the task's nap"
        )

    async def others():
        tasks = [asyncio.create_task(queue.aio.get()) for _ in range(2)]
        await asyncio.sleep(0.01)
        queue.put(1)
        queue.put(2)
        return sorted(await asyncio.gather(*tasks))

    assert run(others()) == [1, 2]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        still.run_until_complete(task)
    still.close()


# ---- pools and the end --------------------------------------------------------------------------


def test_a_pool_that_is_closed_ends_the_waits():
    pool = oc.Pool.create(size="8MiB")
    queue, lock = pool.queue(), pool.lock("l")
    lock.acquire()

    async def main():
        tasks = [asyncio.create_task(each) for each in (queue.aio.get(), lock.aio.acquire())]
        await asyncio.sleep(0.01)
        pool.close()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(error, oc.OneCopyError), error

    run(main())


def test_memory_of_a_pool_is_unmapped_while_a_cancelled_wait_sleeps():
    """The native thread still sleeps on a word of the pool when its memory goes."""

    async def main():
        for _ in range(20):
            with oc.Pool.create(size="8MiB") as pool:
                queue = pool.queue()
                task = asyncio.create_task(queue.aio.get())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                del queue, task
            del pool
            gc.collect()

    run(main())


def test_a_queue_that_is_shut_down_ends_the_waits(pool):
    queue, full = pool.queue(), pool.queue(maxsize=1)
    full.put(1)

    async def main():
        tasks = [asyncio.create_task(each) for each in (queue.aio.get(), full.aio.put(2))]
        await asyncio.sleep(0.01)
        queue.shutdown()
        full.shutdown()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(error, oc.ShutDown), error

    run(main())


@pytest.mark.parametrize("end", ["", "raise SystemExit(0)", "import os; os._exit(0)"])
def test_an_interpreter_that_ends_with_waits(end):
    program = textwrap.dedent("""
        import asyncio, threading
        import onecopy as oc
        pool = oc.Pool.create(size="8MiB")
        queue = pool.queue()
        condition = pool.condition("c", pool.lock("l"))
        barrier = pool.barrier("b", 100)
        async def at_the_condition():
            async with condition.aio:
                await condition.aio.wait()
        def waits(make):
            kinds = (queue.aio.get, at_the_condition, barrier.aio.wait)
            return [make(each()) for each in kinds for _ in range(3)]
        async def main():
            tasks = waits(asyncio.create_task)
            await asyncio.sleep(0.01)
        asyncio.run(main())
        barrier.reset()
        loop = asyncio.new_event_loop()
        tasks = waits(loop.create_task)
        for task in tasks:
            task._log_destroy_pending = False
        loop.run_until_complete(asyncio.sleep(0.01))
        def forever():
            async def wait():
                await queue.aio.get()
            asyncio.run(wait())
        threading.Thread(target=forever, daemon=True).start()
    """)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{program}\n{end}"],
        capture_output=True,
        text=True,
        timeout=children.LIMIT,
        env=os.environ,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_memory_that_a_closed_queue_had_is_not_written(pool):
    """The native thread still sleeps on a word of the queue when its memory has another content."""
    pattern = 0x7FFFFFFF

    async def main():
        other = pool.queue()
        for _ in range(20):
            watched = asyncio.create_task(other.aio.get())
            queue = pool.queue(maxsize=8)
            task = asyncio.create_task(queue.aio.get())
            await asyncio.sleep(0.002)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            queue.close()
            del queue, task
            gc.collect()
            arrays = [pool.shared_array(1 << size, "u4") for size in range(4, 14) for _ in range(8)]
            for array in arrays:
                array[:] = pattern
            # Its thread looks at all its words.
            other.put(1)
            await watched
            await asyncio.sleep(0.03)
            assert all((array == pattern).all() for array in arrays)

    run(main())
