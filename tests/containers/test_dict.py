"""A dict that processes share: as `dict`, whole whoever dies, by name or by reference."""

import copy
import gc
import itertools
import math
import pickle
import random
import resource
import threading
import time
from collections.abc import MutableMapping
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
from children import LIMIT, asleep, eventually, used

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
    """Raises this when it is built again."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return raise_it, (self.error,)


def raise_it(error):
    raise error("inside")


@pytest.mark.parametrize("error", [KeyError, IndexError, ImportError])
def test_a_value_that_cannot_be_built(shared, error):
    """Its error comes out and is not taken for a missing key, and it stays."""
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
    assert Watcher(900) in shared.values()  # where the first piece ended is not there any more
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


# --------------------------------------------------------------------------------------------- keys

KEYS = [
    None,
    0,
    -1,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    2**2000,
    1.5,
    -2.5,
    math.inf,
    -math.inf,
    "",
    "a",
    "ä" * 30,
    "x" * 62,
    "x" * 63,
    "x" * 254,
    "x" * 255,
    "x" * 100_000,
    "\0",
    "\ud800",
    b"",
    b"a",
    b"x" * 300,
    (),
    (1,),
    ((1,), "a", (None, (b"b", 2.5))),
    ("a", "b"),
    ("ab",),
    ("a",) * 300,
]


def test_keys_of_every_kind(pool):
    shared = pool.dict()
    for index, key in enumerate(KEYS):
        assert key not in shared
        shared[key] = index
    assert list(shared) == KEYS
    assert [type(key) for key in shared] == [type(key) for key in KEYS]
    for index, key in enumerate(KEYS):
        assert shared[key] == index
    assert pool.validate() == []
    for index, key in enumerate(KEYS):
        assert shared.pop(key) == index
    assert pool.validate() == []


@pytest.mark.parametrize(
    "same",
    [
        (1, 1.0, True),
        (0, -0.0, 0.0, False),
        (2**60, float(2**60)),
        (int(1e300), 1e300),
        ((1, (True,)), (1.0, (1,)), (True, (1.0,))),
    ],
)
def test_equal_keys_are_one_and_the_first_comes_back(pool, same):
    for first in same:
        shared, model = pool.dict(), {}
        for of in (shared, model):
            of[first] = "first"
            for key in same:
                of[key] = key
        assert repr(list(shared)) == repr(list(model)) == repr([first])
        assert shared.popitem()[1] == same[-1]


def test_nan_is_one_key(pool):
    shared = pool.dict({math.nan: 1})
    shared[-float("nan")] = 2
    assert len(shared) == 1
    assert math.isnan(next(iter(shared)))
    assert shared[math.nan] == 2


class Colour(IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "key",
    [
        Colour.RED,
        Text("a"),
        np.int64(1),
        np.float64(1),
        frozenset(),
        [1],
        1j,
        1 + 0j,
        (1, [2]),
        object,
        (1, object()),
    ],
)
def test_other_keys_are_refused(shared, key):
    for act in (
        lambda: shared[key],
        lambda: shared.__setitem__(key, 1),
        lambda: shared.__delitem__(key),
        lambda: shared.pop(key),
        lambda: shared.setdefault(key),
    ):
        with pytest.raises(TypeError, match="same bytes in every process"):
            act()
    assert len(shared) == 3


@pytest.mark.parametrize("key", [frozenset(), 1j, object, (1, object()), {}.keys])
def test_other_keys_are_not_there(shared, key):
    assert key not in shared
    keys = shared.keys()
    assert key not in keys
    assert (key, 1) not in shared.items()
    assert shared.get(key) is None
    assert shared.get(key, 5) == 5
    assert shared.pop(key, 5) == 5
    assert shared.keys() - {key} == {"a", "b", "c"}
    assert not shared.keys() >= {key}


@pytest.mark.parametrize("key", [[1], (1, [2]), Colour.RED, Text("a"), np.int64(1), 1 + 0j])
def test_what_may_be_equal_to_a_key_or_has_no_hash_is_refused(shared, key):
    for act in (
        lambda: key in shared,
        lambda: shared.get(key),
        lambda: shared.pop(key, None),
    ):
        with pytest.raises(TypeError, match=r"same bytes in every process|unhashable"):
            act()


def test_a_key_nests_only_so_deep(shared):
    key = ()
    for _ in range(100):
        key = (key,)
    with pytest.raises(ValueError, match="64"):
        shared[key] = 1


def test_keys_that_are_chosen_do_not_meet(pool):
    """A constant in the key, as that of a known hash, makes no chains: time grows with the keys."""
    shared = pool.dict()
    ends = [
        constant.to_bytes(8, order)
        for constant in (0xD6E8FEB86659FD93, 0x9E3779B97F4A7C15, 0xE7037ED1A0B428DB)
        for order in ("little", "big")
    ]
    for end in ends:
        took = []
        for count in (2000, 8000):
            shared.clear()
            start = time.process_time()
            for number in range(count):
                shared[number.to_bytes(6, "little") + end] = None
            took.append(time.process_time() - start)
        assert took[1] < took[0] * 12 + 0.05  # 4 of linear, 16 of quadratic, which takes seconds


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
    """Tell how often it went: whatever was too much in the end, a slot, buckets, a key, a value."""
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


# --------------------------------------------------------------------------- by reference, by name


def work(shared, answers):
    shared["child"] = np.arange(10_000)
    del shared["a"]
    answers.put([list(shared), shared["b"]])


def test_in_another_process(pool, shared, start, method):
    answers = pool.queue()
    child = start(method, work, shared, answers)
    assert answers.get(timeout=LIMIT) == [["b", "c", "child"], 2]
    assert child.wait() == 0
    assert (shared["child"] == np.arange(10_000)).all()


def test_names(pool):
    shared = pool.dict({"a": 1}, name="settings")
    assert pool.dict({"b": 2}, name="settings") == {"a": 1}
    assert pool.dict(name="settings").handle == shared.handle
    assert "'settings'" in repr(shared)
    pool.list(name="settings")  # another kind
    again = pickle.loads(pickle.dumps(shared))
    assert again.name == "settings"
    again["c"] = 3
    assert shared["c"] == 3


def test_a_dict_in_a_dict_stays_alive(pool):
    shared = pool.dict({"inner": pool.dict({"x": pool.list([1])})})
    gc.collect()
    assert shared["inner"]["x"] == [1]
    shared["inner"]["x"].append(2)
    assert shared["inner"]["x"] == [1, 2]
    shared.clear()
    gc.collect()
    assert pool.stats().structures == 3
    assert pool.validate() == []


def test_a_named_object_that_is_a_queue_stays_alive(pool):
    pool["jobs"] = pool.queue()
    gc.collect()
    pool["jobs"].put(1)
    assert pool["jobs"].get() == 1


def test_closing(pool, shared):
    shared.detach()
    for act in (lambda: len(shared), lambda: shared["a"], shared.lock, shared.clear):
        with pytest.raises(oc.OneCopyError, match="closed"):
            act()


# ------------------------------------------------------------------------------------ several steps


def add_up(shared, rounds):
    for number in range(rounds):
        with shared.lock():
            shared["sum"] += 1
        shared.setdefault(number % 50, number)


def test_compound_updates_under_the_lock(pool, start, method):
    shared = pool.dict({"sum": 0})
    children = [start(method, add_up, shared, 500) for _ in range(4)]
    for child in children:
        assert child.wait() == 0
    assert shared["sum"] == 2000
    assert len(shared) == 51
    assert [shared[number] for number in range(50)] == list(range(50))
    assert pool.validate() == []


def set_plainly(shared, ready):
    ready.put(None)
    shared["a"] = "plain"


def test_a_plain_set_does_not_get_in_between(pool, shared, start, method):
    ready = pool.queue()
    with shared.lock():
        before = shared["a"]
        child = start(method, set_plainly, shared, ready)
        ready.get(timeout=LIMIT)
        eventually(lambda: asleep(child.pid), "the child to wait")
        shared["a"] = before + 1
        assert shared["a"] == 2
    assert child.wait() == 0
    assert shared["a"] == "plain"


def one_wins(shared, number, ready):
    ready.put(None)
    for key in range(200):
        shared.setdefault(key, number)
        shared[number, key] = shared[key]


def test_setdefault_has_one_winner(pool, start):
    shared, ready = pool.dict(), pool.queue()
    children = [start("fork", one_wins, shared, number, ready) for number in range(3)]
    for child in children:
        assert child.wait() == 0
    for key in range(200):
        assert len({shared[key], *(shared[number, key] for number in range(3))}) == 1


def test_threads(shared):
    def work(number):
        for _ in range(300):
            with shared.lock():
                shared["a"] += 1
            shared[number] = number
            shared.pop(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared["a"] == 1201
    assert len(shared) == 3


# ------------------------------------------------------------------------------------------- deaths


def die_inside(shared, ready):
    with shared.lock():
        shared["a"] = "half"
        ready.put(None)
        threading.Event().wait()


def test_an_owner_of_the_lock_is_killed(pool, start, method):
    shared, ready = pool.dict({"a": 1}, name="accounts"), pool.queue()
    child = start(method, die_inside, shared, ready)
    ready.get(timeout=LIMIT)
    child.kill()
    with pytest.warns(oc.OwnerDiedWarning, match=f"process {child.pid} died.*dict 'accounts'"):
        assert shared["a"] == "half"
    assert shared["a"] == "half"
    assert pool.validate() == []


def mutate_for_ever(shared, seed):
    seeded = random.Random(seed)  # noqa: S311 - to be repeated
    while True:
        number = seeded.randrange(60)
        key = ("k" * 80, number) if number % 3 else number
        what = seeded.randrange(20)
        if what == 0:
            shared.clear()
        elif what == 1 and shared:
            shared.popitem() if number else shared.copy()
        elif what < 7:
            shared.pop(key, None)
        else:
            shared[key] = {"number": number, "data": np.full(1500, number)}


def whole(shared):
    for key, value in shared.items():
        number = key if isinstance(key, int) else key[1]
        assert value["number"] == number
        assert (value["data"] == number).all()


@pytest.mark.parametrize("round_", range(3))
def test_writers_are_killed_in_the_middle(pool, start, round_):
    shared = pool.dict()
    seeded = random.Random(round_)  # noqa: S311 - to be repeated
    writers = []
    for death in range(12):
        while len(writers) < 2:
            # One process at a time takes the last entry of what another one may have cleared.
            writers.append(start("fork", mutate_or_find_nothing, shared, round_ * 100 + death))
        for _ in range(seeded.randrange(1, 30)):
            whole(shared)
        writers.pop(seeded.randrange(2)).kill()
        whole(shared)
    for writer in writers:
        writer.kill()
    pool.collect()
    assert pool.validate() == []
    whole(shared)
    for key in shared:
        assert shared[key]["number"] in (key, key[1] if isinstance(key, tuple) else key)
    shared.clear()
    gc.collect()
    stats = pool.stats()
    assert (stats.used, stats.structures) == (0, 3)


def mutate_or_find_nothing(shared, seed):
    while True:
        try:
            mutate_for_ever(shared, seed)
        except KeyError:
            seed += 1
