"""A list that processes share: as `list`, whole whoever dies, by name or by reference."""

import copy
import gc
import itertools
import math
import os
import pickle
import random
import re
import resource
import signal
import threading
import warnings
from collections.abc import MutableSequence
from pathlib import Path

import numpy as np
import pytest
from children import LIMIT, asleep, eventually, used

import onecopy as oc

pytestmark = pytest.mark.one_in(2)


@pytest.fixture
def shared(pool):
    return pool.list(range(10))


# ---------------------------------------------------------------------------------- as list does it


def test_it_is_a_sequence(pool):
    shared = pool.list()
    assert isinstance(shared, MutableSequence)
    assert not shared
    assert list(shared) == []
    shared.append(1)
    assert shared
    assert repr(shared) == "<onecopy.List, 1 item>"
    with pytest.raises(TypeError, match="unhashable"):
        hash(shared)


def test_in_the_default_pool():
    assert oc.List().copy() == []
    assert oc.List("abc").copy() == ["a", "b", "c"]
    assert oc.List([1]).member is oc.default_pool().member


VALUES = [
    None,
    True,
    -1,
    2**80,
    1.5,
    "text",
    "ä" * 500,
    b"bytes" * 1000,
    (1, (2, "x")),
    {"a": [1, {2}]},
    np.arange(3),
    np.arange(100_000),
    [np.zeros(9000), "x"],
]


def test_values_of_every_kind(pool):
    shared = pool.list(VALUES)
    for index, value in enumerate(VALUES):
        np.testing.assert_equal(shared[index], value)
    np.testing.assert_equal(shared.copy(), VALUES)


@pytest.mark.parametrize(
    ("value", "bytes_"), [(1, 64), (None, 64), ("x" * 40, 64), ("x" * 50, 128), ("x" * 220, 256)]
)
def test_a_small_value_takes_little(pool, value, bytes_):
    shared = pool.list([value])
    assert bytes_ // 2 - 64 < pool.stats().used <= bytes_  # whole lines are taken
    assert shared == [value]


def test_an_item_is_a_snapshot(pool):
    shared = pool.list([[1], np.zeros(1000)])
    shared[0].append(2)
    assert shared[0] == [1]
    array = shared[1]
    assert not array.flags.writeable
    shared[1] = 0
    gc.collect()
    assert not array.any()  # it stays as it is


@pytest.mark.parametrize("index", [0, 5, 9, -1, -10, np.int64(3), True])
def test_items(shared, index):
    model = list(range(10))
    assert shared[index] == model[index]
    shared[index] = model[index] = "new"
    assert shared.copy() == model
    del shared[index], model[index]
    assert shared.copy() == model


@pytest.mark.parametrize("index", [10, -11, 2**40, -(2**40), 2**70])
def test_out_of_range(shared, index):
    model = list(range(10))
    for act in (
        lambda of: of[index],
        lambda of: of.__setitem__(index, 0),
        lambda of: of.__delitem__(index),
        lambda of: of.pop(index),
    ):
        with pytest.raises((IndexError, OverflowError)) as theirs:
            act(model)
        with pytest.raises(theirs.type) as ours:
            act(shared)
        assert index == 2**70 or str(ours.value) == str(theirs.value)
    with pytest.raises(IndexError, match="pop from empty list"):
        oc.List().pop()


def test_indices_of_another_type(shared):
    for act in (
        lambda: shared["a"],
        lambda: shared.__setitem__(1.0, 0),
        lambda: shared.__delitem__(None),
        lambda: shared.pop("a"),
        lambda: shared.insert("a", 0),
    ):
        with pytest.raises(TypeError):
            act()


SLICES = [
    slice(*arguments)
    for arguments in [
        (None,),
        (3,),
        (2, 5),
        (5, 2),
        (0, 0),
        (-3, None),
        (100, 200),
        (-100, 3),
        (None, None, 2),
        (1, 8, 3),
        (None, None, -1),
        (8, 1, -2),
        (2, 7, -1),
        (None, None, 100),
        (3, 3, -1),
    ]
]


