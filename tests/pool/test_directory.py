"""pool["name"]: the directory of named objects."""

import gc

import numpy as np
import pytest
from pickle_errors import UNPICKLABLE

import onecopy as oc


def test_it_is_a_mutable_mapping(pool):
    pool["a"] = {"x": [1, 2]}
    pool["b"] = "two"
    assert pool["a"] == {"x": [1, 2]}
    assert list(pool) == ["a", "b"]
    assert len(pool) == 2
    assert "a" in pool
    assert "c" not in pool
    assert pool.get("c", 7) == 7
    assert dict(pool.items()) == {"a": {"x": [1, 2]}, "b": "two"}
    assert pool.pop("a") == {"x": [1, 2]}
    assert list(pool) == ["b"]
    pool.update(c=3, d=4)
    assert sorted(pool.values(), key=str) == [3, 4, "two"]
    pool.clear()
    assert len(pool) == 0
    assert pool.stats().used == 0


def test_a_name_keeps_its_place_when_it_is_set_again(pool):
    pool["a"], pool["b"] = 1, 2
    pool["a"] = 3
    assert list(pool.items()) == [("a", 3), ("b", 2)]


def test_a_missing_name_is_a_key_error(pool):
    with pytest.raises(KeyError, match="nothing"):
        pool["nothing"]
    with pytest.raises(KeyError, match="nothing"):
        del pool["nothing"]
    with pytest.raises(KeyError):
        pool.pop("nothing")


def test_an_array_is_read_in_place_and_outlives_its_name(pool):
    pool["calibration"] = np.arange(1000.0)
    first, second = pool["calibration"], pool["calibration"]
    assert first.__array_interface__["data"] == second.__array_interface__["data"]
    assert not first.flags.writeable
    del pool["calibration"], second
    np.testing.assert_array_equal(first, np.arange(1000.0))
    assert pool.stats().used > 0
    del first
    assert pool.stats().used == 0


def test_setting_again_frees_what_was_there(pool):
    pool["image"] = np.zeros(100_000)
    before = pool.stats().used
    pool["image"] = np.ones(100_000)
    assert pool.stats().used == before
    assert pool["image"][-1] == 1


def test_an_array_of_the_pool_is_not_copied(pool):
    array = pool.zeros(1_000_000, "u1")
    pool["image"] = array
    assert pool.stats().used < 1_100_000
    assert pool["image"].__array_interface__["data"][0] == array.__array_interface__["data"][0]
    assert not array.flags.writeable


def test_setdefault_writes_once(pool):
    assert pool.setdefault("a", [1]) == [1]
    assert pool.setdefault("a", [2]) == [1]


@pytest.mark.parametrize("name", ["ä", "日本", "with space", "a/b", "x" * 200, "é" * 100])
def test_names_of_objects_are_any_text(pool, name):
    pool[name] = 1
    assert list(pool) == [name]
    assert pool[name] == 1


@pytest.mark.parametrize("name", ["", "x" * 201, "é" * 101, "\ud800"])
def test_names_that_cannot_be_stored_are_refused(pool, name):
    with pytest.raises(ValueError, match="name"):
        pool[name] = 1
    with pytest.raises(KeyError):
        pool[name]
    with pytest.raises(KeyError):
        del pool[name]
    assert name not in pool
    assert len(pool) == 0


@pytest.mark.parametrize("name", [1, None, b"a"])
def test_names_are_strings(pool, name):
    with pytest.raises(TypeError, match="argument 'name' must be a string"):
        pool[name] = 1
    with pytest.raises(KeyError):
        pool[name]
    assert name not in pool


def test_what_cannot_be_pickled_leaves_no_name(pool):
    with pytest.raises(UNPICKLABLE, match="pickle"):
        pool["lock"] = [lambda: None, np.zeros(10_000)]
    assert "lock" not in pool
    gc.collect()
    assert pool.stats().used == 0


def test_kinds_of_names_do_not_meet(pool):
    queue = pool.queue("same")
    pool["same"] = 1
    stream = pool.stream("same")
    shared = pool.shared_array(3, name="same")
    assert list(pool) == ["same"]
    assert pool["same"] == 1
    assert pool.queue("same").handle == queue.handle
    assert pool.stream("same").handle == stream.handle
    assert pool.shared_array(name="same").shape == shared.shape


def test_many_names(pool):
    for index in range(2000):
        pool[f"name {index}"] = index
    assert list(pool) == [f"name {index}" for index in range(2000)]
    for index in range(0, 2000, 2):
        del pool[f"name {index}"]
    assert [pool[name] for name in pool] == list(range(1, 2000, 2))
    assert pool.validate() == []


def test_an_empty_directory_is_no_empty_pool(pool):
    assert pool
    assert len(pool) == 0


def test_another_pool_object_sees_the_same(pool):
    pool["a"] = 1
    with oc.Pool.open(pool.name) as other:
        assert other["a"] == 1
        other["b"] = 2
    assert pool["b"] == 2
