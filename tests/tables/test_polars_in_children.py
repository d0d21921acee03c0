"""polars' frames in forked children of a process that has used polars; types that Arrow loses.

Such a child has no threads of polars' pool: an operation that needs them waits without end.
"""

import itertools

import pytest
from children import LIMIT, eventually, used

import onecopy as oc

pytestmark = pytest.mark.one_in(2)

pl = pytest.importorskip("polars")

ROWS = 3000
FRAMES = {
    "numbers": lambda: pl.DataFrame({"a": range(ROWS)}),
    "text": lambda: pl.DataFrame({"a": [f"some text {i}" for i in range(ROWS)]}),
    "sorted": lambda: pl.DataFrame({"a": pl.Series(range(ROWS)).set_sorted()}),
    "categorical": lambda: pl.DataFrame({"a": pl.Series(["a", "b"] * ROWS, dtype=pl.Categorical)}),
    "enum": lambda: pl.DataFrame({"a": pl.Series(["a"] * ROWS, dtype=pl.Enum(["a", "b"]))}),
    "lists": lambda: pl.DataFrame({"a": [[1, 2]] * ROWS}),
    "lists of enums": lambda: pl.DataFrame(
        {"a": pl.Series([["a"]] * ROWS, dtype=pl.List(pl.Enum(["a", "b"])))}
    ),
    "arrays": lambda: pl.DataFrame({"a": pl.Series([[1, 2]] * ROWS, dtype=pl.Array(pl.Int64, 2))}),
    "structs": lambda: pl.DataFrame({"a": [{"x": 1, "y": "text"}] * ROWS}),
    "zone": lambda: pl.DataFrame(
        {"a": pl.Series(range(ROWS)).cast(pl.Datetime("ns", "Europe/Paris"))}
    ),
}


def use_polars():
    frame = pl.DataFrame({"a": list(range(1000)) * 10, "b": range(10_000)})
    assert frame.group_by("a").agg(pl.col("b").sum()).height == 1000


def send_back(jobs, answers):
    while (frame := jobs.get(timeout=LIMIT)) is not None:
        answers.put((frame.shape, str(frame.schema), frame.to_series().flags["SORTED_ASC"]))
        answers.put(frame)


def test_a_forked_child_rebuilds_every_frame(pool, start):
    use_polars()
    jobs, answers = pool.queue(), pool.queue()
    child = start("fork", send_back, jobs, answers)
    for name, make in FRAMES.items():
        frame = make()
        jobs.put(frame)
        shape, schema, ascending = answers.get(timeout=LIMIT)
        assert (shape, schema) == (frame.shape, str(frame.schema)), name
        assert ascending == frame.to_series().flags["SORTED_ASC"], name
        assert answers.get(timeout=LIMIT).equals(frame), name
    jobs.put(None)
    child.wait()


LEAVES = {
    "enum": (pl.Enum(["a", "b"]), "a"),
    "categorical": (pl.Categorical, "a"),
    "text": (pl.String, "a text that is long enough"),
    "decimal": (pl.Decimal(20, 3), 1),
    "duration": (pl.Duration("ms"), None),
}


def wrapped(kind, dtype, value):
    if kind == "list":
        return pl.List(dtype), [value]
    if kind == "array":
        return pl.Array(dtype, 2), [value, value]
    return pl.Struct({"x": dtype, "y": pl.Int8}), {"x": value, "y": 1}


NESTS = [
    kinds
    for depth in range(4)
    for kinds in itertools.product(["list", "array", "struct"], repeat=depth)
]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("leaf", LEAVES)
def test_every_nesting_of_types_comes_back(pool, leaf):
    for kinds in NESTS:
        dtype, value = LEAVES[leaf]
        for kind in kinds:
            dtype, value = wrapped(kind, dtype, value)
        series = pl.Series("s", [value, None] * 1000, dtype=dtype)
        got = pool.put(series).get()
        assert got.dtype == series.dtype, dtype
        assert got.to_list() == series.to_list(), dtype


def test_slices_of_arrow_take_no_more_than_their_own(pool):
    pa = pytest.importorskip("pyarrow")
    whole = pa.array([f"text number {i}" for i in range(20_000)])
    arrays = {
        "text": whole,
        "lists": pa.array([[i, i] for i in range(20_000)]),
        "structs": pa.array([{"a": i, "b": "x"} for i in range(20_000)]),
        "dictionaries": pa.array([f"c{i % 50}" for i in range(20_000)]).dictionary_encode(),
        "maps": pa.array([[("k", i)] for i in range(20_000)], pa.map_(pa.string(), pa.int64())),
    }
    for name, array in arrays.items():
        for part in (array[:0], array[-1:], array[500:510]):
            for sent in (part, pa.table({"c": part}), pa.chunked_array([part])):
                before = pool.stats().used
                ref = pool.put(sent)
                assert pool.stats().used - before < 8192, (name, len(part))
                assert ref.get().equals(sent), (name, len(part))
                del ref
    assert oc.writable_copy(whole[:0]).equals(whole[:0])


def test_a_column_that_is_kept_keeps_the_others_of_its_frame_not(pool):
    columns, rows = 8, 100_000
    before = used(pool)
    kept = pool.put(pl.DataFrame({f"c{i}": range(rows) for i in range(columns)})).get()["c3"]
    eventually(lambda: used(pool) - before < 2 * 8 * rows, "the other columns to go")
    assert kept.sum() == rows * (rows - 1) // 2
    del kept
    eventually(lambda: used(pool) == before, "the column to go")
