"""What comes out of a pool is what pickle gives: values, types, order, references, cycles."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import sys
import threading
from typing import Any

import numpy as np
import pytest
from graphs import Colour, Comparison, Own, Pair, Record, Stateful, build, expected, graphs, ways
from hypothesis import HealthCheck, given, settings
from seeds import more

import onecopy as oc

SETTINGS = settings(
    max_examples=more(300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# ---- tests --------------------------------------------------------------------------------------


@pytest.fixture
def mapped(tmp_path):
    """Hold an array of a file until the test ends."""
    np.save(tmp_path / "numbers.npy", np.arange(2000.0))
    holder = [oc.open_array(tmp_path / "numbers.npy")]
    yield holder
    holder.clear()


@SETTINGS
@given(graphs)
def test_any_graph_comes_out_as_pickle_gives_it(pool, mapped, graph):
    obj = build(graph, pool, mapped[0])
    wanted = expected(obj)
    blocks = pool.stats().blocks
    for got in ways(pool, obj):
        assert Comparison().same(got, wanted)
        del got
    gc.collect()
    del wanted
    # What lies in the pool now are the graph's own arrays.
    assert pool.stats().blocks <= blocks + 8


def identity(obj):
    return obj


@settings(SETTINGS, max_examples=more(100))
@given(graphs)
def test_any_graph_comes_back_from_a_worker_as_pickle_gives_it(executor, pool, mapped, graph):
    obj = build(graph, pool, mapped[0])
    # The worker gets a copy of the graph, and returns it.
    assert Comparison().same(executor.submit(identity, obj).result(), expected(obj))


@pytest.fixture
def executor(pool):
    with oc.Executor(1, pool, multiprocessing.get_context("fork")) as executor:
        yield executor


@pytest.fixture
def through(pool):
    queue = pool.queue()

    def send(obj):
        queue.put(obj)
        return queue.get()

    return send


def test_cycles(through):
    items = [1]
    items.append(items)
    got = through(items)
    assert got[1] is got
    table = {"self": None, "tuple": (items, [])}
    table["self"] = table
    items.append(table)
    got = through((table, items))
    assert got[0]["self"] is got[0]
    assert got[0]["tuple"][0] is got[1]
    round_trip = ([],)
    round_trip[0].append(round_trip)
    got = through(round_trip)
    assert type(got) is tuple
    assert got[0][0] is got


def test_arrays_are_met_again(through, pool):
    own, small, there = np.zeros(5000), np.zeros(3), pool.zeros(3)
    got = through([own, small, there, {"own": own, "small": small, "there": there}])
    assert got[0] is got[3]["own"]
    assert got[1] is got[3]["small"]
    assert got[2] is got[3]["there"]


def test_between_pickle_and_the_rest(through):
    both, own, other = [1], Own(None), Own([2])
    own.inside = both
    got = through({"list": both, "own": own, "other": other, "again": other})
    assert got["own"].inside is got["list"]
    assert got["again"] is got["other"]
    circle = Stateful()
    circle.inside = [circle]
    got = through([circle, circle.inside])
    assert got[0].inside is got[1]
    assert got[1][0] is got[0]


def test_the_number_of_references_of_arguments_is_not_changed(pool):
    queue = pool.queue()
    obj = {"list": [1], "array": pool.zeros(5), "own": Own(None), "big": np.zeros(5000), "set": {1}}
    before = [sys.getrefcount(part) for part in (obj, *obj.values())]
    for _ in range(100):
        queue.put(obj)
        queue.get()
    assert [sys.getrefcount(part) for part in (obj, *obj.values())] == before


@pytest.mark.parametrize("levels", [99, 100, 101, 300, 5000])
@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {1: x}])
def test_depth(through, levels, wrap):
    obj = wrap(1)
    for _ in range(levels - 1):
        obj = wrap(obj)
    try:
        pickle.dumps(obj)
    except RecursionError:
        with pytest.raises(RecursionError):
            through(obj)
        return
    got = through(obj)
    count = 0
    while got != 1 if isinstance(got, int) else True:
        got = got[1] if isinstance(got, dict) else got[0]
        count += 1
    assert count == levels


def test_keys_whose_hash_would_take_for_ever_to_look_at(through):
    key = ("a",)
    for _ in range(20):  # a million when it is written out
        key = (key, key)
    table = {key: 1, "key": key}
    got = through([table, {key: 2}])
    (first, _), (second,) = got[0], got[1]
    assert first is second is got[0]["key"]


def test_order_of_keys_and_values_that_are_equal(through):
    table = {"b": 1, "a": True, 2: 2.0, "c": 1.0, 3.5: None}
    got = through(table)
    assert list(got) == list(table)
    assert list(map(type, got)) == list(map(type, table))
    assert list(map(type, got.values())) == list(map(type, table.values()))


@pytest.mark.parametrize("number", [0, 127, 128, -128, -129, 2**31 - 1, 2**31, -(2**31) - 1, 2**63])
@pytest.mark.parametrize("sign", [1, -1])
def test_numbers(through, number, sign):
    numbers = [sign * number + step for step in (-1, 0, 1)] + [number << 5000]
    assert through(numbers) == numbers


def test_text_of_every_width(through):
    texts = [c * n for c in ("a", "ä", "€", "😀", "\ud800", "\0") for n in (0, 1, 31, 33, 300)]
    got = through(texts)
    assert got == texts
    assert through(dict.fromkeys(texts, 1)) == dict.fromkeys(texts, 1)


def test_text_that_is_long_is_sent_once(pool):
    text, data = "x" * 100_000, b"y" * 100_000
    reference = pool.put([text, data] * 100)
    assert reference.nbytes < 300_000
    got = reference.get()
    assert got == [text, data] * 100
    assert got[0] is got[2]


class Broken:
    """One that cannot be sent."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


