"""What a type checker knows of the awaitable calls: `make lint` checks it; it is never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import onecopy as oc


@dataclass
class Shot:
    id: int


def area(shot: Shot) -> float:
    return 1.0 * shot.id


def number() -> int:
    return 3


async def queues(pool: oc.Pool) -> None:
    shots = pool.queue("shots", type=Shot)
    assert_type(await shots.aio.get(), Shot)
    assert_type(await shots.aio.get(timeout=1.5), Shot)
    assert_type(await shots.aio.get_many(3), list[Shot])
    assert_type(await shots.aio.get_message(), oc.Message[Shot])
    assert_type((await shots.aio.get_message()).item, Shot)
    await shots.aio.put(Shot(1), timeout=2.5)
    await shots.aio.put(1)  # type: ignore[arg-type]
    await shots.aio.put_many([Shot(1)])
    await shots.aio.put_many([1])  # type: ignore[list-item]
    async for shot in shots.aio:
        assert_type(shot, Shot)
    numbers: oc.Queue[int] = pool.queue("numbers")
    assert_type(await numbers.aio.get(), int)
    assert_type(await pool.queue().aio.get(), Any)
    assert_type(oc.wait([shots], timeout=1), list[oc.Queue[Shot]])


async def streams(pool: oc.Pool) -> None:
    stream = pool.stream("shots", type=Shot)
    await stream.aio.publish(Shot(1))
    await stream.aio.publish(1)  # type: ignore[arg-type]
    subscription = stream.subscribe()
    assert_type(await subscription.aio.get(), Shot)
    async for shot in subscription.aio:
        assert_type(shot, Shot)


async def frames(pool: oc.Pool) -> None:
    pictures = pool.frames("pictures", (480, 640), np.uint8, 4)
    assert_type(await pictures.aio.acquire(), npt.NDArray[np.uint8])
    async with pictures.aio.lend(timeout=1) as frame:
        assert_type(frame, npt.NDArray[np.uint8])
    assert_type(await pool.frames("any").aio.acquire(), npt.NDArray[Any])


async def locks(pool: oc.Pool) -> None:
    lock = pool.lock("l")
    async with lock.aio:
        pass
    assert_type(await lock.aio.acquire(timeout=1), bool)
    assert_type(await pool.semaphore("s").aio.acquire(False), bool)
    assert_type(await pool.event("e").aio.wait(1), bool)
    condition = pool.condition("c", lock)
    async with condition.aio:
        assert_type(await condition.aio.wait(timeout=1), bool)
        assert_type(await condition.aio.wait_for(number), int)
        condition.aio.notify()
    assert_type(await pool.barrier("b", 2).aio.wait(), int)
    assert_type(pool.rlock().aio, Any)  # type: ignore[attr-defined]
    assert_type(pool.rwlock().aio, Any)  # type: ignore[attr-defined]


async def futures(executor: oc.Executor) -> None:
    assert_type(await executor.submit(area, Shot(1)), float)
    assert_type(executor.submit(area, Shot(1)).result(), float)
    await executor.submit(area, 1)  # type: ignore[arg-type]
