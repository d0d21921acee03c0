"""Conditions for tasks: `wait`, `wait_for` and `notify` on each event loop, and cancellation."""

import asyncio
import contextlib
import random
import threading

import children
import pytest
import seeds
from condition_waits import (
    hold,
    is_free,
    notify,
    started,
    wait_as_a_task,
    wait_as_a_thread,
    wait_once,
)
from event_loops import later, run

# ---- calls --------------------------------------------------------------------------------------


def test_a_wait_ends_with_a_notification(condition, loop):
    timer = later(lambda: [children.soon(lambda: condition.n_waiting), notify(condition)])
    assert run(loop, wait_once, condition) is True
    timer.join()
    assert is_free(condition)


@pytest.mark.parametrize("timeout", [0.01, 0, -1])
def test_a_wait_that_is_not_notified_in_time(condition, loop, timeout):
    async def main():
        async with condition.aio:
            assert await condition.aio.wait(timeout) is False
            assert not condition.acquire(False)  # it is held again
            assert condition.n_waiting == 0

    run(loop, main)
    assert is_free(condition)


def test_wait_for(condition, loop):
    values = []

    def change():
        for value in (0, 7):
            with condition:
                values.append(value)
                condition.notify_all()

    async def main():
        async with condition.aio:
            assert await condition.aio.wait_for(lambda: values and values[-1]) == 7
            assert await condition.aio.wait_for(lambda: "at once") == "at once"
            assert await condition.aio.wait_for(lambda: 0, timeout=0.01) == 0
            assert await condition.aio.wait_for(lambda: 0, 0) == 0

    timer = later(change)
    run(loop, main)
    timer.join()
    assert is_free(condition)


def test_the_errors_are_those_of_the_blocking_methods(condition, loop):
    async def main():
        with pytest.raises(RuntimeError, match="not held"):
            await condition.aio.wait()
        with pytest.raises(RuntimeError, match="not held"):
            condition.aio.notify()
        async with condition.aio:
            with pytest.raises(TypeError):
                await condition.aio.wait("soon")
            with pytest.raises(TypeError, match="predicate"):
                await condition.aio.wait_for(1)
            with pytest.raises(TypeError, match="timeout"):
                await condition.aio.wait_for(lambda: 0, "soon")
            with pytest.raises(ZeroDivisionError):
                await condition.aio.wait_for(lambda: 1 / 0)

    run(loop, main)
    assert is_free(condition)


def test_a_wait_outside_of_a_loop_changes_nothing(condition):
    condition.acquire()
    with pytest.raises(RuntimeError, match="no running event loop"):
        condition.aio.wait().send(None)
    assert condition.n_waiting == 0
    assert not condition.acquire(False)
    condition.release()


def test_a_condition_with_an_rlock_says_what_to_do(pool):
    with pytest.raises(AttributeError, match=r"pool\.lock\(\)"):
        _ = pool.condition("r").aio
    assert not hasattr(pool.condition(), "aio")
    again = pool.condition("c", pool.lock("l"))
    assert hasattr(pool.condition("c"), "aio")
    assert hasattr(again, "aio")


def test_tasks_are_notified_in_their_order(condition):
    async def main():
        got = []

        async def one(number):
            await wait_once(condition)
            got.append(number)

        tasks = await started(condition, *(one(number) for number in range(6)))
        async with condition.aio:
            condition.aio.notify()
        await tasks[0]
        async with condition.aio:
            condition.aio.notify(2)
        await asyncio.gather(*tasks[1:3])
        assert got == [0, 1, 2]
        assert condition.n_waiting == 3
        async with condition.aio:
            condition.aio.notify_all()
        await asyncio.gather(*tasks)
        assert got == list(range(6))

    run("asyncio", main)
    assert is_free(condition)