@pytest.mark.parametrize("place", SLICES, ids=str)
def test_slices(shared, place):
    model = list(range(10))
    assert shared[place] == model[place]
    for count in (0, 1, len(model[place]), 20):
        new = [f"{count}.{index}" for index in range(count)]
        mine, theirs = list(range(10)), None
        try:
            mine[place] = new
        except ValueError as error:
            theirs = str(error)
        shared[:] = range(10)
        if theirs is None:
            shared[place] = new
        else:
            with pytest.raises(ValueError, match="attempt to assign") as ours:
                shared[place] = new
            assert str(ours.value) == theirs
        assert shared.copy() == mine
    shared[:] = range(10)
    del shared[place], model[place]
    assert shared.copy() == model


def test_slices_of_what_is_no_iterable(shared):
    with pytest.raises(TypeError, match="can only assign an iterable"):
        shared[1:3] = 5
    with pytest.raises(TypeError, match="must assign iterable"):
        shared[::2] = 5
    with pytest.raises(ValueError, match="zero"):
        shared[::0]
    assert shared.copy() == list(range(10))


def test_a_slice_of_itself(shared):
    shared[5:5] = shared
    assert shared.copy() == [*range(5), *range(10), *range(5, 10)]
    shared.extend(shared)
    assert len(shared) == 40
    shared += shared
    assert len(shared) == 80


@pytest.mark.parametrize("index", [0, 3, 10, 100, -1, -100])
def test_insert(shared, index):
    model = list(range(10))
    shared.insert(index, "x")
    model.insert(index, "x")
    assert shared.copy() == model


def test_pop(shared):
    model = list(range(10))
    for index in (-1, 0, 3, -2, -1):
        assert shared.pop(index) == model.pop(index)
        assert shared.copy() == model
    assert shared.pop() == model.pop()


def test_remove_index_count(pool):
    values = [3, "a", 3, float("nan"), None, 3.0]
    shared = pool.list(values)
    assert shared.index(3) == 0
    assert shared.index(3, 1) == 2
    assert shared.index(3, -2) == 5
    with pytest.raises(ValueError, match="'z' is not in list"):
        shared.index("z")
    with pytest.raises(ValueError, match="is not in list"):
        shared.index("a", 2, 4)
    assert shared.count(3) == 3
    assert None in shared
    assert "z" not in shared
    shared.remove(3)
    shared.remove(None)
    assert shared[:2] == ["a", 3]
    with pytest.raises(ValueError, match="not in list"):
        shared.remove("z")
    assert len(shared) == 4


def test_sort_and_reverse(pool):
    seeded = random.Random(5)  # noqa: S311 - an order to sort
    values = [(seeded.randrange(20), index) for index in range(200)]
    shared = pool.list(values)
    for options in (
        {},
        {"reverse": True},
        {"key": lambda pair: pair[0]},
        {"key": lambda pair: pair[0], "reverse": True},
    ):
        shared.sort(**options)
        values.sort(**options)
        assert shared.copy() == values
        shared.reverse()
        values.reverse()
        assert list(shared) == values
    with pytest.raises(TypeError):
        pool.list([1, "a"]).sort()
    with pytest.raises(TypeError):
        shared.sort(lambda pair: pair)


def test_a_sort_that_is_disturbed_begins_again(shared):
    calls = []

    def key(item):
        calls.append(item)
        if len(calls) == 3:
            shared.append(-1)
        return -item

    shared.sort(key=key)
    assert shared.copy() == [*range(9, -1, -1), -1]
    assert len(calls) == 21


@pytest.mark.parametrize("disturb", [0, 1, 2])
def test_a_sort_that_changes_the_list_itself_ends(shared, disturb):
    calls = []

    def key(item):
        calls.append(item)
        if len(calls) in (1, 11, 22)[: disturb + 1]:
            shared.append(-1)
        return -item

    if disturb < 2:
        shared.sort(key=key)
        assert shared[:10] == list(range(9, -1, -1))
        return
    with pytest.raises(ValueError, match="modified during sort"):
        shared.sort(key=lambda item: (shared.append(0), item)[1])
    assert not shared.lock().locked()


