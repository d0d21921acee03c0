"""A shared dict: it behaves like `dict`; and its use of the pool."""

import copy
import gc
import itertools
import pickle
import resource
from collections.abc import MutableMapping
from pathlib import Path

import numpy as np
import pytest
from children import LIMIT, used

import onecopy as oc

pytestmark = pytest.mark.one_in(2)


@pytest.fixture
def shared(pool):
    return pool.dict({"a": 1, "b": 2, "c": 3})


# ---------------------------------------------------------------------------------- as dict does it


def test_it_is_a_mapping(pool):
    shared = pool.dict()
    assert isinstance(shared, MutableMapping)
    assert not shared
    shared["a"] = 1
    assert shared
    assert repr(shared) == "<onecopy.Dict, 1 entry>"
    with pytest.raises(TypeError, match="unhashable"):
        hash(shared)


def test_in_the_default_pool():
    assert oc.Dict() == {}
    assert oc.Dict({"a": 1}, b=2) == {"a": 1, "b": 2}
    assert oc.Dict([("a", 1)], a=3) == {"a": 3}
    assert oc.Dict(pairs=1) == {"pairs": 1}
    assert oc.Dict.fromkeys("ab", 0) == {"a": 0, "b": 0}
    assert oc.Dict().member is oc.default_pool().member


def test_get_set_delete(shared):
    assert shared["a"] == 1
    shared["d"] = 4
    shared["a"] = "new"
    assert list(shared.items()) == [("a", "new"), ("b", 2), ("c", 3), ("d", 4)]
    del shared["b"]
    assert list(shared) == ["a", "c", "d"]
    assert "b" not in shared
    assert "a" in shared
    assert shared.get("b") is None
    assert shared.get("b", 5) == 5
    assert shared.get("a", 5) == "new"
    for act in (lambda: shared["b"], lambda: shared.__delitem__("b"), lambda: shared.pop("b")):
        with pytest.raises(KeyError) as error:
            act()
        assert error.value.args == ("b",)
    with pytest.raises(KeyError) as error:
        shared[1, 2]
    assert error.value.args == ((1, 2),)
    shared["b"] = "again"
    assert list(reversed(shared)) == ["b", "d", "c", "a"]


def test_pop_and_popitem(shared):
    assert shared.pop("a") == 1
    assert shared.pop("a", None) is None
    assert shared.popitem() == ("c", 3)
    assert shared.popitem() == ("b", 2)
    with pytest.raises(KeyError, match="dictionary is empty"):
        shared.popitem()
    assert shared.setdefault("x", np.arange(3)).tolist() == [0, 1, 2]
    assert shared.setdefault("x", 5).tolist() == [0, 1, 2]
    assert shared.setdefault("y") is None


def test_update_and_union(pool, shared):
    model = {"a": 1, "b": 2, "c": 3}
    for arguments, more in (
        (({"b": 5, "z": 1},), {}),
        (([("q", 1), ["r", 2], "st"],), {"u": 9}),
        ((pool.dict({"v": 1}),), {}),
        ((), {"w": 1}),
    ):
        shared.update(*arguments, **more)
        model.update(*(dict(each) for each in arguments), **more)
        assert shared == model
        assert list(shared) == list(model)
    assert shared | {"a": 0} == model | {"a": 0}
    assert {"a": 0, "new": 1} | shared == {"a": 0, "new": 1} | model
    assert type(shared | {}) is dict
    same = shared
    shared |= {"a": 0}
    shared |= [("b", 0)]
    assert shared is same
    assert shared["a"] == shared["b"] == 0
    with pytest.raises(TypeError):
        shared | [("a", 1)]
    with pytest.raises(TypeError):
        shared.update(5)
    with pytest.raises(ValueError, match="length 3"):
        shared.update(["abc"])
    with pytest.raises(TypeError, match="not a pair"):
        shared.update([1])


def test_views(shared):
    keys, values, items = shared.keys(), shared.values(), shared.items()
    shared["d"] = 4
    assert list(keys) == ["a", "b", "c", "d"]
    assert list(values) == [1, 2, 3, 4]
    assert list(items) == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    assert list(reversed(keys)) == ["d", "c", "b", "a"]
    assert list(reversed(values)) == [4, 3, 2, 1]
    assert next(reversed(items)) == ("d", 4)
    assert len(keys) == len(values) == len(items) == 4
    assert "a" in keys
    assert 3 in values
    assert ("b", 2) in items
    assert ("b", 3) not in items
    assert keys & {"a", "z"} == {"a"}
    assert keys == {"a", "b", "c", "d"}


