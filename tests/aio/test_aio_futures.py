"""Futures of an executor with the functions of asyncio that take several of them."""

import asyncio
import concurrent.futures

import pytest
from children import eventually
from event_loops import run

import onecopy as oc


@pytest.fixture
def executor():
    with oc.Executor(1) as executor:
        yield executor


def test_wait_refuses_them_at_once_and_says_what_to_write(executor, pool):
    gate = pool.event("gate")
    future = executor.submit(gate.wait)

    async def main():
        with pytest.raises(TypeError, match=r"asyncio\.wait\(\[asyncio\.wrap_future\(future\)\]\)"):
            await asyncio.wait([future])
        task = asyncio.create_task(asyncio.sleep(0))
        with pytest.raises(TypeError, match="a future of an executor"):
            await asyncio.wait({task, future}, return_when=asyncio.FIRST_COMPLETED)
        await task
        wrapped = asyncio.wrap_future(future)
        done, pending = await asyncio.wait([wrapped], timeout=0.01)
        assert (done, pending) == (set(), {wrapped})
        gate.set()
        done, pending = await asyncio.wait([wrapped])
        assert (done, pending) == ({wrapped}, set())
        assert wrapped.result() is True

    run("asyncio", main)


def test_a_callback_of_the_users_own_is_called(executor):
    seen = []
    future = executor.submit(pow, 2, 3)
    future.add_done_callback(seen.append)
    assert future.result() == 8
    assert concurrent.futures.wait([future]).done == {future}
    assert next(concurrent.futures.as_completed([future])) is future
    eventually(lambda: seen == [future], "the callback")


def test_functions_of_asyncio_that_take_what_can_be_awaited(executor):
    async def main():
        assert await asyncio.gather(*(executor.submit(pow, 2, n) for n in range(3))) == [1, 2, 4]
        calls = [executor.submit(pow, 2, n) for n in range(3)]
        assert sorted([await each for each in asyncio.as_completed(calls)]) == [1, 2, 4]
        assert await asyncio.wait_for(executor.submit(pow, 2, 5), 60) == 32
        assert await asyncio.shield(executor.submit(pow, 2, 6)) == 64
        assert await asyncio.ensure_future(executor.submit(pow, 2, 7)) == 128

    run("asyncio", main)
    run("uvloop", main)
