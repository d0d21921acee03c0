"""Arrow and Parquet files as tables that processes share."""

import contextlib
import gc
import os
import pickle
import sys
import threading

import numpy as np
import pytest
from mappings import answer_table, mappings_of, place_of

import onecopy as oc

pa = pytest.importorskip("pyarrow")
feather = pytest.importorskip("pyarrow.feather")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 20_000


def some_table(rows=ROWS):
    numbers = np.arange(rows)
    return pa.table(
        {
            "number": numbers,
            "text": pa.array([f"text {i % 100}" for i in range(rows)], pa.string()),
            "gaps": pa.array([None if i % 7 == 0 else i / 2 for i in range(rows)], pa.float64()),
            "kind": pa.array(
                [f"kind {i % 5}" for i in range(rows)], pa.string()
            ).dictionary_encode(),
            "list": pa.array([[i, None] for i in range(rows)], pa.list_(pa.int32())),
            "both": pa.array(
                [{"a": i, "b": str(i)} for i in range(rows)],
                pa.struct({"a": pa.int64(), "b": pa.string()}),
            ),
            "when": pa.array(numbers, pa.timestamp("us")),
            "yes": pa.array(numbers % 3 == 0),
            "nothing": pa.nulls(rows),
        }
    )


@pytest.fixture(scope="module")
def table():
    return some_table()


def write(table, path):
    """Write a table in the format that the path says."""
    match path.suffixes:
        case [".arrow"]:
            feather.write_feather(table, path, compression="uncompressed", chunksize=table.num_rows)
        case [".zstd", ".arrow"]:
            feather.write_feather(table, path, compression="zstd", chunksize=6000)
        case [".stream"]:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as to:
                to.write_table(table, max_chunksize=6000)
        case [".lz4", ".stream"]:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            with (
                pa.OSFile(str(path), "wb") as file,
                pa.ipc.new_stream(file, table.schema, options=options) as to,
            ):
                to.write_table(table)
        case [".parquet"]:
            pq.write_table(table, path, row_group_size=6000)
    return path


MAPPED = ["t.arrow", "t.stream"]
DECODED = ["t.zstd.arrow", "t.lz4.stream", "t.parquet"]


def addresses(table):
    """Return the addresses of all large buffers."""
    return [
        buffer.address
        for column in table.columns
        for chunk in column.chunks
        for buffer in chunk.buffers()
        if buffer is not None and buffer.size >= 4096
    ]


# ---------------------------------------------------------------------------------------- opening


@pytest.mark.parametrize("name", MAPPED)
def test_uncompressed_ipc_is_not_read(tmp_path, table, pool, name):
    path = write(table, tmp_path / name)
    before = pa.total_allocated_bytes()
    got = oc.open_table(path, pool=pool, prefault=True, advise="sequential")
    assert pa.total_allocated_bytes() - before < 100_000
    assert got.equals(table)
    got.validate(full=True)
    inode = path.stat().st_ino
    assert all(place_of(address)[0] == inode for address in addresses(got))
    assert pool.stats().used == 0
    assert mappings_of(inode) == 1
    del got
    assert mappings_of(inode) == 0


@pytest.mark.parametrize("name", DECODED)
def test_others_are_decoded_into_the_pool(tmp_path, table, pool, name):
    path = write(table, tmp_path / name)
    got = oc.open_table(path, pool=pool)
    assert got.equals(table)
    got.validate(full=True)
    assert addresses(got)
    memory = place_of(pool_address(pool))[0]
    assert all(place_of(address)[0] == memory for address in addresses(got))
    assert table.nbytes * 0.9 < pool.stats().used < table.nbytes * 1.2
    assert mappings_of(path.stat().st_ino) == 0
    assert not got.column("number").chunk(0).to_numpy().flags.writeable
    del got
    gc.collect()
    assert pool.stats().used == 0


def pool_address(pool):
    return pool.empty(1, "u1").__array_interface__["data"][0]


def test_the_default_pool_is_used_only_if_it_is_needed(tmp_path, table):
    from onecopy import default

    got = oc.open_table(write(table, tmp_path / "t.arrow"))
    assert default._pool is None
    got = oc.open_table(write(table, tmp_path / "t.parquet"))
    assert got.equals(table)
    assert oc.default_pool().stats().used > table.nbytes * 0.9


@pytest.mark.parametrize("name", MAPPED + DECODED)
def test_columns(tmp_path, table, pool, name):
    path = write(table, tmp_path / name)
    names = ["kind", "number"]
    got = oc.open_table(path, columns=names, pool=pool)
    assert got.equals(table.select(names))
    assert pool.stats().used < table.select(names).nbytes * 1.2 + 1000
    assert oc.open_table(path, columns=[], pool=pool).num_columns == 0
    with pytest.raises(oc.BadFile, match=r"no column what, ever; columns: number"):
        oc.open_table(path, columns=["what", "number", "ever"], pool=pool)


