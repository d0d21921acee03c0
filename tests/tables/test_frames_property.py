"""Frames and tables of any types, lengths and slices come back equal."""

import datetime as dt

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

QUICK = settings(
    max_examples=more(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(QUICK, max_examples=more(600))

# A short list of values, repeated to the length, so that long columns are drawn quickly.
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
times = st.timedeltas(dt.timedelta(0), dt.timedelta(80_000)).map(
    lambda since: dt.datetime.fromisoformat("1970-01-01") + since
)


def column(values, dtype):
    return st.tuples(st.just(dtype), st.lists(values, min_size=1, max_size=7))


pandas_columns = st.one_of(
    column(st.integers(-(2**31), 2**31 - 1), "int32"),
    column(st.floats(), "float64"),
    column(st.booleans(), "bool"),
    column(words | st.none(), "str"),
    column(words | st.none(), "object"),
    column(words | st.none(), "string[python]"),
    column(words | st.none(), "string[pyarrow]"),
    column(words, "category"),
    column(st.integers(0, 9) | st.none(), "Int64"),
    column(st.booleans() | st.none(), "boolean"),
    column(st.integers(0, 9) | st.none(), "int16[pyarrow]"),
    column(times | st.none(), "datetime64[us]"),
    column(times | st.none(), "datetime64[us, Asia/Tokyo]"),
    column(st.timedeltas(dt.timedelta(0), dt.timedelta(9999)), "timedelta64[us]"),
    column(st.integers(0, 1) | st.none(), "Sparse[float]"),
)
arrow_columns = st.one_of(
    column(st.integers(-9, 9) | st.none(), pa.int8()),
    column(st.booleans() | st.none(), pa.bool_()),
    column(words | st.none(), pa.string()),
    column(words | st.none(), pa.large_string()),
    column(words | st.none(), pa.string_view()),
    column(st.binary(max_size=20) | st.none(), pa.binary_view()),
    column(st.lists(st.integers(0, 9), max_size=3) | st.none(), pa.list_(pa.int64())),
    column(words, pa.dictionary(pa.int16(), pa.string())),
    column(
        st.fixed_dictionaries({"x": st.integers(0, 9), "y": words}),
        pa.struct([("x", pa.int64()), ("y", pa.string())]),
    ),
    column(times, pa.timestamp("us", "UTC")),
    column(st.none(), pa.null()),
)
polars_columns = st.one_of(
    column(st.integers(-9, 9) | st.none(), pl.Int64),
    column(st.booleans() | st.none(), pl.Boolean),
    column(words | st.none(), pl.String),
    column(words | st.none(), pl.Categorical),
    column(st.sampled_from("abc"), pl.Enum(["a", "b", "c"])),
    column(st.lists(words, max_size=3) | st.none(), pl.List(pl.String)),
    column(st.lists(st.integers(0, 9), min_size=2, max_size=2), pl.Array(pl.Int8, 2)),
    column(
        st.fixed_dictionaries({"x": st.integers(0, 9), "y": words}),
        pl.Struct({"x": pl.Int64, "y": pl.String}),
    ),
    column(times, pl.Datetime("us", "Asia/Tokyo")),
    column(st.integers(0, 9), pl.Int128),
    column(st.none(), pl.Null),
)
lengths = st.sampled_from([0, 1, 5, 700, 3000])
cuts = st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from([1, 1, 2, -1]))


def long(values, length):
    return (values * (length // len(values) + 1))[:length]


def cut_of(length, cut):
    first, last = sorted(int(part * length) for part in cut[:2])
    return slice(first, last)


def check(pool, obj):
    for got in (
        pool.put(obj).get(),
        pool.put({"x": [obj, 1]}).get()["x"][0],
        pool.put([pool.put(obj).get()]).get()[0],
        oc.writable_copy(obj),
    ):
        samples.assert_same(got, obj)
    del got
    assert pool.stats().used == 0


def pandas_series(dtype, values):
    if dtype == "object":
        return pd.Series(np.array([*values, 0], object)[:-1])
    return pd.Series(pd.array(values, dtype=dtype))


@st.composite
def pandas_frames(draw):
    length = draw(lengths)
    drawn = draw(st.lists(pandas_columns, max_size=5))
    made = [pandas_series(dtype, long(values, length)) for dtype, values in drawn]
    frame = pd.concat(made, axis=1) if made else pd.DataFrame(index=range(length))
    frame.columns = draw(
        st.lists(st.sampled_from("abcdefg"), min_size=len(made), max_size=len(made))
    )
    if made and draw(st.booleans()) and made[0].dtype != object:
        frame.index = pd.MultiIndex.from_arrays([made[0], range(length)])
    cut = draw(cuts)
    frame = frame.iloc[cut_of(length, cut)].iloc[:: cut[2]]
    frame.attrs = draw(st.dictionaries(words, words, max_size=2))
    return frame


@st.composite
def arrow_tables(draw):
    length = draw(lengths)
    drawn = draw(st.lists(arrow_columns, min_size=1, max_size=4))
    fields = [
        pa.field(f"c{i}", dtype, metadata=draw(st.dictionaries(words, words, max_size=1)))
        for i, (dtype, _) in enumerate(drawn)
    ]
    arrays = [pa.array(long(values, length), dtype) for dtype, values in drawn]
    table = pa.table(
        arrays, schema=pa.schema(fields, metadata=draw(st.dictionaries(words, words, max_size=2)))
    )
    if draw(st.booleans()):
        table = pa.concat_tables([table, table])
    part = cut_of(table.num_rows, draw(cuts))
    return table.slice(part.start, part.stop - part.start)


@st.composite
def polars_frames(draw):
    length = draw(lengths)
    drawn = draw(st.lists(polars_columns, max_size=4))
    frame = pl.DataFrame(
        [
            pl.Series(f"c{i}", long(values, length), dtype=kind)
            for i, (kind, values) in enumerate(drawn)
        ]
    )
    if draw(st.booleans()):
        frame = pl.concat([frame, frame], rechunk=False)
    return frame[cut_of(frame.height, draw(cuts))]


@QUICK
@given(pandas_frames())
def test_frames_of_pandas(pool, frame):
    check(pool, frame)


@QUICK
@given(arrow_tables())
def test_tables_of_arrow(pool, table):
    check(pool, table)


@QUICK
@given(polars_frames())
def test_frames_of_polars(pool, frame):
    check(pool, frame)


@pytest.mark.slow
@MANY
@given(st.one_of(pandas_frames(), arrow_tables(), polars_frames()))
def test_many_tables(pool, table):
    check(pool, table)