def write_for_ever(shared, ready):
    ready.put(None)
    while True:
        shared[0] = 1


def test_a_sort_ends_under_writers(pool, start):
    shared, ready = pool.list(range(5000, 0, -1)), pool.queue()
    child = start("fork", write_for_ever, shared, ready)
    ready.get(timeout=LIMIT)
    shared.sort()
    child.kill()
    assert shared[1:] == sorted(shared[1:])


def test_plus_and_times(shared):
    model = list(range(10))
    one = [1]
    assert shared + one == [*model, 1]
    assert one + shared == [1, *model]
    assert shared * 2 == 2 * shared == model * 2
    same = shared
    shared += "ab"
    shared *= 3
    assert shared is same
    assert shared.copy() == [*model, "a", "b"] * 3
    shared *= 1
    assert len(shared) == 36
    shared *= 0
    assert shared.copy() == []
    shared *= 5
    assert shared.copy() == []
    with pytest.raises(TypeError):
        shared + tuple(one)


def test_repeated_values_are_not_copied(pool):
    shared = pool.list([np.zeros(100_000)])
    before = pool.stats().used
    shared *= 20
    assert pool.stats().used == before
    shared[3] = 1
    del shared[5:]
    assert len(shared) == 5
    assert not shared[4].any()
    shared.clear()
    assert used(pool) == 0
    assert pool.validate() == []


def test_more_references_to_one_value_than_can_be_counted(pool):
    shared = pool.list([1])
    before = pool.stats()
    for times in (1 << 20, 1 << 40, (1 << 63) - 1):
        with pytest.raises(MemoryError, match=r"2\*\*20 references"):
            shared *= times
    with pytest.raises(OverflowError):
        shared *= 2**70
    assert shared == [1]
    assert pool.stats() == before  # nothing has grown
    twice = shared[:1] * 2
    twice = pool.list(twice)
    twice *= 3
    twice.extend(twice[:1])
    twice *= 1000
    with pytest.raises(MemoryError):
        twice *= 1000  # here some of the references are within the list
    assert len(twice) == 7000
    with pytest.raises(TypeError):
        shared *= 1.5
    assert pool.validate() == []


def test_comparisons(pool, shared):
    assert shared == list(range(10))
    assert list(range(10)) == shared
    assert shared == pool.list(range(10))
    assert shared != list(range(9))
    assert shared != tuple(range(10))
    assert shared < [1]
    assert shared <= list(range(10))
    assert shared > [0, 0]
    assert shared >= [0, 1]


def test_iteration_sees_changes(shared):
    seen = []
    for item in shared:
        seen.append(item)
        if item == 2:
            del shared[5:]
        if item == 4 and len(seen) < 8:
            shared.extend("xy")
    assert seen == [0, 1, 2, 3, 4, "x", "y"]
    backwards = reversed(shared)
    assert next(backwards) == "y"
    shared.clear()
    assert list(backwards) == []


def test_an_iterable_that_fails_leaves_it_as_it_was(pool, shared):
    before = used(pool)

    def failing():
        yield 1
        raise LookupError("no more")

    for act in (shared.extend, lambda of: shared.__setitem__(slice(1, 3), of), pool.list):
        with pytest.raises(LookupError):
            act(failing())
    with pytest.raises((pickle.PicklingError, TypeError, AttributeError)):
        shared.append(lambda: 0)
    gc.collect()
    assert shared.copy() == list(range(10))
    assert used(pool) == before


def until_full(act):
    """Tell how often it went: whatever was too much in the end, a slot, the order, a value."""
    for count in itertools.count():
        try:
            act(count)
        except oc.PoolFull:
            return count
    raise AssertionError


def test_a_full_pool_leaves_it_as_it_was():
    with oc.Pool.create(size="1MiB") as pool:
        shared = pool.list(range(10))
        with pytest.raises(oc.PoolFull):
            shared.append(np.zeros(1 << 20, "u1"))
        with pytest.raises(oc.PoolFull):
            shared.extend(range(10_000))
        with pytest.raises(oc.PoolFull):
            shared[2:4] = range(10_000)
        assert shared.copy() == list(range(10))
        count = 10 + until_full(lambda count: shared.append(10 + count))
        assert shared.copy() == list(range(count))
        assert shared.pop() == count - 1
        shared.clear()
        gc.collect()
        assert pool.stats().used == 0
        assert pool.validate() == []