@pytest.mark.parametrize("name", MAPPED + DECODED)
@pytest.mark.parametrize("rows", [0, 1])
def test_small_tables(tmp_path, pool, name, rows):
    table = some_table(rows)
    got = oc.open_table(write(table, tmp_path / name), pool=pool)
    assert got.equals(table)
    assert got.schema == table.schema
    queue = pool.queue()
    queue.put(got)
    assert queue.get().equals(table)


@pytest.mark.parametrize("name", ["t.arrow", "t.parquet"])
def test_the_same_file_gives_the_same_table_while_it_lives(tmp_path, table, pool, name):
    path = write(table, tmp_path / name)
    got = oc.open_table(path, pool=pool)
    assert oc.open_table(str(path), pool=pool) is got
    assert oc.open_table(path, columns=["number"], pool=pool) is not got
    # Replaced by another one:
    write(table.slice(5), tmp_path / f"other{path.suffix}").replace(path)
    again = oc.open_table(path, pool=pool)
    assert again.num_rows == ROWS - 5
    assert got.equals(table)


def test_a_pool_that_is_too_small(tmp_path, table):
    path = write(pa.concat_tables([table] * 3), tmp_path / "t.parquet")
    with oc.Pool.create(size="2MiB") as small:
        before = small.stats().used
        with pytest.raises(oc.PoolFull):
            oc.open_table(path, pool=small)
        gc.collect()
        assert small.stats().used == before


# ------------------------------------------------------------------------------------- on their way


@pytest.mark.parametrize("name", MAPPED + DECODED)
def test_nothing_is_copied(tmp_path, table, pool, name):
    got = oc.open_table(write(table, tmp_path / name), pool=pool)
    queue = pool.queue()
    before = pool.stats().used
    queue.put({"table": got, "part": got.slice(5000, 100)})
    assert pool.stats().used - before < 40_000
    received = queue.get()
    assert received["table"].equals(table)
    assert received["part"].equals(table.slice(5000, 100))
    assert addresses(received["table"]) == addresses(got)
    pool["table"] = got
    assert addresses(pool["table"]) == addresses(got)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_have_the_same_memory(tmp_path, table, pool, start, method):
    path = write(table, tmp_path / "t.arrow")
    got = oc.open_table(path)
    queue, answers = pool.queue(), pool.queue()
    child = start(method, answer_table, queue, answers)
    queue.put(got)
    place, rows, value = answers.get(timeout=60)
    assert place == place_of(got.column(0).chunk(0).buffers()[1].address)
    assert place[0] == path.stat().st_ino
    assert (rows, value) == (ROWS, 7)
    assert child.wait() == 0


def test_data_frames_over_a_file(tmp_path, table, pool):
    pandas = pytest.importorskip("pandas")
    path = write(table.select(["number", "when"]), tmp_path / "t.arrow")
    frame = oc.open_table(path).to_pandas(split_blocks=True)
    numbers = frame["number"].to_numpy()
    queue = pool.queue()
    queue.put(frame)
    assert pool.stats().used < 10_000
    got = queue.get()
    pandas.testing.assert_frame_equal(got, frame)
    assert np.shares_memory(got["number"].to_numpy(), numbers)
    assert place_of(numbers.__array_interface__["data"][0])[0] == path.stat().st_ino


def test_a_file_that_was_replaced_after_it_was_sent(tmp_path, table, pool):
    path = write(table, tmp_path / "t.arrow")
    queue = pool.queue()
    queue.put(oc.open_table(path))
    gc.collect()
    write(table, tmp_path / "other.arrow").replace(path)
    with pytest.raises(oc.StaleRef, match="replaced"):
        queue.get()


def test_what_others_could_not_find_is_copied(tmp_path, table, pool):
    path = write(table, tmp_path / "t.arrow")
    got = oc.open_table(path)
    path.unlink()
    queue = pool.queue()
    queue.put(got)
    assert pool.stats().used > table.nbytes / 2
    assert queue.get().equals(table)


def test_a_plain_pickle_is_complete(tmp_path, table):
    path = write(table, tmp_path / "t.arrow")
    data = pickle.dumps(oc.open_table(path), 5)
    path.unlink()
    assert pickle.loads(data).equals(table)


# ---------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize("name", MAPPED + DECODED)
@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.999])
def test_files_that_were_cut_short(tmp_path, table, pool, name, part, unchanged):
    path = write(table, tmp_path / name)
    os.truncate(path, int(path.stat().st_size * part))
    unchanged(path)
    with pytest.raises(oc.BadFile) as caught:
        oc.open_table(path, pool=pool)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, ValueError)
    gc.collect()
    assert pool.stats().used == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"a,b\n1,2\n", "neither Arrow IPC nor Parquet"),
        (b"PAR1", "Parquet"),
        (b"PAR1" + bytes(100) + b"PAR1", "Parquet"),
        (b"ARROW1\0\0" + bytes(100) + b"ARROW1", "Arrow IPC file"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(100), "stream"),
        (b"\xff\xff\xff\xff" + bytes(100), "stream"),
        (b"FEA1" + bytes(100), "version 1"),
        (b"PARE" + bytes(100), "encrypted"),
        (b"\x93NUMPY" + bytes(100), "open_array"),
        (b"onecopy1" + bytes(5000), "is a pool"),
    ],
)
def test_files_that_will_not_do(tmp_path, pool, content, message, unchanged):
    path = tmp_path / "file"
    path.write_bytes(content)
    unchanged(path)
    with pytest.raises(oc.BadFile, match=message):
        oc.open_table(path, pool=pool)