def test_several_loops(condition):
    count = []

    async def one():
        async with condition.aio:
            await condition.aio.wait_for(lambda: len(count) >= 40)

    async def main():
        await asyncio.gather(*(one() for _ in range(5)))

    threads = [threading.Thread(target=run, args=("asyncio", main)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        with condition:
            count.append(1)
            condition.notify_all()
    for thread in threads:
        thread.join()
    assert is_free(condition)


@pytest.mark.parametrize("way", [wait_as_a_task, wait_as_a_thread])
@pytest.mark.parametrize("method", children.METHODS)
def test_processes_notify_each_other(pool, condition, method, way):
    answers = pool.queue()
    child = children.start(method, way, condition, answers)
    children.eventually(lambda: condition.n_waiting == 1, "the child")

    async def main():
        async with condition.aio:
            condition.aio.notify()
        return await answers.aio.get()

    assert run("asyncio", main) is True
    assert child.wait() == 0
    assert is_free(condition)


# ---- cancellation -------------------------------------------------------------------------------


def test_a_cancelled_wait_has_the_lock_and_no_place(condition):
    async def main():
        seen = []

        async def one():
            async with condition.aio:
                try:
                    await condition.aio.wait()
                except asyncio.CancelledError:
                    seen.append(condition.acquire(False))
                    raise

        first, second = await started(condition, one(), wait_once(condition))
        first.cancel("why")
        with pytest.raises(asyncio.CancelledError, match="why"):
            await first
        assert seen == [False]
        assert condition.n_waiting == 1
        notify(condition)
        assert await second is True

    run("asyncio", main)
    assert is_free(condition)


def test_a_notification_of_a_cancelled_task_goes_to_the_next(condition):
    async def main():
        first, second = await started(condition, wait_once(condition), wait_once(condition))
        notify(condition)
        first.cancel()
        assert await second is True
        with pytest.raises(asyncio.CancelledError):
            await first

    run("asyncio", main)
    assert is_free(condition)


def test_a_notification_of_a_cancelled_task_goes_to_another_process(pool, condition):
    answers = pool.queue()

    async def main():
        (task,) = await started(condition, wait_once(condition))
        child = children.start("fork", wait_as_a_thread, condition, answers)
        children.eventually(lambda: condition.n_waiting == 2, "the child")
        notify(condition)
        task.cancel()
        assert await answers.aio.get() is True
        assert child.wait() == 0

    run("asyncio", main)
    assert is_free(condition)


def test_a_cancelled_task_waits_for_the_lock(condition):
    """It is cancelled while it sleeps, and twice more while it waits for the lock."""

    async def main():
        (task,) = await started(condition, wait_once(condition))
        async with condition.aio:
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0.01)
                assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task

    run("asyncio", main)
    assert is_free(condition)


def test_a_notified_task_is_cancelled_while_it_waits_for_the_lock(condition):
    async def main():
        first, second = await started(condition, wait_once(condition), wait_once(condition))
        async with condition.aio:
            condition.aio.notify()
            await asyncio.sleep(0.01)  # the first one is awake, and waits for the lock
            first.cancel()
            await asyncio.sleep(0.01)
            assert not first.done()
            assert condition.n_waiting == 1
        assert await second is True
        with pytest.raises(asyncio.CancelledError):
            await first

    run("asyncio", main)
    assert is_free(condition)


def test_a_block_with_a_timeout(condition):
    async def main():
        async with condition.aio:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await condition.aio.wait()
            assert not condition.acquire(False)
            async with asyncio.timeout(children.LIMIT):
                assert await condition.aio.wait(0.001) is False

    run("asyncio", main)
    assert is_free(condition)


def test_two_timeouts_end_while_the_task_waits_for_the_lock(condition):
    entered, release = threading.Event(), threading.Event()
    thread = threading.Thread(target=hold, args=(condition, entered, release))

    async def main():
        with pytest.raises(TimeoutError, match="outer"):
            await outer()
        assert asyncio.current_task().cancelling() == 0

    async def outer():
        try:
            async with asyncio.timeout(0.02):
                await inner()
        except TimeoutError:
            raise TimeoutError("outer") from None

    async def inner():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01), condition.aio:
                thread.start()
                await condition.aio.wait()
        await asyncio.sleep(children.LIMIT)

    timer = threading.Timer(0.05, release.set)
    timer.start()
    run("asyncio", main)
    timer.join()
    thread.join()
    assert is_free(condition)


def test_trio_cancels_a_wait(condition):
    trio = pytest.importorskip("trio")

    async def main():
        async with condition.aio:
            with trio.move_on_after(0.01) as scope:
                await condition.aio.wait()
            assert scope.cancelled_caught
            assert not condition.acquire(False)

    run("trio", main)
    assert is_free(condition)


def test_trio_cancels_a_notified_wait_that_wants_the_lock(condition):
    """The wait gives up, or counts: in no case the notification is lost."""
    trio = pytest.importorskip("trio")
    release, answers = threading.Event(), []

    def notify_and_hold():
        with condition:
            condition.notify()
            release.wait(children.LIMIT)

    async def first(scope):
        with scope:
            answers.append(await wait_once(condition))

    async def second():
        answers.append(await wait_once(condition))

    async def main():
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first, scope)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(second)
            await trio.testing.wait_all_tasks_blocked()
            thread = threading.Thread(target=notify_and_hold)
            thread.start()
            await trio.sleep(0.02)
            scope.cancel()
            await trio.sleep(0.01)
            release.set()
            await trio.to_thread.run_sync(thread.join)
            with trio.move_on_after(children.LIMIT):
                while not answers:
                    await trio.sleep(0.001)
            notify(condition)

    run("trio", main)
    assert answers[0] is True
    assert is_free(condition)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_cancels_a_wait(condition, backend):
    anyio = pytest.importorskip("anyio")
    pytest.importorskip(backend)

    async def main():
        async with condition.aio:
            with anyio.move_on_after(0.01) as scope:
                await condition.aio.wait()
            assert scope.cancelled_caught
        async with anyio.create_task_group() as group:
            group.start_soon(wait_once, condition)
            with anyio.fail_after(children.LIMIT):
                while not condition.n_waiting:
                    await anyio.sleep(0)
            async with condition.aio:
                group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.01)

    anyio.run(main, backend=backend)
    assert is_free(condition)


