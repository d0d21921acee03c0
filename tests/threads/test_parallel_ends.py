"""Closing, first uses and forks while other threads are at work."""

import threading
from queue import Empty

import numpy as np
import pytest
from forks import in_child
from programs import run as run_program
from together import ROUNDS, run, stopping, until

import onecopy as oc

CLOSED = (oc.OneCopyError, ValueError)


@pytest.mark.parametrize("kind", ["queue", "stream", "frames", "list", "dict", "lock"])
def test_an_object_that_is_closed_while_others_use_it(pool, kind):
    def make():
        if kind == "frames":
            return pool.frames("it", (8, 8), np.uint8, 2)
        return getattr(pool, kind)(name="it")

    def use(one):
        for _ in range(20):
            try:
                match kind:
                    case "queue":
                        one.put([1, {"k": 2}])
                        one.get_nowait()
                        one.qsize()
                    case "stream":
                        one.publish([1])
                        one.latest()
                    case "frames":
                        one.acquire(timeout=0)
                    case "list":
                        one.append([1])
                        len(one)
                    case "dict":
                        one["k"] = [1]
                        one.get("k")
                    case "lock":
                        with one:
                            pass
                assert repr(one)
            except Empty:
                continue
            except CLOSED:
                return

    keep = make()
    for _ in range(ROUNDS // 5):
        one = make()
        end = getattr(one, "close", one.detach)
        run(lambda one=one: use(one), end, lambda one=one: use(one), end)
        with pytest.raises(oc.OneCopyError):
            use_closed(kind, one)
    assert repr(keep)
    assert pool.validate() == []


def use_closed(kind, one):
    if kind == "queue":
        one.put(1)
    elif kind == "stream":
        one.publish(1)
    elif kind in {"frames", "lock"}:
        one.acquire()
    else:
        len(one)


def test_a_pool_that_is_closed_while_others_use_it(tmp_path):
    for i in range(ROUNDS // 10):
        pool = oc.Pool.create(f"closing{i}", size="16MiB")
        queue = pool.queue("jobs")

        def use(pool=pool, queue=queue):
            try:
                for _ in range(100):
                    queue.put(np.arange(100))
                    queue.get()
                    pool.put([1, 2]).get()
            except CLOSED:
                return

        run(use, pool.close, use)
        queue.close()


def test_children_that_are_forked_while_threads_are_at_work(pool):
    queue, done = pool.queue("jobs"), pool.queue("done")
    stop = threading.Event()

    def work():
        queue.put({"a": np.arange(50), "b": [1, {2}]})
        queue.get()
        pool.put([1]).get()

    def child():
        for i in range(20):
            done.put([i, np.full(300, i)])
        number, array = pool.put([7, np.arange(10)]).get()
        assert number == 7
        assert array.sum() == 45

    def fork():
        return [in_child(child) for _ in range(max(3, ROUNDS // 30))]

    answers = run(stopping(stop, fork), *[until(stop, work)] * 3)
    assert set(answers[0]) == {None}
    assert done.qsize() == 20 * len(answers[0])
    assert pool.validate() == []


FIRST = """
    from queue import Empty
    import collections, dataclasses, datetime, decimal, enum, pathlib, threading, uuid, zoneinfo
    import numpy as np
    import onecopy as oc

    class Colour(enum.Enum):
        red = 1

    Point = collections.namedtuple("Point", "x y")

    @dataclasses.dataclass
    class Plain:
        a: int

    @dataclasses.dataclass(slots=True, frozen=True)
    class Frozen:
        a: int

    values = [
        datetime.datetime(2020, 1, 2, 3, tzinfo=zoneinfo.ZoneInfo("UTC")), decimal.Decimal("1.5"),
        uuid.UUID(int=7), pathlib.PosixPath("/a/b"), Colour.red, Point(1, 2), Plain(3), Frozen(4),
        {1, "a", (2,)}, np.zeros(3, [("x", "i4")]), np.datetime64("2020-01-01"), 10**30, 1j,
        b"x" * 99, "x" * 3000, bytearray(b"y"), frozenset({1}), lambda: None,
    ]
    barrier, errors, pools = threading.Barrier(8), [], set()

    def work(number):
        try:
            barrier.wait()
            pool = oc.default_pool()
            pools.add(id(pool))
            queue = pool.queue()
            for i in range(len(values)):
                value = values[(i + number) % len(values)]
                try:
                    queue.put([value, {"k": value}])
                    got = queue.get()
                except Exception as error:
                    if callable(value) and not isinstance(value, (Plain, Colour)):
                        continue
                    raise
                assert str(got[0]) == str(value), (got, value)
            ref = pool.put(values[number])
            oc.Lock(), oc.RLock(), oc.Value("i", 1), oc.Semaphore(1), oc.Event()
            try:
                queue.get_nowait()
            except Empty:
                pass
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(pools) == 1
"""


def test_the_first_uses_of_everything_at_once():
    for _ in range(max(2, ROUNDS // 60)):
        assert run_program(FIRST) == (0, "")


EXIT = """
    import threading
    import numpy as np
    import onecopy as oc

    pool = oc.Pool.create(size="32MiB")
    queue = pool.queue()
    begun = threading.Barrier(4)

    def work():
        begun.wait()
        while True:
            queue.put({"a": np.arange(20), "b": [1, 2, {"c": "x" * 40}]})
            queue.get()

    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    begun.wait()
"""


def test_an_end_with_threads_at_work():
    for _ in range(max(2, ROUNDS // 60)):
        assert run_program(EXIT) == (0, "")