def test_many(pool):
    shared = pool.list(range(20_000))
    assert len(shared) == 20_000
    del shared[1::2]
    shared[:5000] = ()
    assert shared[0] == 10_000
    assert shared[-1] == 19_998
    assert pool.validate() == []
    del shared
    gc.collect()
    stats = pool.stats()
    assert (stats.used, stats.structures) == (0, 0)


# --------------------------------------------------------------- as list does it, seldom asked for


class Unreadable:
    """Raises this when it is built again."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return raise_it, (self.error,)


def raise_it(error):
    raise error("inside")


@pytest.mark.parametrize("error", [IndexError, KeyError, ValueError, ImportError])
def test_an_item_that_cannot_be_built(pool, error):
    """Its error comes out and is not taken for another one, and it stays."""
    shared = pool.list([1, Unreadable(error), 3, Unreadable(error)])
    items = iter(shared)
    assert next(items) == 1
    for act in (
        lambda: next(items),
        lambda: next(reversed(shared)),
        shared.pop,
        lambda: shared.pop(1),
        shared.copy,
        lambda: shared.index(3),
        lambda: shared.remove(3),
        lambda: 3 in shared,
        lambda: shared == [1, 2, 3, 4],
    ):
        with pytest.raises(error, match="inside"):
            act()
    assert len(shared) == 4
    assert shared == shared  # noqa: PLR0124 - without looking into it
    assert shared != [1]
    del shared[1], shared[-1]
    assert shared == [1, 3]


def test_an_item_is_taken_out_while_another_is_built(pool):
    """`pop` builds first: if the item is not the last any more, it takes that which is."""
    shared = pool.list([1])
    shared.append(Meddling(shared))
    Meddling.times = 20
    assert shared.pop() == "meddled"  # the last was a fresh one each time, until the lock was taken
    assert len(shared) == 1


class Meddling:
    times = 0

    def __init__(self, shared):
        self.shared = shared

    def __reduce__(self):
        return meddle, (self.shared,)


def meddle(shared):
    if Meddling.times > 0:
        Meddling.times -= 1
        shared[-1] = Meddling(shared)
    return "meddled"


def test_a_list_that_is_in_itself(pool):
    shared = pool.list([1])
    shared.append(shared)
    assert shared == shared[1]
    assert shared in shared  # noqa: PLR0124 - it is
    assert shared.index(shared) == 1
    assert shared.count(shared) == 1
    copied = copy.deepcopy(shared)
    assert copied[1] is copied
    shared.remove(shared)
    assert shared == [1]


def test_copies_are_plain(pool):
    shared = pool.list([1, [2], pool.dict({"a": [3]})])
    one, other = copy.copy(shared), copy.deepcopy(shared)
    assert one == shared
    assert type(one) is type(other) is list
    assert other == [1, [2], {"a": [3]}]
    assert type(other[2]) is dict
    one.append(9)
    assert len(shared) == 3


def test_annotations_and_a_second_init(pool):
    assert oc.List[int].__origin__ is oc.List
    assert oc.Dict[str, int].__args__ == (str, int)
    for shared in (pool.list([1]), oc.List([1]), pool.dict({1: 1}), oc.Dict({1: 1})):
        with pytest.raises(TypeError, match="second time"):
            shared.__init__([7])
        assert len(shared) == 1


def test_nan_is_not_found_again(pool):
    assert pool.list([math.nan]).count(math.nan) == 0


def test_looking_for_a_value_in_pieces(pool):
    shared = pool.list(range(2000))
    seen = []

    class Watcher:
        def __init__(self, wanted):
            self.wanted = wanted

        def __eq__(self, other):
            seen.append(other)
            if len(seen) == 300:
                shared.insert(0, "new")
            return other == self.wanted

        __hash__ = None

    assert shared.index(Watcher(3)) == 3
    assert len(seen) == 4
    assert Watcher(1500) in shared  # an item is pushed over an edge
    assert len(seen) > 1500
    assert shared.index(Watcher(1500)) == 1501
    assert shared.count(Watcher("new")) == 1
    seen[:] = range(1000)
    assert shared.index(5, 1, -1) == 6
    with pytest.raises(ValueError, match="not in list"):
        shared.index(5, 7)


class Closing:
    def __init__(self, shared):
        self.shared = shared

    def __index__(self):
        self.shared.detach()
        return 0


@pytest.mark.parametrize(
    "act",
    [
        lambda of, at: of[at:2],
        lambda of, at: of.__delitem__(slice(at, 2)),
        lambda of, at: of.__setitem__(slice(at, 2), []),
        lambda of, at: of.__setitem__(slice(at, 2), [5]),
        lambda of, at: of.__setitem__(at, 5),
        lambda of, at: of[at],
        lambda of, at: of.insert(at, 5),
        lambda of, at: of.pop(at),
        lambda of, at: of.index(1, at),
        lambda of, at: of.__imul__(at),
    ],
)
def test_closed_while_an_index_is_asked_for(shared, act):
    with pytest.raises(oc.OneCopyError, match="closed"):
        act(shared, Closing(shared))


@pytest.mark.parametrize(
    "empty",
    [
        lambda of: [of.pop() for _ in range(len(of))],
        lambda of: of.__delitem__(slice(None)),
        lambda of: of.__delitem__(slice(None, None, -1)),
        lambda of: of.__setitem__(slice(None), []),
        lambda of: [of.remove(number) for number in range(len(of))],
    ],
)
def test_an_empty_list_gives_its_memory_back(pool, empty):
    shared = pool.list(range(400))
    grown = pool.stats().structure_bytes
    empty(shared)
    assert grown > 5000
    assert pool.stats().structure_bytes < 500
    shared.extend(range(20))
    assert shared == list(range(20))
    assert pool.validate() == []


def short_of_memory(shared, more, act, answers):
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more, size + more))
    try:
        act(shared)
        answers.put("done")
    except MemoryError:
        answers.put("MemoryError")


def take_a_slice(shared):
    return shared[:]


def delete_every_second(shared):
    del shared[::2]


def repeat_it(shared):
    shared *= 2


def refer(shared):
    shared.sort(key=id)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("act", [take_a_slice, delete_every_second, repeat_it, refer])
@pytest.mark.parametrize("more", [0, 1 << 20, 3 << 20])
def test_no_memory_of_the_process_itself(start, act, more):
    with oc.Pool.create(size="64MiB") as pool:
        shared, answers = pool.list(range(1000)), pool.queue()
        shared *= 300
        child = start("fork", short_of_memory, shared, more, act, answers)
        assert child.wait() == 0
        if answers.get(timeout=LIMIT) == "MemoryError":
            assert len(shared) == 300_000
        if act is refer:  # it may have sorted the list
            assert sum(shared[:]) == 300 * sum(range(1000))
        else:
            assert shared[-1] == 999
        assert pool.validate() == []


# --------------------------------------------------------------------------- by reference, by name


def work(shared, answers):
    shared.append("child")
    shared[0] = np.arange(10_000)
    answers.put(shared[1:4])


def test_in_another_process(pool, start, method):
    shared, answers = pool.list(range(5)), pool.queue()
    child = start(method, work, shared, answers)
    assert answers.get(timeout=LIMIT) == [1, 2, 3]
    assert child.wait() == 0
    assert shared[-1] == "child"
    assert (shared[0] == np.arange(10_000)).all()


def test_names(pool):
    shared = pool.list([1, 2], name="jobs")
    again = pool.list(["not looked at"], name="jobs")
    assert again.handle == shared.handle
    assert again == [1, 2]
    assert shared.name == "jobs"
    assert "'jobs'" in repr(shared)
    pool.dict(name="jobs")  # another kind
    with pytest.raises(TypeError):
        pool.list(name=5)
    del shared, again
    gc.collect()
    assert pool.list(name="jobs") == [1, 2]


def test_pickles_are_the_same_list(pool):
    shared = pool.list([1], name="jobs")
    again = pickle.loads(pickle.dumps(shared))
    again.append(2)
    assert shared == [1, 2]
    assert again.name == "jobs"


def test_an_anonymous_list_goes_with_its_last_user(pool):
    shared = pool.list([np.zeros(1000)])
    gone = pickle.dumps(shared)
    del shared
    gc.collect()
    stats = pool.stats()
    assert (stats.used, stats.structures) == (0, 0)
    with pytest.raises(oc.StaleRef):
        pickle.loads(gone)


@pytest.mark.parametrize("kind", ["list", "dict", "queue", "stream", "lock", "rwlock", "event"])
def test_what_is_pickled_by_reference_stays_alive_in_it(pool, kind):
    shared = pool.list([getattr(pool, kind)()])
    gc.collect()
    thing = shared[0]
    again = shared[0]
    assert thing.handle == again.handle
    del thing, again
    shared.pop()
    gc.collect()
    assert pool.stats().structures == 5  # its body, lock, table, order, and a chunk
    shared.append(pool.put("object"))
    gc.collect()
    assert shared[0].get() == "object"


def test_closing(pool):
    shared = pool.list([1])
    shared.detach()
    for act in (
        lambda: len(shared),
        lambda: shared[0],
        lambda: shared.append(1),
        shared.lock,
        shared.clear,
    ):
        with pytest.raises(oc.OneCopyError, match="closed"):
            act()
    assert "closed" in repr(shared)
    with oc.Pool.create(size="1MiB") as other:
        kept = other.list()
    with pytest.raises(oc.OneCopyError):
        kept.append(1)


# ------------------------------------------------------------------------------------ several steps


def add_up(shared, rounds, failed):
    for _ in range(rounds):
        with shared.lock():
            shared[0] += 1
            shared[1] = shared[0]
    if shared[0] < rounds:
        failed.put(True)


def test_compound_updates_under_the_lock(pool, start, method):
    shared, failed = pool.list([0, 0]), pool.queue()
    children = [start(method, add_up, shared, 500, failed) for _ in range(4)]
    for _ in range(500):  # in between, those who do not take the lock see no half of it
        one, other = shared[:2]
        assert one == other
    for child in children:
        assert child.wait() == 0
    assert shared == [2000, 2000]
    assert failed.empty()
    assert pool.validate() == []


def test_the_lock_is_an_rlock(shared):
    lock = shared.lock()
    assert isinstance(lock, oc.RLock)
    with lock, shared.lock():
        assert shared.lock().locked()
        shared.append(1)
        assert shared.pop() == 1
        assert pickle.loads(pickle.dumps(lock)).acquire(False)
        lock.release()
    assert not lock.locked()
    with pytest.raises(RuntimeError):
        lock.release()
    assert lock.acquire(timeout=0.1) is True
    refused = []
    thread = threading.Thread(target=lambda: refused.append(lock.acquire(False)))
    thread.start()
    thread.join()
    assert refused == [False]
    lock.release()


def plain_append(shared, ready):
    ready.put(None)
    shared.append("late")


def test_others_wait_for_the_lock(pool, start, method):
    shared, ready = pool.list(), pool.queue()
    with shared.lock():
        child = start(method, plain_append, shared, ready)
        ready.get(timeout=LIMIT)
        eventually(lambda: asleep(child.pid), "the child to wait")
        shared.append("early")
    assert child.wait() == 0
    assert shared == ["early", "late"]


def test_threads_wait_for_the_lock_too(shared):
    seen = []
    with shared.lock():
        thread = threading.Thread(target=lambda: seen.append(shared[0]))
        thread.start()
        shared[0] = "changed"
    thread.join()
    assert seen == ["changed"]


def wait_then_compute(shared, ready, go_on):
    """Have a thread wait for the list's lock, and keep the GIL while it is released."""
    thread = threading.Thread(target=lambda: shared[0])
    thread.start()
    ready.put(None)
    go_on.get()
    # Regular expressions do not give the GIL away: this one would take for ever.
    re.match("(a+)+b", "a" * 60)


