"""A shared list behaves like `list`."""

import gc
import itertools
import pickle
import random
from collections.abc import MutableSequence

import numpy as np
import pytest
from children import LIMIT, used

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
    assert bytes_ // 2 - 64 < pool.stats().used <= bytes_  # whole lines are read
    assert shared == [value]


def test_an_item_is_a_snapshot(pool):
    shared = pool.list([[1], np.zeros(1000)])
    shared[0].append(2)
    assert shared[0] == [1]
    array = shared[1]
    assert not array.flags.writeable
    shared[1] = 0
    gc.collect()
    assert not array.any()  # it does not change


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
    """Return how often it succeeded before a slot, the order or a value did not fit."""
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
