"""The awaitable twins on anyio's two backends: they wait, and a cancelled one loses nothing."""

import threading

import children
import pytest

anyio = pytest.importorskip("anyio")


@pytest.fixture(params=["asyncio", "trio"])
def run(request):
    """A function that runs a coroutine function, with a limit."""
    pytest.importorskip(request.param)

    def run(function):
        async def limited():
            with anyio.fail_after(children.LIMIT):
                await function()

        anyio.run(limited, backend=request.param)

    return run


async def cancelled(call):
    """Await it until it is certain that it waits, and cancel it."""
    with anyio.move_on_after(0.01) as scope:
        await call()
    assert scope.cancelled_caught


ROUNDS = 20


async def cancelled_meanwhile(call, give, take):
    """Cancel a wait in the moment in which another thread ends it.

    In each round, what was given is the result of the call, or is still there for another call.
    """
    results = []

    async def wait():
        results.append(await call())

    for _ in range(ROUNDS):
        thread = threading.Thread(target=give)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.sleep(0)
                thread.start()
                scope.cancel()
        await anyio.to_thread.run_sync(thread.join)
        take(results.pop() if results else await call())


def test_a_queue(pool, run):
    queue = pool.queue()

    async def main():
        await cancelled(queue.aio.get)
        await cancelled_meanwhile(queue.aio.get, lambda: queue.put(1), seen.append)
        async with anyio.create_task_group() as group:
            group.start_soon(queue.aio.put_many, [1, 2, 3])
            assert [await queue.aio.get() for _ in range(3)] == [1, 2, 3]
        queue.put(4)
        queue.shutdown()
        assert [item async for item in queue.aio] == [4]

    seen = []
    run(main)
    assert seen == [1] * ROUNDS


def test_a_put(pool, run):
    queue = pool.queue(maxsize=1)
    queue.put(0)

    async def main():
        await cancelled(lambda: queue.aio.put(1))
        assert queue.qsize() == 1
        async with anyio.create_task_group() as group:
            group.start_soon(queue.aio.put, 2)
            assert [await queue.aio.get() for _ in range(2)] == [0, 2]

    run(main)
    assert queue.empty()


def test_a_stream(pool, run):
    stream = pool.stream(depth=4 * ROUNDS)
    subscription = stream.subscribe()
    numbers, seen = iter(range(2 * ROUNDS)), []

    async def main():
        await cancelled(subscription.aio.get)
        await cancelled_meanwhile(
            subscription.aio.get, lambda: stream.publish(next(numbers)), seen.append
        )
        async with anyio.create_task_group() as group:
            group.start_soon(stream.aio.publish, "last")
            assert await subscription.aio.get() == "last"
        stream.shutdown()
        assert [item async for item in subscription.aio] == []

    run(main)
    assert seen == list(range(ROUNDS))
    assert subscription.missed == 0


def test_a_lossless_publisher(pool, run):
    stream = pool.stream(depth=1, policy="lossless")
    subscription = stream.subscribe()
    stream.publish(0)

    async def main():
        await cancelled(lambda: stream.aio.publish(1))
        async with anyio.create_task_group() as group:
            group.start_soon(stream.aio.publish, 2)
            assert [await subscription.aio.get() for _ in range(2)] == [0, 2]

    run(main)
    assert stream.published == 2


def test_frames(pool, run):
    frames = pool.frames("f", (4,), "u1", count=1)
    held = [frames.acquire()]

    async def main():
        await cancelled(frames.aio.acquire)
        assert frames.available == 0
        await cancelled_meanwhile(frames.aio.acquire, held.clear, held.append)
        held.clear()
        async with frames.aio.lend() as frame:
            frame[:] = 7
            await cancelled(frames.aio.acquire)
        assert frames.available == 1

    run(main)
    assert frames.available == 1
    assert frames.acquire(timeout=0)[0] == 7


def test_a_lock(pool, run):
    lock, results = pool.lock("l"), []
    lock.acquire()

    async def main():
        await cancelled(lock.aio.acquire)
        await cancelled_meanwhile(lock.aio.acquire, lock.release, results.append)
        lock.release()
        inside = []

        async def enter():
            async with lock.aio:
                inside.append(1)
                assert len(inside) == 1
                await anyio.sleep(0)
                inside.pop()

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(enter)

    run(main)
    assert results == [True] * ROUNDS
    assert lock.acquire(False)
    lock.release()