class Unreadable:
    """Raises this when it is rebuilt."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return raise_it, (self.error,)


def raise_it(error):
    raise error("inside")


@pytest.mark.parametrize("error", [KeyError, IndexError, ImportError])
def test_a_value_that_cannot_be_built(shared, error):
    """The error is raised, is not mistaken for a missing key, and the entry stays."""
    shared["d"] = Unreadable(error)
    for act in (
        lambda: shared["d"],
        lambda: shared.get("d", "default"),
        lambda: shared.pop("d"),
        lambda: shared.pop("d", "default"),
        lambda: shared.setdefault("d", "default"),
        lambda: ("d", 1) in shared.items(),
        shared.popitem,
        shared.copy,
    ):
        with pytest.raises(error, match="inside"):
            act()
    assert "d" in shared
    assert 3 in shared.values()  # it is before that
    assert shared != {}
    del shared["d"]
    assert shared.popitem() == ("c", 3)


def test_what_views_can(shared):
    assert repr(shared.keys()) == "dict_keys(['a', 'b', 'c'])"
    assert repr(shared.values()) == "dict_values([1, 2, 3])"
    assert repr(shared.items()) == "dict_items([('a', 1), ('b', 2), ('c', 3)])"
    assert shared.keys().mapping["a"] == 1
    for no_pair in (5, "ab", ("a",), ("a", 1, 2), ["a", 1]):
        assert no_pair not in shared.items()


def test_looking_for_a_value_in_pieces(pool):
    shared = pool.dict((number, number) for number in range(1000))
    seen = []

    class Watcher:
        def __init__(self, wanted):
            self.wanted = wanted

        def __eq__(self, other):
            seen.append(other)
            if len(seen) == 200:
                for number in range(100, 300):
                    del shared[number]
            return other == self.wanted

        __hash__ = None

    assert Watcher(3) in shared.values()
    assert len(seen) == 4
    assert Watcher(900) in shared.values()  # the end of the first piece does not exist any more
    assert Watcher("no") not in shared.values()


def test_a_dict_that_is_in_itself(shared):
    shared["self"] = shared
    assert shared == shared["self"]
    copied = copy.deepcopy(shared)
    assert copied["self"] is copied
    assert type(copy.copy(shared)) is dict
    shared.clear()


def test_an_empty_dict_gives_its_memory_back(pool):
    shared = pool.dict((number, number) for number in range(400))
    grown = pool.stats().structure_bytes
    for number in range(200):
        del shared[number]
    while shared:
        shared.popitem()
    assert grown > 40_000
    assert pool.stats().structure_bytes < 500
    shared["a"] = 1
    assert shared == {"a": 1}
    assert pool.validate() == []


def short_of_memory(shared, act, answers):
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 20), size + (1 << 20)))
    try:
        act(shared)
        answers.put("done")
    except (MemoryError, oc.PoolFull):
        answers.put("MemoryError")


@pytest.mark.parametrize("act", [list, dict, lambda of: of.__setitem__("k" * (256 << 20), 1)])
def test_no_memory_of_the_process_itself(start, act):
    with oc.Pool.create(size="64MiB") as pool:
        shared = pool.dict((number, None) for number in range(50_000))
        answers = pool.queue()
        child = start("fork", short_of_memory, shared, act, answers)
        assert child.wait() == 0
        assert answers.get(timeout=LIMIT) in {"MemoryError", "done"}  # the heap may have had room
        assert len(shared) == 50_000
        assert shared[49_999] is None
        assert pool.validate() == []


def test_iteration_over_one_instant(shared):
    for key in shared:
        del shared[key]
        shared[key + key] = 0
    assert list(shared) == ["aa", "bb", "cc"]
    items = iter(shared.items())
    next(items)
    shared.clear()
    assert list(items) == [("bb", 0), ("cc", 0)]


def test_comparisons(pool, shared):
    model = {"c": 3, "b": 2, "a": 1}
    assert shared == model
    assert model == shared
    assert shared == pool.dict(model)
    assert shared != {"a": 1}
    assert shared != [("a", 1)]
    assert shared.copy() == model
    assert type(shared.copy()) is dict


def test_a_value_is_a_snapshot(shared):
    shared["list"] = [1]
    shared["list"].append(2)
    assert shared["list"] == [1]
    shared["array"] = np.zeros(1000)
    array = shared["array"]
    del shared["array"]
    gc.collect()
    assert not array.flags.writeable
    assert not array.any()


# --------------------------------------------------------------------------------------------- room


def test_many(pool):
    shared = pool.dict()
    for number in range(5000):
        shared[number] = number
        shared[f"a longer key, for which there is no room in the entry itself, number {number}"] = 1
    assert len(shared) == 10_000
    assert pool.validate() == []
    for number in range(0, 5000, 2):
        del shared[number]
    assert next(iter(shared.items()))[1] == 1
    assert [key for key in shared if isinstance(key, int)] == list(range(1, 5000, 2))
    assert pool.validate() == []
    del shared
    gc.collect()
    stats = pool.stats()
    assert (stats.used, stats.structures) == (0, 0)


def test_a_dict_that_is_used_again_and_again_does_not_grow(pool):
    shared = pool.dict()
    sizes = set()
    for number in range(5000):
        shared[number] = shared["k" * 80] = number
        del shared[number]
        if number > 10:
            sizes.add(pool.stats().structure_bytes)
    assert len(sizes) == 1


def until_full(act):
    """Return how often it succeeded before a slot, buckets, a key or a value did not fit."""
    for count in itertools.count():
        try:
            act(count)
        except oc.PoolFull:
            return count
    raise AssertionError


def test_a_full_pool_leaves_it_as_it_was():
    with oc.Pool.create(size="1MiB") as pool:
        shared = pool.dict({"a": 1})
        for act in (
            lambda: shared.__setitem__("a", np.zeros(1 << 20, "u1")),
            lambda: shared.__setitem__("b", np.zeros(1 << 20, "u1")),
            lambda: shared.__setitem__("c" * (1 << 20), 1),
            lambda: shared.setdefault("d", np.zeros(1 << 20, "u1")),
        ):
            with pytest.raises(oc.PoolFull):
                act()
        assert shared == {"a": 1}
        count = until_full(lambda count: shared.__setitem__("k" * 70 + str(count), count))
        assert len(shared) == count + 1
        assert shared.popitem()[1] == count - 1
        shared.clear()
        gc.collect()
        assert pool.stats().used == 0
        assert pool.validate() == []


def test_what_cannot_be_pickled_leaves_it_as_it_was(pool, shared):
    before = used(pool)
    with pytest.raises((pickle.PicklingError, TypeError, AttributeError)):
        shared["a"] = lambda: 0
    assert shared["a"] == 1
    assert used(pool) == before
