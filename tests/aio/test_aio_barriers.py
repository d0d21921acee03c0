"""Barriers for tasks, and frames that are lent to them."""

import asyncio
import random
import threading
from queue import Empty

import children
import forks
import pytest
import seeds
from event_loops import later, run, until

import onecopy as oc

Broken = threading.BrokenBarrierError


def works(barrier):
    """Whether all parties can pass, after a reset."""
    barrier.reset()
    passed = []
    threads = [
        threading.Thread(target=lambda: passed.append(barrier.wait(children.LIMIT)))
        for _ in range(barrier.parties)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(passed) == list(range(barrier.parties))


async def arrived(barrier, *coroutines):
    """Start tasks that wait at the barrier, one after the other."""
    tasks, there = [], barrier.n_waiting
    for each in coroutines:
        tasks.append(asyncio.create_task(each))
        await until(lambda: barrier.n_waiting == there + len(tasks))
    return tasks


def test_a_task_and_a_thread(pool, loop):
    barrier, numbers = pool.barrier("b", 2), []
    timer = later(lambda: numbers.append(barrier.wait()))
    numbers.append(run(loop, barrier.aio.wait))
    timer.join()
    assert sorted(numbers) == [0, 1]


def test_one_party_needs_no_other(pool, loop):
    calls = []
    barrier = pool.barrier("b", 1, action=lambda: calls.append(1))
    assert run(loop, barrier.aio.wait, 0) == 0
    assert calls == [1]


@pytest.mark.parametrize("timeout", [0.01, 0, -1])
def test_a_barrier_breaks_when_the_time_is_up(pool, loop, timeout):
    barrier = pool.barrier("b", 2)
    with pytest.raises(Broken):
        run(loop, barrier.aio.wait, timeout)
    assert barrier.broken
    with pytest.raises(Broken):
        run(loop, barrier.aio.wait)
    assert works(barrier)


def test_the_timeout_of_the_object(pool):
    barrier = pool.barrier("b", 2, timeout=0.01)
    with pytest.raises(Broken):
        run("asyncio", barrier.aio.wait)
    with pytest.raises(TypeError):
        run("asyncio", barrier.aio.wait, "soon")
    assert works(barrier)


def test_rounds_of_tasks(pool):
    calls = []
    barrier = pool.barrier("b", 5, action=lambda: calls.append(1))

    async def one():
        return [await barrier.aio.wait() for _ in range(50)]

    async def main():
        return await asyncio.gather(*(one() for _ in range(5)))

    rounds = run("asyncio", main)
    assert all(sorted(each) == list(range(5)) for each in zip(*rounds, strict=True))
    assert len(calls) == 50
    assert barrier.n_waiting == 0


def test_an_action_that_raises_breaks_it(pool):
    barrier = pool.barrier("b", 2, action=lambda: 1 / 0)

    async def main():
        first = asyncio.create_task(barrier.aio.wait())
        await asyncio.sleep(0)
        with pytest.raises(ZeroDivisionError):
            await barrier.aio.wait()
        with pytest.raises(Broken):
            await first

    run("asyncio", main)
    assert barrier.broken


def test_a_task_waits_while_the_action_of_others_runs(pool):
    """It is cancelled in there: it has not arrived, so nothing breaks."""
    running, release = threading.Event(), threading.Event()

    def act():
        running.set()
        release.wait(children.LIMIT)

    barrier = pool.barrier("b", 1, action=act)
    same = pool.barrier("b")
    thread = threading.Thread(target=barrier.wait)
    thread.start()
    assert running.wait(children.LIMIT)

    async def main():
        first, second = (asyncio.create_task(same.aio.wait(0.001)) for _ in range(2))
        await asyncio.sleep(0.02)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not same.broken
        release.set()
        assert await second == 0

    run("asyncio", main)
    thread.join()


@pytest.mark.parametrize("end", [lambda task: task.cancel(), lambda task: task.get_coro().close()])
def test_a_cancelled_or_destroyed_task_breaks_it(pool, end):
    barrier = pool.barrier("b", 3)

    async def main():
        first, second = await arrived(barrier, barrier.aio.wait(), barrier.aio.wait())
        end(first)
        with pytest.raises(Broken):
            await second
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert barrier.n_waiting == 0

    run("asyncio", main)
    assert works(barrier)


def test_a_block_with_a_timeout_breaks_it(pool, loop):
    barrier = pool.barrier("b", 2)

    async def main():
        if loop == "trio":
            import trio

            with trio.move_on_after(0.01):
                await barrier.aio.wait()
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await barrier.aio.wait()

    run(loop, main)
    assert barrier.broken
    assert works(barrier)


def test_a_task_that_is_cancelled_after_the_others_have_come(pool):
    barrier = pool.barrier("b", 2)

    async def main():
        (first,) = await arrived(barrier, barrier.aio.wait())
        thread = threading.Thread(target=barrier.wait)
        thread.start()
        thread.join()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not barrier.broken

    run("asyncio", main)
    assert works(barrier)


def test_reset_and_abort(pool):
    barrier = pool.barrier("b", 2)

    async def main():
        for end in (barrier.reset, barrier.abort):
            (task,) = await arrived(barrier, barrier.aio.wait())
            end()
            with pytest.raises(Broken):
                await task

    run("asyncio", main)
    assert works(barrier)


@pytest.mark.seeded
def test_random_cancellations(pool):
    """A round passes for all parties, or for none of those that were not cancelled in time."""
    barrier = pool.barrier("b", 4)
    draw = random.Random(seeds.SEED)  # noqa: S311
    rounds = seeds.more(400)

    async def one():
        try:
            return await barrier.aio.wait(draw.choice((None, 0.001)))
        except Broken:
            return -1

    async def main():
        for _ in range(rounds):
            tasks = [asyncio.create_task(one()) for _ in range(4)]
            for task in tasks:
                for _ in range(draw.randrange(3)):
                    await asyncio.sleep(0)
                if draw.random() < 0.2:
                    task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            if any(task.done() for task in tasks):
                barrier.abort()  # one that was cancelled before it began has not arrived
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            numbers = [each for each in answers if not isinstance(each, BaseException)]
            passed = [each for each in numbers if each >= 0]
            assert passed in ([], numbers)
            assert len(set(passed)) == len(passed)
            if not passed or len(passed) < 4:
                barrier.reset()
            assert barrier.n_waiting == 0

    run("asyncio", main)
    assert works(barrier)
    assert pool.validate() == []


def wait_at(barrier):
    run("asyncio", barrier.aio.wait)


@pytest.mark.parametrize("method", children.METHODS)
def test_a_party_that_is_killed_breaks_it(pool, method):
    barrier = pool.barrier("b", 3)
    child = children.start(method, wait_at, barrier)
    children.eventually(lambda: barrier.n_waiting == 1, "the child")

    async def main():
        (task,) = await arrived(barrier, barrier.aio.wait())
        child.kill()
        with pytest.raises(Broken, match=str(child.pid)):
            await task

    run("asyncio", main)
    assert works(barrier)


def test_a_child_has_no_part_in_the_waits_of_its_parent(pool):
    barrier = pool.barrier("b", 2)

    async def main():
        (task,) = await arrived(barrier, barrier.aio.wait())
        assert forks.in_child(task.get_coro().close) is None
        assert not barrier.broken
        assert barrier.n_waiting == 1
        assert await barrier.aio.wait() == 1
        assert await task == 0

    run("asyncio", main)


def test_a_pool_is_closed_while_tasks_wait():
    pool = oc.Pool.create(size="8MiB")
    barrier = pool.barrier("b", 2)

    async def main():
        tasks = await arrived(barrier, barrier.aio.wait())
        pool.close()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(error, oc.OneCopyError), error

    run("asyncio", main)


def test_a_barrier_is_detached_while_a_task_waits(pool):
    barrier, other = pool.barrier("b", 2), pool.barrier("b")

    async def main():
        (task,) = await arrived(barrier, barrier.aio.wait())
        barrier.detach()
        with pytest.raises(oc.Closed):
            await task
        assert other.broken

    run("asyncio", main)


# ---- frames -------------------------------------------------------------------------------------


def test_a_frame_is_lent_for_a_block(pool, loop):
    frames = pool.frames("f", shape=(4,), dtype="u1", count=1)
    held = [frames.acquire()]

    async def main():
        with pytest.raises(Empty):
            async with frames.aio.lend(0.01):
                pytest.fail("no frame is free")
        timer = later(held.clear)
        async with frames.aio.lend() as frame:
            frame[:] = 7
            assert frames.available == 0
        timer.join()
        assert frame.shape == (0,)
        assert frames.available == 1
        with pytest.raises(ZeroDivisionError):
            await fail()
        assert frames.available == 1

    async def fail():
        async with frames.aio.lend(timeout=1) as frame:
            assert frame[0] == 7
            raise ZeroDivisionError

    run(loop, main)


def test_a_cancelled_block_returns_its_frame(pool):
    frames = pool.frames("f", shape=(4,), dtype="u1", count=1)

    async def main():
        async def keep():
            async with frames.aio.lend():
                await asyncio.sleep(children.LIMIT)

        first, second = asyncio.create_task(keep()), asyncio.create_task(keep())
        await asyncio.sleep(0.01)
        for task in (second, first):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert frames.available == 1
        destroyed = asyncio.create_task(keep())
        await asyncio.sleep(0.01)
        assert frames.available == 0
        destroyed.get_coro().close()
        assert frames.available == 1
        destroyed.cancel()
        await asyncio.gather(destroyed, return_exceptions=True)

    run("asyncio", main)
