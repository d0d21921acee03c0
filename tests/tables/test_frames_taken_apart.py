"""Frames that travel without pickle: they are as pickle makes them, in every detail."""

import pickle

import numpy as np
import pandas as pd
import pytest
import samples

import onecopy as oc
from onecopy import _native
from onecopy._codec import built, pickler
from onecopy._core import membership

N = 1000


@pytest.fixture
def by_pickle(monkeypatch):
    """Count what is pickled."""
    pickled = []

    def encode(obj, *arguments):
        pickled.append(obj)
        return pickler.encode(obj, *arguments)

    _native.set_hooks(encode, pickler.raise_missing, membership.handle_of)
    yield pickled
    _native.set_hooks(pickler.encode, pickler.raise_missing, membership.handle_of)


def ordinary():
    return pd.DataFrame({"a": np.arange(N), "b": np.arange(N) / 2, "c": np.arange(N) % 7})


def many_blocks():
    frame = ordinary()
    for i in range(5):
        frame.insert(i, f"new {i}", np.arange(N, dtype="i2") + i)
    return frame


def flagged():
    frame = ordinary().set_flags(allows_duplicate_labels=False)
    frame.attrs["source"] = {"file": "x.csv", "scale": [2]}
    return frame


FRAMES = {
    "ordinary": ordinary,
    "small": lambda: ordinary()[:3],
    "empty": pd.DataFrame,
    "no rows": lambda: ordinary()[:0],
    "no columns": lambda: ordinary()[[]],
    "floats": lambda: pd.DataFrame(np.zeros((N, 3))),
    "names twice": lambda: pd.DataFrame(np.zeros((N, 3)), columns=["a", "b", "a"]),
    "steps": lambda: ordinary().iloc[5::3],
    "reversed": lambda: ordinary().iloc[::-1, ::-1],
    "rows picked": lambda: ordinary().take([5, 3, 8]),
    "index of numbers": lambda: ordinary().set_index("a"),
    "index of floats": lambda: ordinary().set_index("b"),
    "index of bools": lambda: ordinary()[:2].set_axis([True, False]),
    "index of text": lambda: ordinary()[:4].set_axis(list("wxyz")),
    "index of much text": lambda: ordinary().set_axis([f"row {i}" for i in range(N)]),
    "index of missing text": lambda: ordinary()[:3].set_axis(pd.Index(["a", None, "c"])),
    "index of objects": lambda: ordinary()[:3].set_axis(pd.Index([1, "a", (2,)], dtype=object)),
    "columns as objects": lambda: ordinary().set_axis(pd.Index(list("abc"), dtype=object), axis=1),
    "columns of numbers": lambda: ordinary().set_axis([7, 8, 9], axis=1),
    "named": lambda: ordinary().rename_axis(index="rows", columns="names"),
    "dates": lambda: ordinary().set_index(pd.date_range("2024", periods=N, freq="h")),
    "times": lambda: ordinary().assign(
        t=pd.date_range("2024", periods=N, unit="s"), d=pd.to_timedelta(np.arange(N), unit="s")
    ),
    "times with a zone": lambda: ordinary().assign(
        t=pd.date_range("2024", periods=N, tz="Europe/Paris")
    ),
    "text": lambda: ordinary().assign(t=[f"text {i}" for i in range(N)]),
    "objects": lambda: ordinary()[:3].assign(o=[{1: 2}, "a", None]),
    "categories": lambda: ordinary().assign(c=pd.Categorical(["x", "y"] * (N // 2))),
    "masked": lambda: ordinary().astype({"a": "Int64"}),
    "levels": lambda: ordinary().set_index(["a", "c"]),
    "column levels": lambda: pd.concat({"one": ordinary(), "two": ordinary()}, axis=1),
    "many blocks": many_blocks,
    "flagged": flagged,
    "transposed": lambda: pd.DataFrame(np.zeros((3, N))).T,
    "big-endian": lambda: pd.DataFrame(np.arange(2 * N, dtype=">i4").reshape(N, 2)),
    "complex": lambda: pd.DataFrame({"z": np.zeros(N, complex), "b": np.ones(N, bool)}),
}
every_frame = pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES.keys())


def details(frame):
    """Give what must be equal beyond the values."""
    manager = frame._mgr
    return (
        [(type(axis), axis.dtype, axis.name, axis.inferred_type) for axis in frame.axes],
        [type(axis._data) for axis in frame.axes if hasattr(axis, "_data")],
        [type(axis.columns) for axis in (frame,)],
        [
            (type(block), type(block.values), str(block.dtype), block.values.shape)
            for block in manager.blocks
        ],
        [block.mgr_locs.as_array.tolist() for block in manager.blocks],
        [getattr(axis, "freq", None) for axis in frame.axes],
        frame.flags.allows_duplicate_labels,
        list(frame.attrs),
    )


@every_frame
def test_a_frame_is_as_pickle_makes_it(pool, make):
    frame = make()
    wanted = pickle.loads(pickle.dumps(frame, 5))
    queue = pool.queue()
    queue.put_many([frame, {"inside": [frame]}])
    for got in (queue.get(), queue.get()["inside"][0], pool.put(frame).get()):
        samples.assert_same(got, frame)
        pd.testing.assert_frame_equal(got, wanted, check_flags=True)
        assert details(got) == details(wanted)
        assert got.copy().equals(wanted)
        if got.columns.nlevels == 1:
            assert len(got.assign(new=1).columns) == len(got.columns) + 1


def test_ordinary_frames_are_not_pickled(pool, by_pickle):
    for name in ("ordinary", "floats", "named", "flagged", "times", "index of text", "many blocks"):
        frame = FRAMES[name]()
        samples.assert_same(pool.put([frame]).get()[0], frame)
    assert by_pickle == []


def test_frames_that_share_an_index_share_it_afterwards(pool):
    one = ordinary().set_index("b")
    two, three = one[["a"]], ordinary()
    three.index = one.index
    sent = {"one": one, "two": two, "three": three, "again": one, "index": one.index}
    wanted = pickle.loads(pickle.dumps(sent, 5))
    got = pool.put(sent).get()
    assert got["one"] is got["again"]
    assert got["index"] is got["one"].index
    for name in ("two", "three"):
        assert (got[name].index is got["index"]) == (wanted[name].index is wanted["index"])


def test_an_index_alone(pool, by_pickle):
    for index in (pd.RangeIndex(5, 50, 3, name="r"), pd.Index([1, 2]), pd.Index(["a"], name=1)):
        for got in (pool.put(index).get(), pool.put([index]).get()[0]):
            assert got.identical(index)
            assert type(got) is type(index)
    assert by_pickle == []


def test_a_frame_and_a_series_of_it(pool):
    frame = ordinary()
    got = pool.put({"series": frame["a"], "frame": frame, "index": frame.index}).get()
    pd.testing.assert_series_equal(got["series"], frame["a"])
    pd.testing.assert_frame_equal(got["frame"], frame)


def test_a_frame_in_its_own_attributes(pool):
    frame = ordinary()
    frame.attrs["self"] = frame
    wanted = pickle.loads(pickle.dumps(frame, 5))
    got = pool.put(frame).get()
    assert got.shape == (N, 3)
    assert (got.attrs["self"] is got) == (wanted.attrs["self"] is wanted)


def test_frames_in_attributes_of_frames(pool):
    frame = ordinary()[:3]
    for _ in range(70):  # more than are taken apart
        outer = ordinary()[:2]
        outer.attrs["inside"] = frame
        frame = outer
    try:
        pickle.dumps(frame, 5)
    except RecursionError:
        pytest.skip("pickle cannot do this")
    got = pool.put(frame).get()
    for _ in range(70):
        got = got.attrs["inside"]
    assert len(got) == 3


def test_a_program_that_says_how_frames_are_pickled(pool, monkeypatch):
    assert len(pool.put(ordinary()).get()) == N
    monkeypatch.setattr(pd.DataFrame, "__reduce__", lambda _: (str, ("mine",)))
    monkeypatch.setattr(pd.DataFrame, "__reduce_ex__", lambda self, _: self.__reduce__())
    assert pool.put([ordinary()]).get() == ["mine"]
    monkeypatch.undo()
    assert len(pool.put(ordinary()).get()) == N


def test_subclasses_are_pickled(pool):
    got = pool.put([Derived({"a": [1, 2]})]).get()[0]
    assert type(got) is Derived


class Derived(pd.DataFrame):
    """A class of a program."""


def test_arrays_of_a_frame_in_the_pool_are_not_copied(pool):
    got = pool.put(ordinary()).get()
    used = pool.stats().used
    again = pool.put({"frame": got})
    assert pool.stats().used - used < 4096
    assert len(again.get()["frame"]) == N


def test_a_pool_that_others_may_write():
    with oc.Pool.create("camera", size="16MiB", mode=0o666) as pool, pytest.raises(oc.Untrusted):
        pool.put([ordinary()]).get()


@pytest.mark.parametrize(
    ("number", "arguments"),
    [
        (1, (((np.zeros((1, 3)), (5, 6, 1)),), pd.Index(["a"]), pd.RangeIndex(3), None, True)),
        (1, (((np.zeros((1, 3)), (-1, 1, 1)),), pd.Index(["a"]), pd.RangeIndex(3), None, True)),
        (1, (((np.zeros((1, 3)), np.array([7])),), pd.Index(["a"]), pd.RangeIndex(3), None, True)),
        (1, (((np.zeros((1, 4)), (0, 1, 1)),), pd.Index(["a"]), pd.RangeIndex(3), None, True)),
        (1, (((np.zeros(3), (0, 1, 1)),), pd.Index(["a"]), pd.RangeIndex(3), None, True)),
        (1, ((([1, 2, 3], (0, 1, 1)),), pd.Index(["a"]), pd.RangeIndex(3), None, True)),
        (1, (((np.zeros((1, 3)), "place"),), pd.Index(["a"]), pd.RangeIndex(3), None, True)),
        (1, (((np.zeros((1, 3)), (0, 1, 1)),), ["a"], [0, 1, 2], None, True)),
        (3, (np.zeros((2, 2)), None)),
        (3, ([1, 2], None)),
        (4, ([1, 2], 1, None)),
    ],
)
def test_arguments_that_do_not_fit_are_refused(number, arguments):
    with pytest.raises((ValueError, TypeError, AssertionError, AttributeError)):
        built.builder_of(number)(*arguments)


def test_there_is_no_builder_of_another_number():
    assert built.builder_of(0) is None
    assert built.builder_of(99) is None