def test_an_error_in_the_middle_leaves_nothing(pool):
    queue = pool.queue()
    arrays = [np.zeros(5000), pool.zeros(5)]
    blocks = pool.stats().blocks
    for error in (ValueError("no"), KeyboardInterrupt(), MemoryError()):
        with pytest.raises(type(error)):
            queue.put({"arrays": arrays, "broken": Broken(error)})
    assert pool.stats().blocks == blocks
    assert arrays[1].flags.writeable
    assert queue.empty()


class Spoiler:
    """One that changes what it is sent with, while it is pickled."""

    def __init__(self, target: list[Any]) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        self.target.clear()
        self.target.append("changed")
        gc.collect()
        return int, (5,)


def test_what_is_changed_while_it_is_pickled_is_sent_as_it_was(through):
    target: list[Any] = [[1], np.zeros(3), np.zeros(5000), "text" * 20]
    got = through({"spoiler": Spoiler(target), "target": target, "after": [target]})
    assert got["spoiler"] == 5
    assert got["target"] is got["after"][0]
    assert got["target"][0] == [1]
    assert len(got["target"]) == 4


def test_another_thread_changes_what_is_sent(pool):
    """Each message is whole: what it was at some time between two steps of the other thread."""
    queue = pool.queue()
    table: dict[str, Any] = {}
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            number += 1
            table["pair"] = (number, [number] * 50)
            table.pop(number % 7, None)
            table[number % 5] = {"number": number, "set": {number, number + 1}}

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            queue.put(table)
            got = queue.get()
            number, items = got.pop("pair", (0, []))
            assert items in ([], [number] * 50)
            for item in got.values():
                assert item["set"] == {item["number"], item["number"] + 1}
    finally:
        done.set()
        thread.join()


def test_a_pool_that_others_may_write_passes_what_runs_no_code():
    with oc.Pool.create("camera", size="16MiB", mode=0o666) as pool:
        plain = {
            "list": [1, (2.5, None), {3}, frozenset([4])],
            "bytes": (b"b", bytearray(b"a")),
            "scalars": [np.float32(2), np.datetime64("2020-01-01")],
        }
        assert pool.put(plain).get() == plain
        got = pool.put({"array": pool.array([1, 2]), "own": np.arange(5000), "small": np.zeros(2)})
        assert got.get()["own"][-1] == 4999
        for obj in ([Own(1)], {"a": int}, [range(3)], [Record(5)], [Pair(1)], [Colour.RED]):
            with pytest.raises(oc.Untrusted):
                pool.put(obj).get()
