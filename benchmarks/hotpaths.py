"""Ten hot paths: what `instructions.py` counts and `compare.py` times.

Each path stays in one process, so that nothing waits. A call of an executor is not among them: it
needs a second process, and what it costs depends on which one sleeps. This module needs onecopy
and numpy only, and uses public names only: `compare.py` also runs it in an environment in which an
older commit is installed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from itertools import repeat
from typing import Any

import numpy as np

import onecopy

MIB = 1 << 20
IMAGE_SHAPE = (720, 1080, 3)
# Does an operation so many times.
Loop = Callable[[int], None]


def queue_of(pool: Any, item: object) -> Loop:
    queue = pool.queue("items", maxsize=16)
    put, get = queue.put, queue.get

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            put(item)
            get()

    return loop


def queue_int(pool: Any) -> Loop:
    return queue_of(pool, 12345)


def queue_array(pool: Any) -> Loop:
    return queue_of(pool, pool.zeros(IMAGE_SHAPE, "uint8"))


def queue_dict(pool: Any) -> Loop:
    return queue_of(pool, {"id": 7, "image": pool.zeros(IMAGE_SHAPE, "uint8")})


def lock(pool: Any) -> Loop:
    held = pool.lock("lock")
    acquire, release = held.acquire, held.release

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            acquire()
            release()

    return loop


def stream(pool: Any) -> Loop:
    channel = pool.stream("stream", depth=16, policy="lossy")
    publish, get = channel.publish, channel.subscribe().get

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            publish(12345)
            get()

    return loop


def frames(pool: Any) -> Loop:
    acquire = pool.frames("frames", shape=(64, 64), dtype="uint8", count=4).acquire

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            acquire()  # and it is dropped, which gives it back

    return loop


def ref(pool: Any) -> Loop:
    put, array = pool.put, np.arange(128.0)

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            put(array).get()

    return loop


def shared_dict(pool: Any) -> Loop:
    shared = pool.dict({"a": 1, "b": 2.5, "c": "text"})

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            shared["a"]

    return loop


def value(pool: Any) -> Loop:
    number = pool.value("d", 0.0)

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            number.value += 1

    return loop


def allocation(pool: Any) -> Loop:
    empty = pool.empty

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            empty((1000,), "uint8")  # and it is dropped, which frees it

    return loop


PATHS: dict[str, Callable[[Any], Loop]] = {
    "queue put + get, int": queue_int,
    "queue put + get, array in the pool": queue_array,
    'queue put + get, {"id": int, "image": array}': queue_dict,
    "lock acquire + release": lock,
    "stream publish + get, int": stream,
    "frames acquire + release": frames,
    "put + get of a 1 KB array": ref,
    'shared dict["a"]': shared_dict,
    "value += 1": value,
    "allocate + free 1 KB": allocation,
}


def prepare(name: str) -> tuple[Any, Loop]:
    """A pool of its own for one path, and the path's loop."""
    pool = onecopy.Pool.create(f"hotpaths-{os.getpid()}", size=64 * MIB)
    pool.unlink()
    return pool, PATHS[name](pool)


def nanoseconds(name: str, seconds: float = 0.02, batches: int = 7) -> float:
    """Median time of one operation, of `batches` batches of about `seconds` each."""
    pool, loop = prepare(name)
    try:
        count = 200
        while (took := _timed(loop, count)) < seconds * 1e9 / 4:
            count *= 2
        count = max(1, round(count * seconds * 1e9 / took))
        return sorted(_timed(loop, count) / count for _ in range(batches))[batches // 2]
    finally:
        pool.close()


def _timed(loop: Loop, count: int) -> int:
    start = time.perf_counter_ns()
    loop(count)
    return time.perf_counter_ns() - start


def mark() -> None:
    """Call a function of the C library that nothing else calls: callgrind begins a new profile
    there.
    """
    os.ctermid()


def count(operations: int) -> None:
    """Do each path `operations` times and twice as many times, with a mark around each."""
    for name in PATHS:
        pool, loop = prepare(name)
        loop(operations)  # warm
        mark()
        loop(operations)
        mark()
        loop(2 * operations)
        mark()
        pool.close()


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["count"]:
        count(int(arguments[1]))
        return 0
    found: dict[str, float | str] = {}
    for name in PATHS:
        try:
            found[name] = nanoseconds(name)
        except (AttributeError, TypeError) as error:  # an older commit has no such thing
            found[name] = repr(error)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