@pytest.mark.seeded
@pytest.mark.parametrize("share", [1, pytest.param(10, marks=pytest.mark.check)])
def test_random_cancellations_neither_lose_nor_double_a_notification(pool, condition, share):
    """An account of all notifications. Some waiters are never cancelled: tasks and a thread.

    There are never as many notifications on their way as there are such waiters. So one of them
    always waits, and can get the notification of a waiter that is cancelled.
    """
    rounds = 10_000 * share
    draw = random.Random(seeds.SEED)  # noqa: S311
    given, received, ended = [0], [0], [False]
    anchors = 4

    async def stay():
        async with condition.aio:
            while not ended[0]:
                notified = await condition.aio.wait()
                received[0] += notified

    def stay_in_a_thread():
        with condition:
            while not ended[0]:
                notified = condition.wait()
                received[0] += notified

    async def visit(seconds):
        async with condition.aio:
            notified = await condition.aio.wait(seconds)
            received[0] += notified

    async def visit_in_a_block(seconds):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), condition.aio:
                notified = await condition.aio.wait()
                received[0] += notified

    async def take_and_give():
        async with condition.aio:
            give()
            await asyncio.sleep(0)

    def give():
        most = min(condition.n_waiting, anchors - (given[0] - received[0]))
        if most > 0:
            number = draw.randint(1, most)
            condition.aio.notify(number)
            given[0] += number

    def give_in_a_thread():
        while not ended[0]:
            with condition:
                if condition.n_waiting and given[0] - received[0] < anchors:
                    condition.notify()
                    given[0] += 1

    async def main():
        fixed = await started(condition, *(stay() for _ in range(anchors)))
        tasks, cancelled = set(), 0
        while cancelled < rounds:
            while len(tasks) < 16:
                kind = draw.choice((visit, visit, visit_in_a_block, take_and_give))
                timeout = draw.choice((None, 0, 0.0001, 0.01))
                coroutine = kind() if kind is take_and_give else kind(timeout)
                tasks.add(asyncio.create_task(coroutine))
            for _ in range(draw.randrange(4)):
                await asyncio.sleep(0)
            for task in draw.sample(sorted(tasks, key=id), 5):
                cancelled += task.cancel()
            tasks = {task for task in tasks if not task.done()}
        for task in tasks:
            task.cancel()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert error is None or isinstance(error, asyncio.CancelledError), error
        await everything_has_come()
        ended[0] = True
        notify(condition, 1000)
        await asyncio.gather(*fixed)

    async def everything_has_come():
        # The waits of the threads of this test are not cancelled, so nothing is on its way then.
        while True:
            async with condition.aio:
                assert received[0] <= given[0]
                if received[0] == given[0]:
                    return
            await asyncio.sleep(0.001)

    threads = [threading.Thread(target=each) for each in (stay_in_a_thread, give_in_a_thread)]
    for thread in threads:
        thread.start()
    try:
        run("asyncio", main)
    finally:
        ended[0] = True
        while any(thread.is_alive() for thread in threads):
            notify(condition, 1000)
            for thread in threads:
                thread.join(0.01)
    assert is_free(condition)
    assert pool.validate() == []


def test_timeouts_at_the_moment_of_a_notification(condition):
    """Each notification is given to the one waiter that is there, and it says so."""
    rounds, told = seeds.more(300), 0
    draw = random.Random(seeds.SEED)  # noqa: S311
    given = [0]

    def feed():
        while given[0] < rounds:
            with condition:
                if condition.n_waiting:
                    condition.notify()
                    given[0] += 1

    async def main():
        nonlocal told
        while given[0] < rounds or condition.n_waiting:
            notified = await wait_once(condition, draw.random() * 0.0005)
            told += notified

    thread = threading.Thread(target=feed)
    thread.start()
    run("asyncio", main)
    thread.join()
    assert told == given[0]
    assert is_free(condition)
