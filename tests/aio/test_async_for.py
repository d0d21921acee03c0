"""`async for` over a queue and a subscription: what is there is taken without a coroutine."""

import asyncio
import collections.abc
import gc
import sys
import weakref

import pytest
from event_loops import later, run, until

import onecopy as oc


@pytest.fixture(params=["queue", "subscription"])
def channel(request, pool):
    """A function that sends, one that tells how much is there, and what is iterated."""
    if request.param == "queue":
        queue = pool.queue()
        yield queue.put, queue.qsize, queue
        return
    stream = pool.stream(depth=512)
    subscription = stream.subscribe()

    def left():
        with oc.observe(pool) as observer:
            (view,) = observer.snapshot().streams
        return view.subscribers[0].lag

    yield stream.publish, left, subscription
    subscription.close()


def test_nothing_is_taken_before_it_is_awaited(channel):
    send, left, source = channel
    send("a")
    items = aiter(source.aio)
    anext(items)
    anext(items).close()
    with pytest.raises(KeyError, match="x"):
        anext(items).throw(KeyError("x"))
    with pytest.raises(KeyError, match="x"):
        anext(items).throw(KeyError, "x")
    with pytest.raises(TypeError, match="just-started"):
        anext(items).send("something")
    assert left() == 1
    assert asyncio.run(first(items)) == "a"


async def first(items):
    return await anext(items)


def test_a_task_that_is_cancelled_before_it_runs_takes_nothing(channel):
    send, left, source = channel
    send("a")

    async def main():
        task = asyncio.create_task(anext(aiter(source.aio)))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left() == 1
        assert await asyncio.create_task(anext(aiter(source.aio))) == "a"
        assert await asyncio.wait_for(anext(aiter(source.aio)), 100) == "b"

    timer = later(send, "b")
    asyncio.run(main())
    timer.join()


def test_a_task_that_is_cancelled_while_it_waits_takes_nothing(channel):
    send, left, source = channel

    async def main():
        task = asyncio.create_task(anext(aiter(source.aio)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        send("a")
        assert left() == 1

    asyncio.run(main())


def test_it_is_awaited_once(channel):
    send, _, source = channel
    send("a")
    send("b")

    async def main():
        item = anext(aiter(source.aio))
        assert isinstance(item, collections.abc.Coroutine)
        assert await item == "a"
        with pytest.raises(RuntimeError, match="already awaited"):
            await item

    asyncio.run(main())


@pytest.mark.parametrize("item", [None, (1, 2), (), ValueError("sent"), StopIteration(7)])
@pytest.mark.parametrize("traced", [False, True])
def test_any_item_comes_as_it_is(channel, item, traced):
    send, _, source = channel
    send(item)

    async def main():
        return [got async for got in Limited(source.aio, 1)]

    before = sys.gettrace()
    if traced:  # then the interpreter uses another way to get the result of an awaitable
        sys.settrace(lambda *_: None)
    try:
        got = asyncio.run(main())
    finally:
        sys.settrace(before)
    assert repr(got) == repr([item])


class Limited:
    """The first items of an asynchronous iterable."""

    def __init__(self, items, count):
        self.items = aiter(items)
        self.left = count

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.left -= 1
        if self.left < 0:
            raise StopAsyncIteration
        return await anext(self.items)


def test_other_tasks_run_although_items_never_end(pool, loop):
    queue = pool.queue(maxsize=1)
    queue.put(0)

    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(tick())
        taken = 0
        async for number in queue.aio:
            taken += 1
            if taken == 1000:
                break
            queue.put(number + 1)
        task.cancel()
        return ticks

    if loop == "trio":
        pytest.skip("the tasks of this test are asyncio's")
    assert 10 <= run(loop, main) <= 30


def test_an_object_that_cannot_be_rebuilt_raises_and_the_loop_can_go_on(pool):
    queue = pool.queue()
    queue.put(Breaks())
    queue.put("next")

    async def main():
        items = aiter(queue.aio)
        with pytest.raises(ValueError, match="on purpose"):
            await anext(items)
        return await anext(items)

    assert asyncio.run(main()) == "next"


class Breaks:
    def __reduce__(self):
        return fail, ()


def fail():
    raise ValueError("on purpose")


def test_a_closed_channel_raises_where_it_is_awaited(pool):
    queue = pool.queue()
    item = anext(aiter(queue.aio))
    queue.close()
    with pytest.raises(oc.Closed):
        asyncio.run(once(item))

    async def rest():
        return [each async for each in subscription.aio]

    subscription = pool.stream().subscribe()
    subscription.close()
    assert asyncio.run(rest()) == []


async def once(awaitable):
    return await awaitable


def test_a_task_that_closes_the_queue_while_another_one_waits(pool):
    queue = pool.queue()

    async def main():
        task = asyncio.create_task(anext(aiter(queue.aio)))
        await asyncio.sleep(0)
        queue.shutdown()
        with pytest.raises(StopAsyncIteration):
            await task

    asyncio.run(main())


class Once:
    """Suspends a coroutine one time."""

    def __await__(self):
        yield "suspended"


def test_iterators_are_collected(pool):
    queue = pool.queue()

    async def later(pause):
        await Once()
        return pause

    later.items = queue._items(later)
    later.dropped, later.waiting = anext(later.items), anext(later.items)
    assert later.waiting.send(None) == "suspended"
    gone = weakref.ref(later)
    del later  # a cycle: the iterator has the function, whose attribute it is
    gc.collect()
    assert gone() is None


def test_the_coroutine_in_its_place_gets_what_is_sent_and_thrown(pool):
    queue = pool.queue()

    async def later(pause):
        try:
            await Once()
        except KeyError:
            await Once()
        return pause

    items = queue._items(later)
    one = anext(items)
    assert one.send(None) == "suspended"
    assert one.throw(KeyError("x")) == "suspended"
    with pytest.raises(StopIteration) as over:
        next(one)
    assert over.value.value is False
    with pytest.raises(RuntimeError, match="already awaited"):
        next(one)
    two = anext(items)
    two.send(None)
    two.close()
    with pytest.raises(RuntimeError, match="already awaited"):
        next(two)
    three = anext(items)
    three.send(None)
    with pytest.raises(ValueError, match="y"):
        three.throw(ValueError("y"))


def test_references_come_back(pool):
    queue = pool.queue()
    before = sys.getrefcount(queue)

    async def main():
        for number in range(100):
            queue.put(number)
        async for number in queue.aio:
            if number == 99:
                break
        task = asyncio.create_task(anext(aiter(queue.aio)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: True)

    asyncio.run(main())
    gc.collect()
    assert sys.getrefcount(queue) == before
