"""The possible keys of a shared dict."""

import math
import time
from enum import IntEnum

import numpy as np
import pytest

pytestmark = pytest.mark.one_in(2)


@pytest.fixture
def shared(pool):
    return pool.dict({"a": 1, "b": 2, "c": 3})


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
    """Constants in the keys, as for a known hash, make no chains: time grows with the keys."""
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
        # a factor of 4 is linear; 16 would be quadratic, and take seconds
        assert took[1] < took[0] * 12 + 0.05
