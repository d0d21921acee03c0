"""Objects of every kind of other libraries, and where their memory lies."""

from __future__ import annotations

import dataclasses
import decimal
import uuid
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from scipy import sparse

N = 6000  # one byte for each is also more than what stays in the pickle
WORDS = [f"word number {i}" for i in range(N)]
NUMBERS = np.arange(N)
TIMES = pd.date_range("2024-03-30", periods=N, freq="min")
LETTERS = np.array(list("abc"))[NUMBERS % 3]


@dataclasses.dataclass
class Sample:
    """An object; whether all of it stays in the pool, also when it is put again."""

    name: str
    make: Any
    stays: bool = True

    def __repr__(self):
        return self.name


def flagged():
    frame = pd.DataFrame({"a": NUMBERS}).set_flags(allows_duplicate_labels=False)
    frame.attrs["source"] = {"file": "x.csv", "scale": 2}
    return frame


def spread(kind):
    rows = sparse.random_array((300, 400), density=0.1, format="coo", rng=np.random.default_rng(1))
    return kind(rows)


def table_of_arrow():
    schema = pa.schema(
        [
            pa.field("a", pa.int64(), nullable=False, metadata={"unit": "m"}),
            pa.field("s", pa.string()),
            pa.field("v", pa.string_view()),
            pa.field("d", pa.dictionary(pa.int32(), pa.string())),
            pa.field("l", pa.list_(pa.int32())),
            pa.field("st", pa.struct([("x", pa.float64()), ("y", pa.string())])),
            pa.field("dec", pa.decimal128(20, 3)),
            pa.field("t", pa.timestamp("us", "Europe/Paris")),
            pa.field("n", pa.null()),
            pa.field("b", pa.bool_()),
            pa.field("m", pa.map_(pa.string(), pa.int8())),
        ],
        metadata={"made": "by hand"},
    )
    return pa.table(
        {
            "a": NUMBERS,
            "s": WORDS,
            "v": WORDS,
            "d": pa.array(LETTERS).dictionary_encode(),
            "l": [[i, None] for i in range(N)],
            "st": [{"x": i / 2, "y": str(i)} for i in range(N)],
            "dec": [decimal.Decimal(i) for i in range(N)],
            "t": pa.array(TIMES.asi8 // 1000, pa.timestamp("us", "Europe/Paris")),
            "n": pa.nulls(N),
            "b": [None if i % 7 == 0 else i % 2 == 0 for i in range(N)],
            "m": [[("k", 1)]] * N,
        },
        schema=schema,
    )


def frame_of_polars():
    return pl.DataFrame(
        {
            "a": NUMBERS,
            "s": WORDS,
            "f": NUMBERS / 3,
            "d": pl.Series(NUMBERS).cast(pl.Decimal(20, 2)),
            "t": pl.Series(TIMES.to_numpy()).dt.replace_time_zone(
                "Europe/Paris", ambiguous="earliest", non_existent="null"
            ),
            "l": [[i, None] for i in range(N)],
            "st": [{"x": i, "y": str(i)} for i in range(N)],
            "n": [None] * N,
        }
    )


def frame_of_categories():
    letters = LETTERS.tolist()
    return pl.DataFrame(
        {
            "c": pl.Series(letters, dtype=pl.Categorical),
            "e": pl.Series(letters, dtype=pl.Enum(["c", "b", "a"])),
        }
    )


def index_of(*levels):
    return pd.MultiIndex.from_arrays(levels, names=[f"level {i}" for i in range(len(levels))])


STRUCTURE = np.dtype(
    {"names": ["a", "b", "c"], "formats": ["i2", ("f8", (2,)), [("x", "i1"), ("y", "M8[s]")]],
     "titles": ["first", None, None]},
    align=True,
)  # fmt: skip


def structures():
    array = np.zeros(N, STRUCTURE)
    array["a"], array["b"] = NUMBERS, NUMBERS[:, None]
    return array


FRAMES = [
    Sample(
        "numeric", lambda: pd.DataFrame({"a": NUMBERS, "b": NUMBERS / 2, "c": NUMBERS % 2 == 0})
    ),
    Sample("fortran", lambda: pd.DataFrame(np.arange(4 * N).reshape(N, 4))),
    Sample(
        "many rows",
        lambda: pd.DataFrame({"a": NUMBERS, "b": NUMBERS, "c": TIMES, "d": TIMES})[9:-9],
    ),
    Sample("rows", lambda: pd.DataFrame(np.arange(8 * N).reshape(2 * N, 4)).iloc[::2]),
    Sample("names twice", lambda: pd.DataFrame(np.arange(2 * N).reshape(N, 2), columns=["a", "a"])),
    Sample("str", lambda: pd.DataFrame({"s": pd.Series([*WORDS[:-1], None], dtype="str")})),
    Sample("str[pyarrow]", lambda: pd.DataFrame({"s": pd.Series(WORDS, dtype="string[pyarrow]")})),
    Sample(
        "str chunks", lambda: pd.concat([pd.DataFrame({"s": WORDS}), pd.DataFrame({"s": WORDS})])
    ),
    Sample(
        "str[python]", lambda: pd.DataFrame({"s": pd.array(WORDS, pd.StringDtype("python"))}), False
    ),
    Sample(
        "object", lambda: pd.DataFrame({"s": pd.Series([*WORDS[:-1], None], dtype=object)}), False
    ),
    Sample(
        "objects",
        lambda: pd.DataFrame({"s": pd.Series([{1: 2}, "a", 3.5] * N, dtype=object)}),
        False,
    ),
    Sample("categorical", lambda: pd.DataFrame({"c": pd.Categorical(LETTERS, ordered=True)})),
    Sample("categories", lambda: pd.DataFrame({"c": pd.Categorical(WORDS)})),
    Sample(
        "zone",
        lambda: pd.DataFrame(
            {"t": TIMES.tz_localize("Europe/Paris", ambiguous=True, nonexistent="NaT")}
        ),
    ),
    Sample("times", lambda: pd.DataFrame({"t": TIMES}, index=TIMES.tz_localize("UTC"))),
    Sample("timedelta", lambda: pd.DataFrame({"t": TIMES - TIMES[0]})),
    Sample("period", lambda: pd.DataFrame({"p": pd.period_range("1900", periods=N, freq="D")})),
    Sample("interval", lambda: pd.DataFrame({"i": pd.interval_range(0, N)})),
    Sample(
        "masked",
        lambda: pd.DataFrame(
            {
                "i": pd.array([None, *NUMBERS[1:].tolist()], dtype="Int64"),
                "b": pd.array(NUMBERS % 2 == 0, dtype="boolean"),
            }
        ),
    ),
    Sample(
        "arrow",
        lambda: pd.DataFrame(
            {
                "i": pd.array(NUMBERS, dtype="int64[pyarrow]"),
                "l": pd.array([[1, 2]] * N, dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
            }
        ),
    ),
    Sample("sparse", lambda: pd.DataFrame({"s": pd.arrays.SparseArray(NUMBERS % 3 * 1.0)})),
    Sample("rows by two", lambda: pd.DataFrame({"a": NUMBERS}, index=index_of(NUMBERS, LETTERS))),
    Sample(
        "rows by words", lambda: pd.DataFrame({"a": NUMBERS}, index=index_of(WORDS, NUMBERS // 9))
    ),
    Sample("attrs and flags", flagged),
    Sample("empty", pd.DataFrame),
    Sample("no rows", lambda: pd.DataFrame({"a": NUMBERS, "s": WORDS}).iloc[:0], False),
    Sample("no columns", lambda: pd.DataFrame(index=range(9))),
]
SERIES = [
    Sample("series", lambda: pd.Series(NUMBERS / 2, name="half")),
    Sample("series of words", lambda: pd.Series(WORDS, index=NUMBERS[::-1].copy())),
]
INDEXES = [
    Sample("index", lambda: pd.Index(NUMBERS, name="n")),
    Sample("index of words", lambda: pd.Index(WORDS)),
    Sample("range", lambda: pd.RangeIndex(0, N, 2)),
    Sample("index of times", lambda: TIMES.tz_localize("UTC")),
    Sample("index of periods", lambda: pd.period_range("1900", periods=N, freq="D")),
    Sample("index of intervals", lambda: pd.interval_range(0, N)),
    Sample("index of categories", lambda: pd.CategoricalIndex(LETTERS)),
    Sample("index of three", lambda: index_of(NUMBERS, LETTERS, TIMES)),
]
ARROW = [
    Sample("table", table_of_arrow),
    Sample("batch", lambda: table_of_arrow().select(["a", "s", "d", "l"]).to_batches()[0]),
    Sample("chunked", lambda: pa.chunked_array([WORDS, WORDS[::-1]])),
    Sample("no chunks", lambda: pa.chunked_array([], pa.int8())),
    Sample("array", lambda: pa.array(NUMBERS)),
    Sample("buffer", lambda: pa.py_buffer(bytes(N))),
    Sample("large", lambda: pa.array(WORDS, pa.large_string())),
    Sample("views", lambda: pa.array([*WORDS[:-1], None], pa.string_view())),
    Sample(
        "runs", lambda: pa.RunEndEncodedArray.from_arrays(NUMBERS[1:].astype("i4"), NUMBERS[1:])
    ),
    Sample(
        "uuids",
        lambda: pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([uuid.UUID(int=i).bytes for i in range(N)], pa.binary(16))
        ),
    ),
]
POLARS = [
    Sample("polars frame", frame_of_polars),
    Sample(
        "polars chunks", lambda: pl.concat([frame_of_polars(), frame_of_polars()], rechunk=False)
    ),
    Sample("polars categories", frame_of_categories, False),
    Sample("polars series", lambda: pl.Series("x", WORDS)),
    Sample("polars series without a name", lambda: pl.Series(WORDS)),
    Sample("polars sorted series without a name", lambda: pl.Series(NUMBERS).set_sorted()),
    Sample("polars lengths", lambda: pl.Series(NUMBERS % 9).cast(pl.UInt8).sort(descending=True)),
    Sample(
        "polars names",
        lambda: pl.DataFrame(
            {
                "": NUMBERS,
                "column_0": WORDS,
                "^.*$": pl.Series(LETTERS.tolist(), dtype=pl.Enum(["a", "b", "c"])),
                "*": pl.Series(NUMBERS).set_sorted(),
                "0": NUMBERS / 2,
            }
        ),
        False,
    ),
    Sample("polars objects", lambda: pl.Series("x", [{1}] * N, dtype=pl.Object), False),
    Sample(
        "polars frame of objects",
        lambda: pl.DataFrame({"o": pl.Series([{1}] * N, dtype=pl.Object), "a": NUMBERS}),
        False,
    ),
    Sample(
        "polars frame of objects without a name",
        lambda: pl.DataFrame({"": pl.Series([{1}] * N, dtype=pl.Object), "column_0": NUMBERS}),
        False,
    ),
    Sample(
        "polars sorted",
        lambda: pl.DataFrame({"a": NUMBERS, "b": NUMBERS}).with_columns(
            pl.col("a").set_sorted(), pl.col("b").sort(descending=True)
        ),
    ),
    Sample("polars big integers", lambda: pl.Series("x", NUMBERS).cast(pl.Int128), False),
    Sample("polars nothing", pl.DataFrame, False),
    Sample("polars no rows", lambda: frame_of_polars().head(0), False),
]
SPARSE = [
    Sample("csr", lambda: spread(sparse.csr_array)),
    Sample("csc matrix", lambda: spread(sparse.csc_matrix)),
    Sample("coo", lambda: spread(sparse.coo_array)),
    Sample("lil", lambda: sparse.lil_array(np.eye(50)), stays=False),
    Sample("dok", lambda: sparse.dok_array(np.eye(50)), stays=False),
    Sample("bsr", lambda: spread(sparse.bsr_array)),
    Sample("dia", lambda: sparse.diags_array([NUMBERS * 1.0, NUMBERS[1:] * 1.0], offsets=[0, 1])),
]
NUMPY = [
    Sample("structures", structures),
    Sample("records", lambda: structures().view(np.recarray)),
    Sample("masked array", lambda: np.ma.masked_greater(NUMBERS, 5)),
    Sample("nothing masked", lambda: np.ma.MaskedArray(NUMBERS, fill_value=-1)),
    Sample("masked structures", lambda: np.ma.MaskedArray(structures(), mask=[(0, 1, (0, 1))] * N)),
    Sample("matrix", lambda: np.arange(N).view(np.matrix)),
    Sample("every other", lambda: np.arange(2 * N).reshape(2, N)[:, ::2]),
    Sample("fortran", lambda: np.asfortranarray(np.arange(2 * N).reshape(2, N))),
]
SAMPLES = [*FRAMES, *SERIES, *INDEXES, *ARROW, *POLARS, *SPARSE, *NUMPY]


def assert_same(got, expected):
    """Compare two objects as their library does."""
    assert type(got) is type(expected)
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(got, expected, check_freq=True)
        assert got.attrs == expected.attrs
        assert got.flags == expected.flags
    elif isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(got, expected)
    elif isinstance(expected, pd.Index):
        pd.testing.assert_index_equal(got, expected, exact=True)
    elif isinstance(expected, pl.DataFrame):
        assert got.schema == expected.schema
        assert got.equals(expected) or got.to_dict(as_series=False) == expected.to_dict(
            as_series=False
        )
        assert sorted_columns(got) == sorted_columns(expected)
    elif isinstance(expected, pl.Series):
        assert (got.name, got.dtype) == (expected.name, expected.dtype)
        assert got.to_list() == expected.to_list()
    elif isinstance(expected, (pa.Table, pa.RecordBatch)):
        assert got.equals(expected, check_metadata=True)
        got.validate(full=True)
    elif isinstance(expected, (pa.Array, pa.ChunkedArray)):
        assert got.type == expected.type
        assert got.equals(expected)
        got.validate(full=True)
    elif isinstance(expected, pa.Buffer):
        assert got.equals(expected)
    elif sparse.issparse(expected):
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        assert (got != expected).nnz == 0
    else:
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(got, expected)
        if isinstance(expected, np.ma.MaskedArray):
            assert (got.mask is np.ma.nomask) == (expected.mask is np.ma.nomask)
            np.testing.assert_array_equal(np.ma.getmaskarray(got), np.ma.getmaskarray(expected))
            assert repr(got.fill_value) == repr(expected.fill_value)  # NaT is not equal to itself


def sorted_columns(frame):
    """Return what polars knows of the order of a frame's columns."""
    return {
        name: (flags.get("SORTED_ASC"), flags.get("SORTED_DESC"))
        for name, flags in frame.flags.items()
    }


def memory_of(obj):
    """List the buffers of an object, as its library shows them."""
    if isinstance(obj, pd.DataFrame):
        parts = [obj.index, *(column.array for _, column in obj.items())]
    elif isinstance(obj, pd.MultiIndex):
        parts = [*obj.levels, *(np.asarray(codes) for codes in obj.codes)]
    elif isinstance(obj, pd.Series):
        parts = [obj.index, obj.array]
    elif isinstance(obj, pd.RangeIndex):
        parts = []
    elif isinstance(obj, pd.Index):
        parts = [obj.array]
    elif isinstance(obj, pd.Categorical):
        parts = [obj.codes, obj.categories]
    elif isinstance(obj, pd.arrays.IntervalArray):
        parts = [obj.left, obj.right]
    elif isinstance(obj, pd.arrays.SparseArray):
        parts = [obj.sp_values]
    elif isinstance(obj, (pd.arrays.IntegerArray, pd.arrays.BooleanArray)):
        parts = [obj._data, obj._mask]
    elif isinstance(obj, pd.arrays.ArrowExtensionArray):
        parts = [obj._pa_array]
    elif isinstance(
        obj, (pd.arrays.DatetimeArray, pd.arrays.TimedeltaArray, pd.arrays.PeriodArray)
    ):
        parts = [obj.asi8]
    elif isinstance(obj, pd.api.extensions.ExtensionArray):
        parts = [obj.to_numpy()]
    elif isinstance(obj, pl.DataFrame):
        newest = pl.CompatLevel.newest()
        parts = [
            column.to_frame().to_arrow(compat_level=newest)
            for column in obj.iter_columns()
            if column.dtype not in (pl.Object, pl.Int128)
        ]
    elif isinstance(obj, pl.Series):
        parts = [obj.to_frame()]
    elif isinstance(obj, (pa.Table, pa.RecordBatch)):
        parts = obj.columns
    elif isinstance(obj, pa.ChunkedArray):
        parts = obj.chunks
    elif isinstance(obj, pa.Array):
        parts = [buffer for buffer in obj.buffers() if buffer is not None]
        if isinstance(obj, pa.DictionaryArray):
            parts.append(obj.dictionary)
    elif sparse.issparse(obj):
        parts = [part for part in vars(obj).values() if isinstance(part, np.ndarray)]
    elif isinstance(obj, np.ma.MaskedArray):
        parts = [obj.data, np.asarray(np.ma.getmask(obj))]
    else:
        return [] if getattr(obj, "dtype", None) == np.dtype(object) else [obj]
    return [memory for part in parts for memory in memory_of(part)]


def large(obj):
    """List the buffers of an object that leave the pickle, as arrays of bytes."""
    found = []
    for memory in memory_of(obj):
        if isinstance(memory, np.ndarray):
            if memory.nbytes >= 4096:
                found.append(memory.view(np.ndarray))
        elif memory.size >= 4096:
            found.append(np.frombuffer(memory, np.uint8))
    return found


def lies_in(pool, array):
    """Tell whether an array's memory lies in a pool."""
    first = array[(slice(0, 1),) * array.ndim]
    return pool.member.where(first.view(np.uint8)) is not None
