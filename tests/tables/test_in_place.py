"""What is written directly into the pool, and how much of a slice is sent."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seeds import more

import onecopy as oc
from onecopy._codec import pickler

pytestmark = pytest.mark.one_in(2)

N = 200_000
ROWS = 100
WORDS = [f"word number {i}" for i in range(N)]

SLICES = {
    "array": lambda: pa.array(np.arange(N))[7 : 7 + ROWS],
    "with nulls": lambda: pa.array([None, *range(1, N)])[7 : 7 + ROWS],
    "words": lambda: pa.array(WORDS)[7 : 7 + ROWS],
    "views": lambda: pa.array(WORDS, pa.string_view())[7 : 7 + ROWS],
    "binary views": lambda: pa.array([w.encode() for w in WORDS], pa.binary_view())[7 : 7 + ROWS],
    "bits": lambda: pa.array(np.arange(N) % 3 == 0)[7 : 7 + ROWS],
    "lists": lambda: pa.array([[i, i] for i in range(N)])[7 : 7 + ROWS],
    "structs": lambda: pa.array([{"x": i, "y": "z"} for i in range(N)])[7 : 7 + ROWS],
    "uuids": lambda: pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([bytes(16)] * N, pa.binary(16))
    )[7 : 7 + ROWS],
    "table": lambda: pa.table({"a": np.arange(N), "s": WORDS}).slice(7, ROWS),
    "batch": lambda: pa.record_batch({"a": np.arange(N), "s": WORDS}).slice(7, ROWS),
    "pandas": lambda: pd.DataFrame({"a": np.arange(N), "s": WORDS, "t": np.arange(N) / 2}).iloc[
        7 : 7 + ROWS
    ],
    "polars": lambda: pl.DataFrame({"a": np.arange(N), "s": WORDS}).slice(7, ROWS),
    "polars filter": lambda: pl.DataFrame({"a": np.arange(N), "s": WORDS}).filter(
        pl.col("a") % 2000 == 0
    ),
    "arrow, every type": lambda: samples.table_of_arrow().slice(7, ROWS),
    "polars, every type": lambda: samples.frame_of_polars().slice(7, ROWS),
    "numpy": lambda: np.arange(N).reshape(-1, 2)[:ROWS, 1],
    "masked": lambda: np.ma.masked_greater(np.arange(N), 5)[7 : 7 + ROWS],
}


@pytest.mark.parametrize("name", SLICES)
def test_a_slice_sends_what_belongs_to_it(pool, name):
    part = SLICES[name]()
    ref = pool.put([part])
    assert pool.stats().used < 40_000
    samples.assert_same(ref.get()[0], part)
    data, buffers, _ = pickler.encode(part)
    assert len(data) + sum(memoryview(buffer).nbytes for buffer in buffers) < 40_000
    samples.assert_same(pickler.decode(data, buffers), part)
    samples.assert_same(oc.writable_copy(part), part)


def test_a_slice_of_what_lies_in_the_pool_is_a_place_in_it(pool):
    table = pool.put(pa.table({"a": np.arange(N), "s": WORDS})).get()
    frame = pool.put(pd.DataFrame({"a": np.arange(N), "s": WORDS})).get()
    used = pool.stats().used
    for whole, part in ((table, table.slice(N // 2, ROWS)), (frame, frame.iloc[N // 2 :][:ROWS])):
        got = pool.put(part).get()
        samples.assert_same(got, part)
        assert pool.stats().used - used < 4000
        column = whole["a"].to_numpy()
        assert got["a"].to_numpy().ctypes.data == column[N // 2 :].ctypes.data
        del got
    # Another pool has nothing of it: in that pool it is a copy, of the slice only.
    with oc.Pool.create(size="16MiB") as other:
        got = other.put([table.slice(9, ROWS), frame.iloc[9 : 9 + ROWS]]).get()
        assert other.stats().used < 40_000
        samples.assert_same(got[0], table.slice(9, ROWS))
        samples.assert_same(got[1], frame.iloc[9 : 9 + ROWS])
        del got


ROWS_OF_FRAMES = {
    "some": lambda frame: frame.iloc[N // 2 :][:ROWS],
    "every other": lambda frame: frame.iloc[1::2],
    "backwards": lambda frame: frame.iloc[::-1],
    "of a series": lambda frame: frame["a"].iloc[::-3],
}


@pytest.mark.parametrize("name", ROWS_OF_FRAMES)
@pytest.mark.parametrize("wide", [False, True])
def test_rows_of_a_frame_are_places_in_its_blocks(pool, name, wide):
    """pandas 3 would collect each block with more than one column in private memory first."""
    days = pd.date_range("2024", periods=N, freq="s")
    numbers = np.arange(N)
    frame = (
        pd.DataFrame(np.arange(3 * N).reshape(N, 3), columns=["a", "b", "c"])
        if wide
        else pd.DataFrame({"a": numbers, "b": -numbers, "t": days, "u": days, "x": numbers / 2})
    )
    whole = pool.put(frame).get()
    used = pool.stats().used
    part = ROWS_OF_FRAMES[name](whole)
    got = pool.put(part).get()
    assert pool.stats().used - used < 8000
    expected = ROWS_OF_FRAMES[name](frame)
    assert_same = (
        pd.testing.assert_series_equal
        if isinstance(got, pd.Series)
        else pd.testing.assert_frame_equal
    )
    assert_same(got, expected)
    first = got if isinstance(got, pd.Series) else got["a"]
    sent = part if isinstance(part, pd.Series) else part["a"]
    assert first.to_numpy().ctypes.data == sent.to_numpy().ctypes.data
    assert_same(oc.writable_copy(got), expected)
    # It can be used like any frame.
    assert_same(got + got if wide else got, expected + expected if wide else expected)
    assert_same(pool.put(got).get(), expected)


def test_rows_of_a_frame_in_ordinary_memory_are_gathered_in_the_pool(pool):
    import tracemalloc

    part = pd.DataFrame({"a": np.arange(N), "b": np.arange(N), "c": np.arange(N)}).iloc[5:-5]
    size = part.to_numpy().nbytes
    pool.put(part)
    tracemalloc.start()
    try:
        ref = pool.put(part)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 10
    assert size <= pool.stats().used < 1.1 * size
    pd.testing.assert_frame_equal(ref.get(), part)


def test_a_pandas_that_has_other_blocks_pickles_them_itself(pool, monkeypatch):
    from pandas._libs import internals

    from onecopy.tables import pandas_columns

    monkeypatch.delattr(internals, "_unpickle_block")
    assert [kind for kind, _ in pandas_columns.types_of("pandas")] == [
        pd.arrays.ArrowExtensionArray
    ]


def test_an_array_that_arrow_has_wrapped_is_found_in_the_pool(pool):
    array = pool.array(np.arange(N))
    used = pool.stats().used
    table = pa.table({"a": array})
    got = pool.put(table).get()
    assert pool.stats().used - used < 4000
    assert got["a"].to_numpy().ctypes.data == array.ctypes.data


@pytest.mark.parametrize("inside", [False, True])
def test_parts_of_maps_with_sorted_keys_come_as_pickle_has_them(pool, inside):
    """An IPC stream keeps that the keys are sorted; pyarrow's pickle around it does not."""
    maps = pa.array([[("k", i)] for i in range(6000)], pa.map_(pa.string(), pa.int64(), True))
    if inside:
        maps = pa.StructArray.from_arrays([maps], ["m"])
    whole = pa.chunked_array([maps])
    for obj in (maps, maps[7:5000], whole.slice(7, 5000), pa.table({"m": whole}).slice(7, 5000)):
        got = pool.put(obj).get()
        samples.assert_same(got, pickle.loads(pickle.dumps(obj)))
        assert got.to_pylist() == obj.to_pylist()


