"""`onecopy.multiprocessing` and `multiprocessing`: the same program for each shared object.

Both run the same functions; only the package differs. If two processes take part, both get the
shared object as an argument. Received data is checked.
"""

from __future__ import annotations

import array
import importlib
import multiprocessing
import threading
from functools import partial
from operator import itemgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import peers
from benchmarks.harness import Member, Span, Team, clock, interleave, rate
from benchmarks.report import Report, at_least, at_most, quotient

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Options, Step
    from benchmarks.report import Target

STANDARD, OURS = "multiprocessing", "onecopy"
PACKAGES = {STANDARD: "multiprocessing", OURS: "onecopy.multiprocessing"}

SMALL, LARGE, POOL_MAP = "Queue, small objects", "Queue, 2.33 MB arrays", "Pool.map of 1 MB arrays"
LOCK, CONTENDED, VALUE = "Lock, with", "Lock, two processes", "Value += 1 under its lock"
LIST_TO_ARRAY, ARRAY_ARRAY = 'RawArray("d", list of 1 M)', 'array.array("d", list of 1 M)'
NDARRAY_TO_ARRAY, COPYTO = 'RawArray("d", ndarray of 1 M)', "warm np.copyto of 1 M doubles"
COPY_NEW = "np.copyto of 1 M doubles, new memory"
# What the loop of VALUE costs without anything that is shared.
PRIVATE = "the same loop, threading.Lock and a private number"
ITEM_GET, ITEM_SET = "ShareableList get", "ShareableList set"
SEGMENT = "SharedMemory of 4 KB, made and unlinked"
DICT_GET, DICT_SET = "dict get", "dict set"
READ, READERS = "RWLock read, with", "RWLock, two readers"

FRAME = (720, 1080, 3)
DEPTH = 4  # images in transit
FLOATS = 1_000_000
UNITS = {
    SMALL: "objects/s",
    LARGE: "arrays/s",
    POOL_MAP: "arrays/s",
    LOCK: "ns",
    CONTENDED: "locks/s",
    VALUE: "ns",
    PRIVATE: "ns",
    LIST_TO_ARRAY: "ms",
    ARRAY_ARRAY: "ms",
    NDARRAY_TO_ARRAY: "ms",
    COPYTO: "ms",
    COPY_NEW: "ms",
    ITEM_GET: "ns",
    ITEM_SET: "ns",
    SEGMENT: "µs",
    DICT_GET: "µs",
    DICT_SET: "µs",
    READ: "ns",
    READERS: "locks/s",
}


def package(peer: str) -> Any:
    """Return a context, which makes shared objects for one start method."""
    return importlib.import_module(PACKAGES[peer]).get_context("spawn")


def module(peer: str, name: str) -> Any:
    return importlib.import_module(f"{PACKAGES[peer]}.{name}")


# ------------------------------------------------------------------------------------- a queue


def small_object(number: int) -> dict[str, Any]:
    return {"id": number, "name": "camera", "at": 0.5}


def sending_small(queue: Any) -> Step:
    def step(count: int) -> Span:
        start = clock()
        for number in range(count):
            queue.put(small_object(number))
        return Span(start, clock(), count)

    return step


def taking_small(queue: Any) -> Step:
    def step(count: int) -> Span:
        start = clock()
        for number in range(count):
            item = queue.get()
            if number % 1000 == 0:
                assert item == small_object(number)
        return Span(start, clock(), count)

    return step


def sending_large(queue: Any) -> Step:
    # The standard library pickles later, in a thread. So an image is filled again only when DEPTH
    # others have been put after it. A queue of that size ensures that it has been sent by then.
    images = [np.full(FRAME, 7, np.uint8) for _ in range(DEPTH + 4)]

    def step(count: int) -> Span:
        start = clock()
        for number in range(count):
            image = images[number % len(images)]
            image[0, 0, 0] = image[-1, -1, -1] = number % 251
            queue.put(image)
        return Span(start, clock(), count)

    return step


def taking_large(queue: Any) -> Step:
    def step(count: int) -> Span:
        start = clock()
        for number in range(count):
            image = queue.get()
            assert image.shape == FRAME
            assert image[0, 0, 0] == image[-1, -1, -1] == number % 251
            assert image[number % 700 + 1, 5, 2] == 7
            assert image.flags.writeable
        return Span(start, clock(), count)

    return step


def queue_rate(
    peer: str, sending: Any, taking: Any, pilot: int, seconds: float, maxsize: int = 0
) -> float:
    queue = package(peer).Queue(maxsize)
    members = [Member("taking", taking, (queue,)), Member("sending", sending, (queue,))]
    with Team(members) as team:
        spans = team.step(pilot)
        took = max(span.end - span.start for span in spans.values())
        count = max(pilot, round(pilot * seconds / max(took, 1e-6)))
        spans = team.step(count, 60 + 20 * seconds)
    return rate([spans["sending"]], [spans["taking"]])