def test_who_waits_for_the_lock_does_not_have_it(pool, start):
    shared, ready, go_on = pool.list([1]), pool.queue(), pool.queue()
    lock = shared.lock()
    with lock:
        child = start("fork", wait_then_compute, shared, ready, go_on)
        ready.get(timeout=LIMIT)
        eventually(lambda: asleep(child.pid), "the child to wait, with both threads")
        go_on.put(None)
        eventually(lambda: not asleep(child.pid), "the child to compute")
    for _ in range(20):
        assert lock.acquire(False)
        lock.release()
    assert shared[0] == 1
    child.kill()


def wait_and_be_interrupted(shared, ready):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ready.put(None)
    try:
        shared.append("never")
    except KeyboardInterrupt:
        ready.put("interrupted")


def test_ctrl_c_while_waiting_for_the_lock(pool, start, method):
    shared, ready = pool.list(), pool.queue()
    with shared.lock():
        child = start(method, wait_and_be_interrupted, shared, ready)
        ready.get(timeout=LIMIT)
        eventually(lambda: asleep(child.pid), "the child to wait")
        os.kill(child.pid, signal.SIGINT)
        assert ready.get(timeout=LIMIT) == "interrupted"
    assert child.wait() == 0
    assert shared == []


# ------------------------------------------------------------------------------------------- deaths


