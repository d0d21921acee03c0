"""Writing to received tables: the error that each library raises, and what works anyway."""

import copy
import dataclasses
import warnings

import numpy as np
import pytest

import onecopy as oc

N = 6000
READ_ONLY = r"read-only"


def assign(target, index, value):
    target[index] = value


@dataclasses.dataclass
class Model:
    name: str
    weights: list


def test_numpy_says_read_only(pool):
    got = pool.put(np.arange(N)).get()
    for write in (
        lambda: assign(got, 0, 1),
        lambda: np.add(got, 1, out=got),
        lambda: got.__iadd__(1),
        got.sort,
        lambda: np.copyto(got, 0),
    ):
        with pytest.raises(ValueError, match=READ_ONLY):
            write()
    with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
        got.flags.writeable = True
    masked = pool.put(np.ma.masked_greater(np.arange(N), 5)).get()
    for value in (1, np.ma.masked):
        with pytest.raises(ValueError, match=READ_ONLY):
            masked[0] = value
    with pytest.raises(TypeError, match=READ_ONLY):
        pool.put(memoryview(bytes(N))).get()[0] = 1
    for obj in (got, masked):
        writable = oc.writable_copy(obj)
        writable[0] = 7
        assert writable[0] == 7
        assert obj[0] == 0


def test_pandas_says_read_only_for_what_it_writes_in_place(pool):
    pd = pytest.importorskip("pandas")
    ref = pool.put(pd.DataFrame({"a": np.arange(N), "b": np.arange(N) / 2}))
    frame = ref.get()
    for write in (
        lambda: assign(frame.iloc, (0, 0), 5),
        lambda: assign(frame.loc, (frame.b < 5, "b"), 7.0),
        lambda: assign(frame.at, (0, "a"), 7),
        lambda: assign(frame["b"].to_numpy(), 0, 7),
    ):
        with pytest.raises(ValueError, match=READ_ONLY):
            write()
    for series in (
        pd.Series(np.arange(N)),
        pd.Series(np.arange(N), dtype="Int64"),
        pd.Series(pd.Categorical(["a", "b"] * N)),
    ):
        got = pool.put(series).get()
        with pytest.raises(ValueError, match=READ_ONLY):
            got[0] = series[1]
        writable = oc.writable_copy(got)
        writable[0] = series[1]
        assert writable[0] == series[1]
        assert got[0] == series[0]


def test_pandas_has_its_own_words_for_times(pool):
    """It treats every error there as that of a value which does not fit the type."""
    pd = pytest.importorskip("pandas")
    words = r"read-only|Something has gone wrong|Incompatible \(high-resolution\) value"
    for times in (
        pd.Series(pd.date_range("2024", periods=N, freq="s")),
        pd.Series(pd.date_range("2024", periods=N, freq="s", tz="UTC")),
        pd.Series(pd.timedelta_range("1s", periods=N, freq="s")),
        pd.Series(pd.period_range("1900", periods=N, freq="D")),
        pd.Series(pd.interval_range(0, N)),
    ):
        got = pool.put(times).get()
        with pytest.raises((ValueError, AssertionError), match=words):
            got[0] = times[1]
        writable = oc.writable_copy(got)
        writable[0] = times[1]
        assert (writable[0], got[0]) == (times[1], times[0])


def test_pandas_replaces_columns_without_a_word(pool):
    """Complete columns, Arrow-backed ones and new rows are new memory, private to this process."""
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    words = pd.Series([str(i) for i in range(N)], dtype="string[pyarrow]")
    ref = pool.put(pd.DataFrame({"a": np.arange(N), "b": np.arange(N) / 2, "s": words}))
    original = ref.get().copy()
    frame = ref.get()
    frame["a"] = frame["a"] * 2
    frame["new"] = frame["b"] + 1
    frame.loc[0, "a"] = 5  # the frame owns the column by now
    frame.loc[0, "s"] = "other"
    frame.loc[len(frame)] = [1, 2.0, "x", 3.0]
    copied = ref.get().copy()
    copied.iloc[0, 0] = 9
    pd.testing.assert_frame_equal(ref.get(), original)
    assert (frame.loc[0, "a"], frame.loc[0, "s"], copied.iloc[0, 0]) == (5, "other", 9)


def test_polars_never_writes_to_memory_that_is_not_its_own(pool):
    pl = pytest.importorskip("polars")
    ref = pool.put(pl.DataFrame({"a": np.arange(N)}))
    frame = ref.get()
    frame[0, "a"] = 7
    series = ref.get()["a"]
    series.scatter(1, 8)
    assert (frame["a"][0], series[1]) == (7, 8)
    assert ref.get()["a"].to_list() == list(range(N))
    with pytest.raises(ValueError, match=READ_ONLY):
        ref.get()["a"].to_numpy()[0] = 1