# -------------------------------------------------------------------------------------- a pool


def negative(image: np.ndarray) -> np.ndarray:
    return 255 - image


def map_rate(peer: str, seconds: float) -> float:
    images = [np.full(1_000_000, number, np.uint8) for number in range(16)]
    with package(peer).Pool(2) as pool:
        pool.map(negative, images[:2])
        rounds, start = 0, clock()
        while (took := clock() - start) < seconds or rounds < 2:
            answers = pool.map(negative, images, chunksize=1)
            rounds += 1
        assert all(answer[-1] == 255 - number for number, answer in enumerate(answers))
    return rounds * len(images) / took


# --------------------------------------------------------------------------------------- locks


def contending(lock: Any, counter: Any) -> Step:
    def step(count: int) -> Span:
        start = clock()
        for _ in range(count):
            with lock:
                counter[0] += 1
        return Span(start, clock(), count)

    return step


def reading(lock: Any) -> Step:
    def step(count: int) -> Span:
        side = lock.read
        start = clock()
        for _ in range(count):
            with side():
                pass
        return Span(start, clock(), count)

    return step


def both_rate(setup: Any, arguments: tuple[Any, ...], count: int) -> float:
    with Team([Member("one", setup, arguments), Member("two", setup, arguments)]) as team:
        team.step(count // 10)
        spans = team.step(count, 120)
    return rate(spans.values(), spans.values())


def contended(peer: str, seconds: float) -> float:
    counter = package(peer).RawArray("l", 1)
    count = round(200_000 * seconds)
    answer = both_rate(contending, (package(peer).Lock(), counter), count)
    assert counter[0] == 2 * count + 2 * (count // 10), "additions were lost"
    return answer


# -------------------------------------------------------------------------- one process alone


def per_call(action: Callable[[], object], count: int) -> float:
    """Seconds for one call of `action`, which does `count` things, after a warm-up."""
    action()
    start = clock()
    action()
    return (clock() - start) / count


def alone(peer: str) -> Step:
    """Measure everything that needs only one process."""

    def step(count: int) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for measure in (locks, values, arrays, items, segments):
            numbers |= measure(peer, count)
        return numbers

    return step


def locks(peer: str, count: int) -> dict[str, float]:
    def use(enter: Any) -> Callable[[], None]:
        def run() -> None:
            for _ in range(count):
                with enter():
                    pass

        return run

    lock = package(peer).Lock()

    def plain() -> None:
        for _ in range(count):
            with lock:
                pass

    numbers = {LOCK: per_call(plain, count) * 1e9}
    if peer == OURS:
        import onecopy

        numbers[READ] = per_call(use(onecopy.RWLock().read), count) * 1e9
    return numbers


def values(peer: str, count: int) -> dict[str, float]:
    lock = threading.Lock()
    # `get_lock` is a call in C, as it is of the shared one.
    private = SimpleNamespace(value=0, get_lock=partial(itemgetter(0), (lock,)))
    numbers: dict[str, float] = {}
    for case, value in ((VALUE, package(peer).Value("l", 0)), (PRIVATE, private)):

        def add(value: Any = value) -> None:
            for _ in range(count):
                with value.get_lock():
                    value.value += 1

        numbers[case] = per_call(add, count) * 1e9
        assert value.value == 2 * count
    return numbers


def arrays(peer: str, count: int) -> dict[str, float]:
    raw_array = module(peer, "sharedctypes").RawArray
    numbers = [float(number) for number in range(FLOATS)]
    source = np.arange(FLOATS, dtype="d")
    target = np.zeros_like(source)
    rounds = max(3, count // 50_000)
    times = np.zeros((rounds, 5))
    for number in range(-1, rounds):  # the first round warms up
        start = clock()
        ours = raw_array("d", numbers)
        after_list = clock()
        plain = array.array("d", numbers)
        after_array = clock()
        assert ours[FLOATS - 1] == plain[FLOATS - 1] == FLOATS - 1
        del ours, plain
        source.sum()  # so that both copies find the same data in the cache
        before_ndarray = clock()
        copied = raw_array("d", source)
        after_ndarray = clock()
        source.sum()
        before_copy = clock()
        np.copyto(target, source)
        after_copy = clock()
        source.sum()
        before_new = clock()
        fresh = np.empty_like(source)  # numpy gives memory of this size back to the system
        np.copyto(fresh, source)
        after_new = clock()
        assert copied[FLOATS - 1] == target[-1] == fresh[-1] == FLOATS - 1
        del copied, fresh
        times[max(number, 0)] = (
            after_list - start,
            after_array - after_list,
            after_ndarray - before_ndarray,
            after_copy - before_copy,
            after_new - before_new,
        )
    medians = np.median(times, axis=0) * 1e3
    names = (LIST_TO_ARRAY, ARRAY_ARRAY, NDARRAY_TO_ARRAY, COPYTO, COPY_NEW)
    return dict(zip(names, (float(median) for median in medians), strict=True))


def items(peer: str, count: int) -> dict[str, float]:
    shared = module(peer, "shared_memory").ShareableList([1, 2.5, "text", b"bytes", None, 7])
    try:

        def get() -> None:
            for _ in range(count):
                shared[5]

        def put() -> None:
            for number in range(count):
                shared[5] = number

        numbers = {ITEM_SET: per_call(put, count) * 1e9, ITEM_GET: per_call(get, count) * 1e9}
        assert shared[5] == count - 1
    finally:
        shared.shm.close()
        shared.shm.unlink()
    return numbers


def segments(peer: str, count: int) -> dict[str, float]:
    shared_memory = module(peer, "shared_memory")

    def make() -> None:
        for number in range(count // 200):
            shm = shared_memory.SharedMemory(create=True, size=4096)
            shm.buf[4095] = number % 251
            assert shm.buf[4095] == number % 251
            shm.close()
            shm.unlink()

    return {SEGMENT: per_call(make, count // 200) * 1e6}


def mapping(mapping: Any) -> Step:
    def step(count: int) -> dict[str, float]:
        def put() -> None:
            for number in range(count):
                mapping["key"] = number

        def get() -> None:
            for _ in range(count):
                mapping["key"]

        answer = {DICT_SET: per_call(put, count) * 1e6, DICT_GET: per_call(get, count) * 1e6}
        assert mapping["key"] == count - 1
        return answer

    return step


def dictionary(peer: str, seconds: float) -> dict[str, float]:
    if peer == OURS:
        import onecopy

        return one_member(mapping, (onecopy.Dict(),), round(100_000 * seconds))
    with multiprocessing.get_context("spawn").Manager() as manager:
        return one_member(mapping, (manager.dict(),), round(5_000 * seconds))


def one_member(setup: Any, arguments: tuple[Any, ...], count: int) -> dict[str, float]:
    with Team([Member("alone", setup, arguments)]) as team:
        numbers: dict[str, float] = team.step(count, 120)["alone"]
    return numbers


def measure(peer: str, seconds: float) -> dict[str, float]:
    numbers = one_member(alone, (peer,), round(200_000 * seconds))
    numbers |= dictionary(peer, seconds)
    numbers[SMALL] = queue_rate(peer, sending_small, taking_small, 2000, seconds)
    numbers[LARGE] = queue_rate(peer, sending_large, taking_large, 20, seconds, DEPTH)
    numbers[POOL_MAP] = map_rate(peer, seconds)
    numbers[CONTENDED] = contended(peer, seconds)
    if peer == OURS:
        import onecopy

        numbers[READERS] = both_rate(reading, (onecopy.RWLock(),), round(200_000 * seconds))
    return numbers


def run(options: Options) -> Report:
    report = Report("dropin", "the same program on multiprocessing and on onecopy", STANDARD)
    contenders = {STANDARD: lambda: measure(STANDARD, options.seconds)}
    why_not = peers.without_onecopy(options)
    if why_not:
        report.skipped[OURS] = why_not
    else:
        contenders = {OURS: lambda: measure(OURS, options.seconds), **contenders}
    outcomes = interleave(contenders, options.runs, options.say)
    for case, unit in UNITS.items():
        report.add(case, unit, outcomes, case)
    report.targets += targets(report)
    return report


def targets(report: Report) -> list[Target]:
    def ours(case: str) -> float | None:
        return report.median(case, OURS)

    def theirs(case: str) -> float | None:
        return report.median(case, STANDARD)

    def rates(case: str, limit: float) -> Target:
        return at_least(f"{case}: rate", quotient(ours(case), theirs(case)), limit)

    def faster(case: str, limit: float) -> Target:
        return at_least(f"{case}: times faster", quotient(theirs(case), ours(case)), limit)

    return [
        rates(SMALL, 4),
        rates(LARGE, 20),
        at_most(f"{LOCK}: time", quotient(ours(LOCK), theirs(LOCK)), 1.0),
        rates(CONTENDED, 1.5),
        faster(VALUE, 2),
        at_most(
            f"{LIST_TO_ARRAY} against array.array",
            quotient(ours(LIST_TO_ARRAY), ours(ARRAY_ARRAY)),
            1.0,
        ),
        at_most(
            f"{NDARRAY_TO_ARRAY} against np.copyto",
            quotient(ours(NDARRAY_TO_ARRAY), ours(COPYTO)),
            1.0,
        ),
        faster(ITEM_GET, 5),
        faster(ITEM_SET, 5),
        faster(DICT_GET, 40),
        faster(DICT_SET, 40),
        at_most(f"{READ} against {LOCK}", quotient(ours(READ), ours(LOCK)), 2.0),
        at_least(f"{READERS} against {CONTENDED}", quotient(ours(READERS), ours(CONTENDED)), 1.0),
    ]
