"""What a wheel for another machine must do under qemu-user; part of `make aarch64`.

It runs after `tools/wheel_proof.py`, with the same Python. Each check is one part of the package,
between processes that do not share their memory otherwise.

Usage: python tools/aarch64_proof.py
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import signal
import sys

import numpy as np

import onecopy as oc

LIMIT = 120  # seconds that a wait may take; a correct program never needs them


def expect(got: object, wanted: object) -> None:
    """Raise if these differ."""
    if got != wanted:
        raise AssertionError(f"{got!r}, and not {wanted!r}")


def child(work, *args: object) -> multiprocessing.Process:
    """Start a process that inherits nothing but its arguments."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=args)
    process.start()
    return process


def ended_well(process: multiprocessing.Process) -> None:
    """Wait for the end of a process."""
    process.join(LIMIT)
    expect(process.exitcode, 0)


def objects() -> None:
    """Send arrays, containers and scalars by reference."""
    values = [
        np.arange(1 << 20, dtype="f8").reshape(1024, 1024),
        {"name": [1, -2, 3.5, None, "ä", b"\xff\x80", -(2**70)], "point": (True, 1 + 2j)},
        np.array([-1, 127, -128], "i1"),
        np.array([1.5, -2.5], "g"),
    ]
    with oc.Pool.create("objects", size="64MB") as pool:
        for value in values:
            expect(repr(pool.put(value).get()), repr(value))


def answer(pool_name: str) -> None:
    """Double what comes, until None comes."""
    with oc.Pool.open(pool_name) as pool:
        while (got := pool.queue("jobs").get(timeout=LIMIT)) is not None:
            pool.queue("results").put(got * 2, timeout=LIMIT)


def queues() -> None:
    """Send 1000 messages to a process, and get an answer to each."""
    with oc.Pool.create("queues", size="64MB") as pool:
        jobs, results = pool.queue("jobs"), pool.queue("results")
        process = child(answer, pool.name)
        for number in range(1000):
            jobs.put(np.full(1000, number), timeout=LIMIT)
            expect(int(results.get(timeout=LIMIT)[-1]), 2 * number)
        jobs.put(None)
        ended_well(process)


def die_with_lock(pool_name: str) -> None:
    """Take the lock, change what it guards, and be killed."""
    with oc.Pool.open(pool_name) as pool:
        pool.lock("lock", on_owner_death="raise").acquire(timeout=LIMIT)
        pool["progress"] = "half"
        os.kill(os.getpid(), signal.SIGKILL)


def a_dead_owner() -> None:
    """Take the lock of a killed process, which raises OwnerDied."""
    with oc.Pool.create("deaths", size="16MB") as pool:
        lock = pool.lock("lock", on_owner_death="raise")
        process = child(die_with_lock, pool.name)
        process.join(LIMIT)
        expect(process.exitcode, -signal.SIGKILL)
        try:
            lock.acquire(timeout=LIMIT)
        except oc.OwnerDied:
            pass
        else:
            raise AssertionError("no OwnerDied")
        expect(pool["progress"], "half")
        lock.release()


def lend(pool_name: str) -> None:
    """Fill frames, and send them."""
    with oc.Pool.open(pool_name) as pool:
        frames, queue = pool.frames("frames"), pool.queue("filled")
        for number in range(50):
            with frames.lend(timeout=LIMIT) as picture:
                picture[:] = number
                queue.put(picture, timeout=LIMIT)


def frames() -> None:
    """Receive 50 pictures in four frames, which are used again."""
    with oc.Pool.create("frames", size="64MB") as pool:
        pool.frames("frames", shape=(480, 640, 3), dtype="u1", count=4)
        queue = pool.queue("filled")
        process = child(lend, pool.name)
        for number in range(50):
            picture = queue.get(timeout=LIMIT)
            expect((picture.min(), picture.max()), (number, number))
            del picture
        ended_well(process)


def read(pool_name: str, results_name: str) -> None:
    """Read a stream to its end, and send the sum."""
    with oc.Pool.open(pool_name) as pool:
        subscription = pool.stream("numbers").subscribe()
        pool.queue(results_name).put("ready")
        pool.queue(results_name).put(sum(int(each[0]) for each in subscription))


def streams() -> None:
    """Publish to two subscribers, none of which loses a message."""
    with oc.Pool.create("streams", size="64MB") as pool:
        stream = pool.stream("numbers", depth=16, policy="lossless")
        results = pool.queue("results")
        readers = [child(read, pool.name, "results") for _ in range(2)]
        for _ in readers:
            expect(results.get(timeout=LIMIT), "ready")
        for number in range(500):
            stream.publish(np.full(100, number))
        stream.close()
        for _ in readers:
            expect(results.get(timeout=LIMIT), sum(range(500)))
        for reader in readers:
            ended_well(reader)


def main() -> int:
    """Run all checks."""
    for check in (objects, queues, a_dead_owner, frames, streams):
        check()
        print(f"{check.__name__}: ok", flush=True)
    print(platform.machine(), "pages of", resource.getpagesize(), "bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
