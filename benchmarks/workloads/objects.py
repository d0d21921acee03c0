"""The object store: `pool.put` of an array, and `get` through its `Ref`, in one process.

Small arrays are put in batches, and released outside the measured time. The big put is compared
with `np.copyto` into memory that has been written before, which is the cost of the copy alone.
Memory that nobody has written before is measured in a new pool each time, beside numpy's own. For
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
COPY = "warm np.copyto of 100 MB"
# In memory that was never used before: of onecopy, and of numpy.
PUT_NEW, ZEROS, WRITTEN = "put 100 MB, new memory", "zeros of 100 MB", "zeros of 100 MB, written"
FIRST_PUT = "first put of 1 GB that lies in the pool"
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
        warm = {PUT: put, GET: get, PUT_BIG: put_big, GET_BIG: get_big, COPY: copy}
        return warm | new_memory(max(3, count // 20_000))

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


def new_memory(rounds: int) -> dict[str, float]:
    """Return microseconds in memory that was never used before: medians of `rounds`."""
    source = filled(BIG)
    times: dict[str, list[float]] = {}

    def timed(case: str, action: Any, *arguments: Any) -> Any:
        start = clock()
        answer = action(*arguments)
        times.setdefault(case, []).append((clock() - start) * 1e6)
        return answer

    for _ in range(rounds):
        in_new_pools(timed, source)
        assert timed(numpys(PUT_NEW), copied, source)[-1] == source[-1]
        assert not timed(numpys(ZEROS), np.zeros, BIG, np.uint8).any()
        assert timed(numpys(WRITTEN), written, np.zeros, BIG).all()
    return {case: float(np.median(each)) for case, each in times.items()}


def in_new_pools(timed: Any, source: np.ndarray) -> None:
    import onecopy

    with onecopy.Pool.create(size=3 * BIG) as pool:
        ref = timed(PUT_NEW, pool.put, source)
        assert ref.get()[-1] == source[-1]
        assert not timed(ZEROS, pool.zeros, BIG, np.uint8).any()
    with onecopy.Pool.create(size=12 * BIG) as pool:
        assert timed(WRITTEN, written, pool.zeros, BIG).all()
        large, queue = pool.zeros(10 * BIG, np.uint8), pool.queue()
        large[-1] = 7
        timed(FIRST_PUT, queue.put, large)
        got = queue.get()
        assert got.nbytes == 10 * BIG
        assert got[-1] == 7


def written(zeros: Any, nbytes: int) -> np.ndarray:
    array: np.ndarray = zeros(nbytes, np.uint8)
    array[:] = 1
    return array


def copied(source: np.ndarray) -> np.ndarray:
    target = np.empty_like(source)
    np.copyto(target, source)
    return target


def numpys(case: str) -> str:
    return f"numpy: {case}"


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
    if "onecopy" in outcomes:
        ours = outcomes["onecopy"]
        report.add(COPY, "µs", {"numpy": ours}, COPY)
        for case in (PUT_NEW, ZEROS, WRITTEN, FIRST_PUT):
            report.add(case, "µs", {"onecopy": ours}, case)
            if case != FIRST_PUT:
                report.add(case, "µs", {"numpy": ours}, numpys(case))

    put, get = report.median(PUT, "onecopy"), report.median(GET, "onecopy")
    report.targets += [at_most(PUT, put, 3.0, "µs"), at_most(GET, get, 2.0, "µs")]
    speed = quotient(report.median(COPY, "numpy"), report.median(PUT_BIG, "onecopy"))
    report.targets.append(at_least(f"speed of {PUT_BIG} against a warm np.copyto", speed, 0.9))
    new = quotient(report.median(PUT_NEW, "numpy"), report.median(PUT_NEW, "onecopy"))
    report.targets.append(at_least(f"{PUT_NEW}: speed against numpy's own", new, 1.0))
    report.targets.append(at_most(FIRST_PUT, report.median(FIRST_PUT, "onecopy"), 50.0, "µs"))
    flat = quotient(report.median(GET_BIG, "onecopy"), get)
    report.targets.append(at_most(f"{GET_BIG} against {GET}", flat, 1.2))
    return report
