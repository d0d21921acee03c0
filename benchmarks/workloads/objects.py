"""The object store: `pool.put` of an array, and `get` through its `Ref`, in one process.

Small arrays are put in batches, and released outside the measured time. The big put is compared
with `np.copyto` into memory that has been written before, which is the cost of the copy alone. For
comparison, the standard library is measured, too: a SharedMemory per object, which is opened by its
name for every get.
"""

from __future__ import annotations

from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import peers
from benchmarks.harness import Member, Team, clock, interleave
from benchmarks.report import Report, at_least, at_most, quotient

if TYPE_CHECKING:
    from benchmarks.harness import Options, Step

SMALL, BIG = 1_000, 100_000_000
PUT, GET = "put 1 KB", "get 1 KB"
PUT_BIG, GET_BIG = "put 100 MB", "get 100 MB"
# Puts between two releases.
BATCH = 1000


def filled(nbytes: int) -> np.ndarray:
    return np.arange(nbytes, dtype=np.uint8)


def onecopy_step() -> Step:
    import onecopy

    pool: Any = onecopy.Pool.create(size=4 * BIG)

    def step(count: int) -> dict[str, float]:
        put, get = small(pool.put, filled(SMALL), count)
        put_big, get_big, copy = big(pool.put, filled(BIG), max(3, count // 10_000))
        return {PUT: put, GET: get, PUT_BIG: put_big, GET_BIG: get_big, "np.copyto": copy}

    return step


def small(put: Any, array: np.ndarray, count: int) -> tuple[float, float]:
    """Microseconds per put and per get."""
    putting = getting = 0.0
    got: Any = None
    batches = max(1, count // BATCH)
    for number in range(batches + 1):
        start = clock()
        refs = [put(array) for _ in range(BATCH)]
        middle = clock()
        for ref in refs:
            got = ref.get()
        end = clock()
        assert np.array_equal(got, array)
        got = None
        for ref in refs:
            ref.release()
        if number:  # the first batch warms up
            putting += middle - start
            getting += end - middle
    return putting / (batches * BATCH) * 1e6, getting / (batches * BATCH) * 1e6


def big(put: Any, array: np.ndarray, rounds: int) -> tuple[float, float, float]:
    """Return microseconds of put, get, and a warm copy of the same array: medians of `rounds`.

    Put and copy alternate, so that both run under the same conditions.
    """
    target = np.zeros_like(array)
    times = np.zeros((rounds, 3))
    got: Any = None
    for number in range(-1, rounds):  # the first round warms up
        start = clock()
        ref = put(array)
        after_put = clock()
        np.copyto(target, array)
        after_copy = clock()
        for _ in range(BATCH):  # enough calls that cache misses after the copies do not matter
            got = ref.get()
        after_gets = clock()
        assert got[-1] == array[-1]
        assert got.nbytes == array.nbytes
        got = None
        ref.release()
        get = (after_gets - after_copy) / BATCH
        times[max(number, 0)] = after_put - start, get, after_copy - after_put
    put_time, get_time, copy_time = np.median(times, axis=0) * 1e6
    return float(put_time), float(get_time), float(copy_time)


def stdlib_step() -> Step:
    def put(array: np.ndarray) -> SharedMemory:
        segment = SharedMemory(create=True, size=array.nbytes)
        np.copyto(np.ndarray(array.shape, array.dtype, segment.buf), array)
        return segment

    def get(name: str, nbytes: int) -> None:
        segment = SharedMemory(name)
        np.ndarray((nbytes,), np.uint8, segment.buf)
        segment.close()

    def both(array: np.ndarray, count: int) -> tuple[float, float]:
        putting = getting = 0.0
        for _ in range(count):
            start = clock()
            segment = put(array)
            middle = clock()
            get(segment.name, array.nbytes)
            getting += clock() - middle
            putting += middle - start
            segment.close()
            # Opening registered the name with the tracker a second time. The tracker keeps a set,
            # so one unlink removes it.
            segment.unlink()
        return putting / count * 1e6, getting / count * 1e6

    def step(count: int) -> dict[str, float]:
        put_small, get_small = both(filled(SMALL), max(100, count // 50))
        put_big, get_big = both(filled(BIG), 3)
        return {PUT: put_small, GET: get_small, PUT_BIG: put_big, GET_BIG: get_big}

    return step


def measure(setup: Any, seconds: float) -> dict[str, float]:
    with Team([Member("store", setup)]) as team:
        numbers: dict[str, float] = team.step(round(100_000 * seconds), 60.0 + 20 * seconds)[
            "store"
        ]
    return numbers


def run(options: Options) -> Report:
    report = Report("objects", "the object store, one process", "SharedMemory per object")
    contenders = {"SharedMemory per object": lambda: measure(stdlib_step, options.seconds)}
    why_not = peers.without_onecopy(options)
    if why_not:
        report.skipped["onecopy"] = why_not
    else:
        contenders = {"onecopy": lambda: measure(onecopy_step, options.seconds), **contenders}
    outcomes = interleave(contenders, options.runs, options.say)
    for case in (PUT, GET, PUT_BIG, GET_BIG):
        report.add(case, "µs", outcomes, case)
    copy = "warm np.copyto of 100 MB"
    if "onecopy" in outcomes:
        report.add(copy, "µs", {"numpy": outcomes["onecopy"]}, "np.copyto")

    put, get = report.median(PUT, "onecopy"), report.median(GET, "onecopy")
    report.targets += [at_most(PUT, put, 3.0, "µs"), at_most(GET, get, 2.0, "µs")]
    speed = quotient(report.median(copy, "numpy"), report.median(PUT_BIG, "onecopy"))
    report.targets.append(at_least(f"speed of {PUT_BIG} against a warm np.copyto", speed, 0.9))
    flat = quotient(report.median(GET_BIG, "onecopy"), get)
    report.targets.append(at_most(f"{GET_BIG} against {GET}", flat, 1.2))
    return report