def test_spoilt_bytes_are_an_error_or_a_table(tmp_path, pool):
    """Not a crash: each place of a small file is damaged in turn."""
    whole = write(some_table(20), tmp_path / "t.arrow").read_bytes()
    path = tmp_path / "damaged.arrow"
    random = np.random.default_rng(1)
    for _ in range(150):
        data = bytearray(whole)
        data[random.integers(8, len(data))] ^= 1 << random.integers(8)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        with contextlib.suppress(oc.BadFile, ValueError):
            oc.open_table(path, pool=pool).validate()


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(oc.BadFile, match="not a regular file"):
        oc.open_table(tmp_path / "fifo")
    with pytest.raises(oc.BadFile, match="directory"):
        oc.open_table(tmp_path)
    with pytest.raises(FileNotFoundError):
        oc.open_table(tmp_path / "nothing")
    with pytest.raises(ValueError, match="advise"):
        oc.open_table(tmp_path / "nothing", advise="never")


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.ipc", None)
    with pytest.raises(ImportError, match=r"onecopy\[tables\]"):
        oc.open_table(tmp_path / "nothing")


def decode_and_measure(path, answers):
    """Return how much memory pyarrow used at most. Runs in a process of its own."""
    with oc.Pool.create(size="64MiB") as pool:
        rows = oc.open_table(path, pool=pool).num_rows
    answers.put((rows, pa.default_memory_pool().max_memory()))


def test_one_row_group_at_a_time(tmp_path, table, pool, start):
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, row_group_size=ROWS // 20)
    answers = pool.queue()
    child = start("stranger", decode_and_measure, path, answers)
    rows, most = answers.get(timeout=60)
    assert rows == ROWS
    assert most < table.nbytes / 4
    assert child.wait() == 0


@pytest.mark.parametrize("kind", ["offset", "index", "dictionary"])
def test_damage_that_would_end_the_process(tmp_path, kind):
    text = pa.array([f"text {i}" for i in range(1000)], pa.string())
    column = text if kind == "offset" else text.dictionary_encode()
    path = tmp_path / "t.arrow"
    table = pa.table({"a": column})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as to:
        to.write_table(table)
    numbers = {
        "offset": text.buffers()[1],
        "index": column.indices.buffers()[1] if kind != "offset" else None,
        "dictionary": column.dictionary.buffers()[1] if kind != "offset" else None,
    }[kind]
    data = bytearray(path.read_bytes())
    at = data.find(numbers.to_pybytes()[:400])
    assert at > 0
    data[at + 200 : at + 204] = (0x7FFFFFF0).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(oc.BadFile, match="damaged"):
        oc.open_table(path)
    assert oc.open_table(path, validate=False).num_rows == 1000


def test_a_stream_ends_as_one(tmp_path, table):
    path = write(table, tmp_path / "t.stream")
    data = path.read_bytes()
    for other in (data[:-8], data[:-4], data + b"more"):
        path.write_bytes(other)
        with pytest.raises(oc.BadFile, match="IPC stream"):
            oc.open_table(path)
    # Cut between two batches:
    reader = pa.BufferReader(data)
    pa.ipc.open_stream(reader).read_next_batch()
    path.write_bytes(data[: reader.tell()])
    with pytest.raises(oc.BadFile, match="does not end"):
        oc.open_table(path, columns=["number"])


@pytest.mark.parametrize("name", MAPPED + DECODED)
def test_no_columns_at_all(tmp_path, table, pool, name):
    path = write(table, tmp_path / name)
    assert oc.open_table(path, columns=[], pool=pool).shape == (ROWS, 0)


@pytest.mark.parametrize("name", MAPPED)
def test_columns_of_one_name(tmp_path, pool, name):
    twice = pa.table([pa.array([1]), pa.array([2])], names=["x", "x"])
    path = tmp_path / name
    make = pa.ipc.new_stream if name.endswith("stream") else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as file, make(file, twice.schema) as to:
        to.write_table(twice)
    assert oc.open_table(path).equals(twice)
    with pytest.raises(oc.BadFile, match="several columns x"):
        oc.open_table(path, columns=["x"])


def test_threads_decode_a_file_once(tmp_path, table, pool):
    path = write(table, tmp_path / "t.parquet")
    tables, barrier = [], threading.Barrier(4)

    def work():
        barrier.wait()
        tables.append(oc.open_table(path, pool=pool))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(each) for each in tables}) == 1
    assert pool.stats().used < table.nbytes * 1.2
