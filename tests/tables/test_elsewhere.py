"""Tables, and parts of them, that lie in mapped files and in pools that are open for reading."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import samples

import onecopy as oc
from onecopy._codec import pickler

N = 100_000
WORDS = [f"word number {i}" for i in range(N)]
PARTS = {
    "whole": lambda table: table,
    "slice": lambda table: table.slice(10, N - 100),
    "batch": lambda table: table.slice(10, N - 100).to_batches()[0],
    "column": lambda table: table["s"].slice(7),
    "array": lambda table: table["a"].chunk(0)[9:],
    "in a frame": lambda table: pd.DataFrame(
        {name: pd.array(table[name], pd.ArrowDtype(table.schema.field(name).type)) for name in "as"}
    ).iloc[50:],
    "in polars": lambda table: pl.from_arrow(table.select(["a", "f"])).slice(9),
    "with others": lambda table: {
        "before": np.arange(5000),
        "table": table.slice(5),
        "between": pa.array(np.arange(3 * N))[5:6000],
        "again": table["a"],
        "scattered": np.arange(20_000)[::2],
    },
}
every_part = pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)


def make():
    return pa.table({"a": np.arange(N), "s": WORDS, "f": np.arange(N) / 2})


@pytest.fixture
def file(tmp_path):
    """A table in an Arrow file."""
    table = make()
    path = tmp_path / "t.arrow"
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    return path


@pytest.fixture
def reader(tmp_path):
    """A pool that is open for reading."""
    path = tmp_path / "t.pool"
    with oc.Pool.create(size="32MiB", backing=path) as pool:
        pool["t"] = make()
        pool["view"] = memoryview(bytes(N))
        pool["numbers"] = pd.DataFrame({"a": np.arange(N), "b": np.arange(N), "c": np.arange(N)})
    with oc.Pool.open(path, mode="r") as pool:
        yield pool


def same(got, expected):
    if isinstance(expected, dict):
        assert list(got) == list(expected)
        for name, part in expected.items():
            samples.assert_same(got[name], part)
    else:
        samples.assert_same(got, expected)


def check(pool, obj, expected, extra):
    queue = pool.queue()
    used = pool.stats().used
    queue.put(obj)
    ref = pool.put([obj])
    assert pool.stats().used - used < 16_000 + 2 * extra
    same(queue.get(), expected)
    same(ref.get()[0], expected)
    # A received object is passed on in the same way.
    used = pool.stats().used
    again = pool.put(ref.get()[0])
    assert pool.stats().used - used < 12_000
    same(again.get(), expected)
    data, buffers, _ = pickler.encode(obj)
    assert sum(memoryview(buffer).nbytes for buffer in buffers) <= 8000 + extra
    same(pickler.decode(data, buffers), expected)
    copied = oc.writable_copy(obj)
    del obj, ref, again
    same(copied, expected)


@every_part
def test_parts_of_a_mapped_table_go_by_the_file_s_name(pool, file, part):
    check(
        pool,
        part(oc.open_table(file)),
        part(make()),
        170_000 if part is PARTS["with others"] else 0,
    )


@every_part
def test_parts_of_a_table_of_a_read_only_pool_go_by_the_pool_s_name(pool, reader, part):
    check(pool, part(reader["t"]), part(make()), 170_000 if part is PARTS["with others"] else 0)


def test_rows_of_a_frame_of_a_read_only_pool_go_by_its_name(pool, reader):
    frame = reader["numbers"].iloc[5:-5]
    check(pool, frame, frame.copy(), 0)


def test_files_and_pools_in_one_object(pool, file, reader):
    obj = {
        "file": oc.open_table(file).slice(1),
        "scattered": np.arange(20_000)[::2],
        "pool": reader["t"].slice(2),
        "private": pa.array(np.arange(9000)),
        "file again": oc.open_table(file)["s"],
        "pool again": reader["t"]["f"],
        "own": pool.array(np.arange(9000)),
    }
    expected = {name: oc.writable_copy(part) for name, part in obj.items()}
    check(pool, obj, expected, 240_000)


def test_a_memoryview_of_a_read_only_pool_is_copied(pool, reader):
    used = pool.stats().used
    ref = pool.put(reader["view"])
    assert pool.stats().used - used > N
    assert ref.get() == bytes(N)


def test_a_place_that_does_not_fit_its_block_is_stale(reader):
    from onecopy._codec import blocks
    from onecopy._core import membership

    memory = memoryview(reader["t"]["a"].chunk(0).buffers()[1])
    place = blocks.find(memory, membership.readers())
    assert bytes(blocks.bytes_of(*place)) == bytes(memory)
    for wrong in (place._replace(nbytes=1 << 40), place._replace(offset=-1)):
        with pytest.raises(oc.StaleRef, match="not the block of this buffer"):
            blocks.bytes_of(*wrong)