def die_inside(shared, ready):
    with shared.lock():
        shared.append("half")
        ready.put(None)
        threading.Event().wait()


def test_an_owner_of_the_lock_is_killed(pool, start, method):
    shared, ready = pool.list(name="accounts"), pool.queue()
    child = start(method, die_inside, shared, ready)
    ready.get(timeout=LIMIT)
    child.kill()
    with pytest.warns(oc.OwnerDiedWarning, match=f"process {child.pid} died.*list 'accounts'"):
        shared.append("whole")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shared == ["half", "whole"]  # told once
    assert pool.validate() == []


def test_a_death_told_by_an_exception_is_told_again(pool, start):
    shared, ready = pool.list(), pool.queue()
    child = start("fork", die_inside, shared, ready)
    ready.get(timeout=LIMIT)
    child.kill()
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(oc.OwnerDiedWarning):
                shared.append("whole")
    with pytest.warns(oc.OwnerDiedWarning), shared.lock():
        assert shared == ["half"]


def mutate_for_ever(shared, seed):
    """All items of the list are runs of equal pairs: each operation keeps that."""
    seeded = random.Random(seed)  # noqa: S311 - to be repeated
    while True:
        size = len(shared)
        number = seeded.randrange(1000)
        pair = [(number, 0), (number, np.full(2000, number))]
        what = seeded.randrange(6)
        if what == 0 or size < 20:
            shared.extend(pair)
        elif what == 1:
            shared[0:0] = pair
        elif what == 2:
            shared[2:4] = pair
        elif what == 3:
            del shared[:2]
        elif what == 4:
            shared[4:8] = ()
        elif size > 200:
            shared.clear()


def whole(shared):
    items = shared.copy()
    assert len(items) % 2 == 0
    for one, other in zip(items[::2], items[1::2], strict=True):
        assert one == (one[0], 0)
        assert other[0] == one[0]
        assert (other[1] == one[0]).all()


@pytest.mark.parametrize("round_", range(3))
def test_writers_are_killed_in_the_middle(pool, start, round_):
    shared = pool.list()
    seeded = random.Random(round_)  # noqa: S311 - to be repeated
    writers = []
    for death in range(12):
        while len(writers) < 2:
            writers.append(start("fork", mutate_for_ever, shared, round_ * 100 + death))
        for _ in range(seeded.randrange(1, 30)):
            whole(shared)
        writers.pop(seeded.randrange(2)).kill()
        whole(shared)
    for writer in writers:
        writer.kill()
    pool.collect()
    assert pool.validate() == []
    whole(shared)
    shared.clear()
    gc.collect()
    stats = pool.stats()
    assert (stats.used, stats.structures) == (0, 3)