def test_arrow_shows_numpy_read_only_memory(pool):
    pa = pytest.importorskip("pyarrow")
    got = pool.put(pa.array(np.arange(N))).get()
    with pytest.raises(ValueError, match=READ_ONLY):
        got.to_numpy()[0] = 1


def test_scipy_says_read_only(pool):
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.diags_array(np.arange(1.0, N)).tocsr()
    unsorted = matrix.copy()
    unsorted.has_sorted_indices = False
    got, other = pool.put(matrix).get(), pool.put(unsorted).get()
    for write in (
        lambda: assign(got, (0, 0), 7.0),
        lambda: assign(got.data, 0, 7.0),
        lambda: got.__imul__(2),
        other.sort_indices,
    ):
        with pytest.raises(ValueError, match=READ_ONLY):
            write()
    writable = oc.writable_copy(got)
    writable[0, 0] = 7.0
    assert (writable[0, 0], got[0, 0]) == (7.0, 1.0)


def test_a_writable_copy_of_what_has_arrays_inside(pool):
    weights = np.arange(N, dtype=">f4").reshape(60, 100)
    sent = {"m": Model("x", [weights, weights]), "t": (np.asfortranarray(weights), np.zeros(3))}
    got = pool.put(sent).get()
    mine = oc.writable_copy(got)
    del got
    assert pool.stats().used == 0
    first, second = mine["m"].weights
    assert first is second
    assert first.dtype == weights.dtype
    assert mine["t"][0].flags.f_contiguous
    for array in (first, *mine["t"]):
        array[0] = 5
        assert array.flags.writeable
    np.testing.assert_array_equal(first[1:], weights[1:])


def test_a_writable_copy_of_what_lies_in_a_pool_for_its_own_sake(pool):
    inside, shared = pool.array(np.arange(N)), pool.shared_array(N)
    mine = oc.writable_copy([inside[::100], shared, shared[1:]])
    assert [type(array) for array in mine] == [np.ndarray] * 3
    assert inside.flags.writeable  # it was not sent
    mine[0][0], mine[1][0] = 9, 9
    assert (inside[0], shared[0]) == (0, 0)
    queue = pool.queue()
    assert oc.writable_copy({"queue": queue})["queue"].handle == queue.handle


@pytest.mark.parametrize(
    "view",
    [
        memoryview(bytes(N)),
        memoryview(np.arange(12.0).reshape(3, 4)),
        memoryview(b""),
        memoryview(np.zeros(0)),
    ],
    ids=lambda view: f"{view.format}{view.shape}",
)
def test_a_writable_copy_of_a_memoryview(view):
    copied = oc.writable_copy(view)
    assert (copied.format, copied.shape, copied.readonly) == (view.format, view.shape, False)
    assert copied == view


@pytest.mark.parametrize("dtype", [">d", "<u2", [("a", ">i4"), ("b", "f8", (2,))]], ids=str)
def test_a_writable_copy_of_a_memoryview_of_other_numbers(dtype):
    array = np.zeros((5, 4), dtype)
    array.view(np.uint8)[...] = 3
    for given in (array, array[::2, 1:]):
        view = memoryview(given)
        copied = oc.writable_copy(view)
        assert (copied.format, copied.shape, copied.readonly) == (view.format, view.shape, False)
        np.testing.assert_array_equal(np.asarray(copied), given)
        np.asarray(copied)[...] = 0
        assert array.tobytes() == b"\3" * array.nbytes


def test_a_writable_copy_of_a_memoryview_of_what_numpy_does_not_know():
    import ctypes

    view = memoryview((ctypes.c_void_p * 3)(1, 2, 3))
    with pytest.raises(TypeError, match=r"a memoryview of format .*, use bytearray"):
        oc.writable_copy(view)


def test_copy_and_deepcopy_give_private_memory_where_their_library_does(pool):
    got = pool.put([np.arange(N), np.ma.masked_greater(np.arange(N), 5)]).get()
    for array in copy.deepcopy(got):
        array[0] = 3
        assert array[0] == 3


def test_what_a_sender_has_sent_is_read_only_whatever_it_looks_like(pool):
    base = pool.zeros(N, [("a", "i4"), ("b", "i4")])
    records, masked = base.view(np.recarray), np.ma.MaskedArray(pool.zeros(N))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ref = pool.put([records, masked])
    for array in (base, records, masked, masked.data):
        assert not array.flags.writeable
    assert type(ref.get()[0]) is np.recarray
