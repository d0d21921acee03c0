"""What a type checker knows of the generic classes: `make lint` checks it; it is never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypedDict, assert_type

import numpy as np
import numpy.typing as npt

import onecopy as oc
from onecopy.values import Synchronized


def queues(pool: oc.Pool) -> None:
    numbers: oc.Queue[int] = pool.queue("numbers")
    assert_type(numbers.get(), int)
    assert_type(numbers.get_nowait(), int)
    assert_type(numbers.get_many(3), list[int])
    numbers.put(1, timeout=2.5)
    numbers.put("a")  # type: ignore[arg-type]
    numbers.put_many([1, 2])
    numbers.put_many(["a"])  # type: ignore[list-item]
    for number in numbers:
        assert_type(number, int)
    with numbers.get_message() as message:
        assert_type(message, oc.Message[int])
        assert_type(message.item, int)
    assert_type(pool.queue().get(), Any)
    assert_type(oc.Queue[str]().get(), str)


@dataclass
class Shot:
    id: int
    image: Annotated[npt.NDArray[np.uint8], oc.Shape(480, 640, 3)]


class Named(NamedTuple):
    id: int


class Keys(TypedDict):
    id: int


def typed_channels(pool: oc.Pool) -> None:
    shots = pool.queue("shots", type=Shot)
    assert_type(shots, oc.Queue[Shot])
    assert_type(shots.get(), Shot)
    assert_type(shots.get_message().item, Shot)
    shots.put(Shot(1, np.zeros((480, 640, 3), np.uint8)))
    shots.put(1)  # type: ignore[arg-type]
    assert_type(pool.queue(type=Named).get(), Named)
    assert_type(pool.queue(type=Keys).get(), Keys)
    assert_type(pool.queue("numbers", 10, type=int).get(), int)
    assert_type(pool.queue(type=list[int]).get(), list[int])
    assert_type(pool.stream("shots", type=Shot), oc.Stream[Shot])
    assert_type(pool.stream(type=Shot).subscribe().get(), Shot)
    assert_type(pool.stream("untyped"), oc.Stream[Any])
    assert_type(pool.queue("untyped", type=None), oc.Queue[Any])
    # Type checkers have no type for the types of such annotations.
    assert_type(pool.queue(type=Annotated[npt.NDArray[np.uint8], oc.Shape(3)]), oc.Queue[Any])
    assert_type(pool.queue(type=int | None), oc.Queue[Any])


def takes_any_queue(queue: oc.Queue) -> None:  # a bare name means a queue of any type
    assert_type(queue.get(), Any)


def streams(pool: oc.Pool) -> None:
    frames: oc.Stream[bytes] = pool.stream("camera", policy="latest")
    frames.publish(b"")
    frames.publish(1)  # type: ignore[arg-type]
    assert_type(frames.latest(), bytes)
    subscription = frames.subscribe(history=3)
    assert_type(subscription, oc.Subscription[bytes])
    assert_type(subscription.get(timeout=1), bytes)
    for frame in subscription:
        assert_type(frame, bytes)
    pool.stream(policy="newest")  # type: ignore[call-overload]


def references(pool: oc.Pool, array: npt.NDArray[np.uint8]) -> None:
    ref = pool.put({"a": 1})
    assert_type(ref, oc.Ref[dict[str, int]])
    assert_type(ref.get(), dict[str, int])
    assert_type(oc.put(array).get(), npt.NDArray[np.uint8])
    as_object: oc.Ref[object] = ref  # covariant: only read
    del as_object


def frames(pool: oc.Pool) -> None:
    assert_type(pool.frames("a", (3,), np.uint8, 4).acquire(), npt.NDArray[np.uint8])
    assert_type(
        pool.frames(shape=(3,), dtype=np.dtype(np.float32), count=4).dtype, np.dtype[np.float32]
    )
    assert_type(pool.frames("a", (3,), "uint8", 4).acquire(), npt.NDArray[Any])
    with pool.frames("a", 3, np.int16, 4).lend() as frame:
        assert_type(frame, npt.NDArray[np.int16])


def containers(pool: oc.Pool) -> None:
    numbers = pool.list([1, 2])
    assert_type(numbers, oc.List[int])
    assert_type(numbers[0], int)
    assert_type(numbers[1:], list[int])
    assert_type(numbers.pop(), int)
    numbers.append("a")  # type: ignore[arg-type]
    for number in numbers:
        assert_type(number, int)
    ages = pool.dict({"ada": 36})
    assert_type(ages, oc.Dict[str, int])
    assert_type(ages["ada"], int)
    assert_type(ages.get("bob"), int | None)
    assert_type(ages.get("bob", 0), int)
    assert_type(ages.pop("ada"), int)
    assert_type(ages.copy(), dict[str, int])
    ages["eve"] = "a"  # type: ignore[assignment]
    for name, age in ages.items():
        assert_type(name, str)
        assert_type(age, int)
    assert_type(oc.List[str](), oc.List[str])
    assert_type(oc.Dict({1: 2.5}), oc.Dict[int, float])


def values(pool: oc.Pool) -> None:
    assert_type(pool.value("i", 3), Synchronized[int])
    assert_type(pool.value("d", 0.5, name="v").value, float)
    assert_type(oc.Value("q").value, int)


def locks(pool: oc.Pool) -> None:
    assert_type(pool.lock().acquire(blocking=False), bool)
    assert_type(pool.semaphore().acquire(block=False, timeout=None), bool)
    pool.rwlock(prefer="nobody")  # type: ignore[arg-type]
    pool.lock(on_owner_death="ignore")  # type: ignore[arg-type]