def test_scattered_arrays_are_gathered_in_the_pool(pool):
    import tracemalloc

    array = np.zeros((1000, 2000), "f8")[:, ::2]
    tracemalloc.start()
    try:
        ref = pool.put({"x": array})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000 < array.nbytes <= pool.stats().used
    np.testing.assert_array_equal(ref.get()["x"], array)


def test_arrow_writes_slices_into_the_pool_without_a_copy_between(pool):
    part = pa.array(np.arange(2 * N))[N // 2 : -N // 2]
    before = pa.total_allocated_bytes()
    pool_of_arrow = pa.default_memory_pool()
    highest = pool_of_arrow.max_memory()
    ref = pool.put(part)
    assert pa.total_allocated_bytes() - before < part.nbytes / 2
    assert pool_of_arrow.max_memory() - highest < part.nbytes / 2
    assert ref.get().equals(part)


def test_what_is_written_in_place_is_private_for_who_takes_it_alone(pool):
    scattered, part = np.arange(20_000)[::2], pa.array(np.arange(N))[7 : 7 + ROWS]
    got = pool.put([scattered, part])._take()
    assert pool.stats().used == 0
    assert got[0].flags.writeable
    np.testing.assert_array_equal(got[0], scattered)
    assert got[1].equals(part)


def test_no_room_for_what_is_to_be_written(pool):
    queue = pool.queue()
    array = np.zeros((4000, 6000), "f8")[:, ::2]
    used = pool.stats().used
    for send in (pool.put, queue.put):
        with pytest.raises(oc.PoolFull):
            send({"x": array})
    assert pool.stats().used == used


class Written:
    """An object with a buffer that a function writes."""

    def __init__(self, write):
        self.write = write


@pytest.fixture
def written(monkeypatch):
    """Send `Written` as what its function writes: 5000 bytes."""
    from onecopy._codec.registry import registry

    def reduce(obj, packing):
        return bytes, (packing.later(5000, obj.write),)

    monkeypatch.setattr(registry, "_reducers", ((Written, reduce), *registry._reducers))
    monkeypatch.setattr(registry, "kinds", (Written, *registry.kinds))


@pytest.mark.usefixtures("written")
def test_what_fails_while_it_is_written_is_not_sent(pool):
    def fail(memory):
        memoryview(memory)[:] = b"x" * 5000
        raise RuntimeError("in the middle")

    queue = pool.queue()
    for obj in (Written(fail), [np.zeros(10_000), Written(fail)]):
        for send in (pool.put, queue.put):
            with pytest.raises(RuntimeError, match="in the middle"):
                send(obj)
    assert queue.empty()
    assert pool.stats().used == 0
    assert pool.validate() == []


@pytest.mark.usefixtures("written")
def test_writers_see_writable_memory_and_may_use_the_pool(pool):
    queue, kept = pool.queue(), []

    def write(memory):
        view = memoryview(memory)
        assert (view.nbytes, view.readonly) == (5000, False)
        view[:] = b"y" * 5000
        queue.put("from inside")
        kept.append(memory)

    objects = [Written(write), np.zeros(10_000), Written(write), Written(write)]
    got = pool.put(objects).get()
    assert [part for part in got if type(part) is bytes] == [b"y" * 5000] * 3
    assert queue.get_many(9) == ["from inside"] * 3
    del got
    # An object that keeps the memory against the rule keeps the block: read-only, not reused.
    assert memoryview(kept[0]).readonly
    assert bytes(kept[0]) == b"y" * 5000
    assert pool.stats().used > 0
    kept.clear()
    assert pool.stats().used == 0


parts = st.lists(
    st.tuples(
        st.sampled_from(["whole", "scattered", "small", "inside", "arrow"]), st.integers(1, 3000)
    ),
    max_size=6,
)


@settings(
    max_examples=more(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(parts)
def test_buffers_keep_their_order_whatever_they_are(pool, asked):
    made = {
        "whole": lambda n: np.arange(512 + n),
        "scattered": lambda n: np.arange(3 * (512 + n))[::-3],
        "small": lambda n: np.arange(n % 100),
        "inside": lambda n: pool.array(np.arange(512 + n))[1:],
        "arrow": lambda n: pa.array(np.arange(9000))[n : n + 10],
    }
    objects = [made[kind](n) for kind, n in asked]
    for got in (pool.put(objects).get(), oc.writable_copy(objects)):
        for one, other in zip(got, objects, strict=True):
            samples.assert_same(one, other)
    del got, objects
    one = other = None
    assert pool.stats().used == 0
