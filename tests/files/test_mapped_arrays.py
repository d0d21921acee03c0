"""Arrays over files: mapped once, sent as the name of the file, and told apart from others."""

import io
import os
import pickle
import re
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mappings import (
    answer_argument,
    answer_where,
    first_address,
    mappings_of,
    place_of,
    where_in_a_worker,
)
from seeds import more

import onecopy as oc
from onecopy import _native


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(60_000.0).reshape(300, 200))
    return path


def lies_in(array, path):
    return place_of(first_address(array))[0] == path.stat().st_ino


def used(queue):
    return queue.member.stats()["used"]


# ---------------------------------------------------------------------------------------- opening


def test_npy(path):
    array = oc.open_array(path)
    assert isinstance(array, oc.MappedArray)
    assert isinstance(array, np.memmap)
    assert np.array_equal(array, np.load(path))
    assert lies_in(array, path)
    assert (array.mode, array.filename, array.offset) == ("r", str(path), 128)
    assert not array.flags.writeable
    assert type(array + 1) is np.ndarray
    assert type(array[1:]) is oc.MappedArray
    assert isinstance(array.sum(), float)
    assert oc.open_array(path, "f8", (300, 200)).shape == (300, 200)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_versions_and_orders(tmp_path, version, order):
    path = tmp_path / "a.npy"
    dtype = np.dtype([("größe" if version == (3, 0) else "size", ">i4"), ("b", "f8", (2,))])
    there = np.asarray(np.zeros((5, 7), dtype), order=order)
    there["b"] = np.arange(70).reshape(5, 7, 2)
    with path.open("wb") as file:
        np.lib.format.write_array(file, there, version=version)
    array = oc.open_array(path)
    assert array.dtype == dtype
    assert array.flags.f_contiguous == (order == "F")
    assert np.array_equal(array, there)


def test_raw(tmp_path):
    path = tmp_path / "raw"
    np.arange(1000, dtype="i4").tofile(path)
    assert np.array_equal(oc.open_array(path, "i4"), np.arange(1000))
    assert oc.open_array(path).dtype == np.uint8
    assert np.array_equal(oc.open_array(path, "i4", (10, 5), offset=400)[0], np.arange(100, 105))
    assert np.array_equal(oc.open_array(path, "i4", 7, offset=4), np.arange(1, 8))
    columns = oc.open_array(path, "i4", (10, 100), order="F")
    assert np.array_equal(columns, np.arange(1000).reshape(100, 10).T)
    assert oc.open_array(path, "i4", (0, 3)).shape == (0, 3)
    assert oc.open_array(bytes(path), "i4").size == 1000


def test_writing(tmp_path, path):
    array = oc.open_array(path, mode="r+")
    array[0, 0] = -1
    assert oc.open_array(path)[0, 0] == -1
    array.flush()
    array[1:].flush()
    assert np.load(path)[0, 0] == -1
    mine = oc.open_array(path, mode="c")
    mine[0, 0] = 7
    mine.flush()
    assert oc.open_array(path)[0, 0] == -1
    assert oc.open_array(path, mode="c")[0, 0] == -1
    oc.open_array(path).flush()


def test_making(tmp_path):
    path = tmp_path / "new.npy"
    array = oc.open_array(path, "i2", (3, 4), "w+", order="F")
    assert not array.any()
    array[1] = 5
    array.flush()
    assert np.array_equal(np.load(path), array)
    assert np.load(path).flags.f_contiguous
    raw = oc.open_array(tmp_path / "raw", "i2", 10, "w+", offset=6)
    raw[:] = 1
    assert (tmp_path / "raw").stat().st_size == 26
    assert oc.open_array(tmp_path / "none.npy", "i2", (0, 5), "w+").shape == (0, 5)
    assert np.load(tmp_path / "none.npy").shape == (0, 5)
    assert {there.name for there in tmp_path.iterdir()} == {"new.npy", "none.npy", "raw"}


def test_making_replaces_and_does_not_overwrite(path):
    before = oc.open_array(path)
    kept = np.array(before)
    oc.open_array(path, "i4", 3, "w+")[:] = 9
    assert np.array_equal(before, kept)
    assert np.load(path).tolist() == [9, 9, 9]


def test_making_what_the_disk_cannot_hold(path, tmp_path):
    before = path.read_bytes()
    with pytest.raises(OSError, match="for a new array"):
        oc.open_array(path, "u1", 1 << 60, "w+")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("advise", [None, "sequential", "random"])
def test_advice(path, advise):
    for mode in ("r", "r+", "c"):
        array = oc.open_array(path, mode=mode, advise=advise, prefault=True)
        assert array[299, 199] == 59_999


@pytest.mark.skipif(
    tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (5, 14),
    reason="this kernel reads ahead only",
)
def test_prefault_maps_all_pages(tmp_path):
    np.zeros(4 << 20, np.uint8).tofile(tmp_path / "raw")
    array = oc.open_array(tmp_path / "raw", prefault=True)
    text = Path("/proc/self/smaps").read_text()
    at = text.split(str(tmp_path / "raw"))[1]
    assert int(at.split("Rss:")[1].split()[0]) == 4096
    del array


def test_a_file_is_mapped_once_for_each_right(path):
    inode = path.stat().st_ino
    arrays = [oc.open_array(path) for _ in range(3)] + [oc.open_array(path, "f8", 5, offset=8)]
    assert mappings_of(inode) == 1
    arrays += [oc.open_array(path, mode="r+") for _ in range(3)]
    assert mappings_of(inode) == 2
    linked = path.with_name("link.npy")
    linked.symlink_to(path)
    arrays.append(oc.open_array(linked))
    assert mappings_of(inode) == 2
    threads = [threading.Thread(target=lambda: arrays.append(oc.open_array(path))) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mappings_of(inode) == 2
    arrays.clear()
    assert mappings_of(inode) == 0


def test_a_file_that_has_grown(tmp_path):
    path = tmp_path / "raw"
    path.write_bytes(bytes(5000))
    short = oc.open_array(path)
    with path.open("ab") as file:
        file.write(b"\1" * 5000)
    long = oc.open_array(path)
    assert (short.size, long.size, long.sum()) == (5000, 10_000, 5000)
    assert np.shares_memory(pickle.loads(pickle.dumps(long)), long)
    assert pickle.loads(pickle.dumps(short)).size == 5000


# ------------------------------------------------------------------------------ what it refuses


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"", {}, "empty"),
        (b"abc", {"dtype": "i4"}, "not a whole number"),
        (b"abcd", {"dtype": "i4", "offset": 5}, "not a whole number"),
        (b"abcdefgh", {"dtype": "i4", "shape": 3}, "12 bytes are needed"),
        (b"abcdefgh", {"dtype": "i4", "shape": 2, "offset": 1}, "9 bytes|from byte 1"),
        (b"\x93NUMPY", {}, "begins like a .npy"),
        (b"\x93NUMPY\x01\x00\xff\xff{'descr'", {}, "begins like a .npy"),
        (b"\x93NUMPY\x09\x00" + bytes(100), {}, "version"),
        (b"onecopy1" + bytes(5000), {"dtype": "u1"}, "is a pool"),
    ],
)
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_files_that_will_not_do(tmp_path, content, arguments, message, mode, unchanged):
    path = tmp_path / "file"
    path.write_bytes(content)
    unchanged(path)
    with pytest.raises(oc.BadFile, match=message) as caught:
        oc.open_array(path, mode=mode, **arguments)
    assert str(path) in str(caught.value)


def test_npy_that_was_cut_short(path):
    os.truncate(path, 100_000)
    with pytest.raises(oc.BadFile, match="480128 bytes are needed"):
        oc.open_array(path)


def test_contradictions(path, tmp_path):
    with pytest.raises(oc.BadFile, match="dtype=float64, but the call has dtype=int32"):
        oc.open_array(path, "i4")
    with pytest.raises(oc.BadFile, match=r"shape=\(300, 200\)"):
        oc.open_array(path, shape=60_000)
    np.save(tmp_path / "o.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(oc.BadFile, match="Python objects"):
        oc.open_array(tmp_path / "o.npy")
    for arguments, error in (
        ({"mode": "w"}, ValueError),
        ({"mode": "w+"}, ValueError),
        ({"order": "K"}, ValueError),
        ({"offset": -1}, ValueError),
        ({"advise": "never"}, ValueError),
        ({"dtype": object}, TypeError),
        ({"shape": -1}, ValueError),
        ({"mode": "w+", "shape": 1, "offset": 1}, ValueError),
    ):
        with pytest.raises(error):
            oc.open_array(path, **arguments)
    assert np.load(path).shape == (300, 200)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for mode in ("r", "r+"):
        with pytest.raises(oc.BadFile, match="not a regular file"):
            oc.open_array(tmp_path / "fifo", mode=mode)
        with pytest.raises(oc.BadFile, match="directory"):
            oc.open_array(tmp_path, mode=mode)
        with pytest.raises(FileNotFoundError):
            oc.open_array(tmp_path / "nothing", mode=mode)
    with pytest.raises(oc.BadFile, match="directory"):
        oc.open_array(tmp_path, "i4", 3, "w+")


def test_a_pool_is_not_replaced(elsewhere):
    with oc.Pool.create(size="16MiB", backing=elsewhere / "t.pool") as pool:
        pool["a"] = 1
        for arguments in ({"mode": "r"}, {"mode": "r+"}, {"mode": "w+", "shape": 3}):
            with pytest.raises(oc.BadFile, match="is a pool"):
                oc.open_array(elsewhere / "t.pool", "u1", **arguments)
        assert pool["a"] == 1


# ------------------------------------------------------------------------------------- on their way


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_nothing_is_copied(path, pool, mode):
    queue = pool.queue()
    array = oc.open_array(path, mode=mode)
    for sent in (array, array[::-2, 3:], array[5], array.T, array[:, 0], array[2:2]):
        before = used(queue)
        queue.put(sent)
        assert used(queue) - before < 1000
        got = queue.get()
        assert type(got) is (oc.MappedArray if sent.size else np.ndarray)
        assert np.array_equal(got, sent)
        assert got.strides == sent.strides or not sent.size
        assert got.flags.writeable == (mode == "r+") or not sent.size
        assert np.shares_memory(got, sent) or not sent.size
    plain = np.asarray(array)
    queue.put(plain)
    assert type(queue.get()) is np.ndarray
    for wrapped in ({"a": plain, "b": [plain[::2]]}, [array, plain[:, 5]]):
        queue.put(wrapped)
        assert used(queue) < 1000
        got = queue.get()
        parts = got.values() if isinstance(got, dict) else got
        for part in parts:
            one = part[0] if isinstance(part, list) else part
            assert lies_in(one, path)
            # The receiver may write only an array that says that it is a file.
            assert one.flags.writeable == (mode == "r+" and type(one) is oc.MappedArray)
    pool["array"] = array
    assert np.shares_memory(pool["array"], array)
    assert np.shares_memory(pool.put((1, array)).get()[1], array)
    assert pool.stats().used < 2000


def test_what_does_not_lie_in_a_file_is_copied_as_ever(path, pool):
    array = oc.open_array(path)
    queue = pool.queue()
    others = (array + 1, np.arange(10_000), array[[1, 2]], array.copy(), np.array(array))
    for other in others:
        queue.put(other)
        got = queue.get()
        assert np.array_equal(got, other)
        assert not np.shares_memory(got, other)
    del got
    assert pool.stats().used == 0


def test_a_private_copy_travels_by_value(path, pool):
    array = oc.open_array(path, mode="c")
    array[0, 0] = 5
    queue = pool.queue()
    queue.put(array)
    got = queue.get()
    assert got[0, 0] == 5
    assert not np.shares_memory(got, array)
    assert pickle.loads(pickle.dumps(array))[0, 0] == 5


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickle(path, protocol):
    array = oc.open_array(path)
    data = pickle.dumps(array[::3], protocol)
    assert len(data) < 500
    got = pickle.loads(data)
    assert np.shares_memory(got, array)
    assert np.array_equal(got, array[::3])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_map_the_same_file(path, pool, start, method):
    array = oc.open_array(path, mode="r+")
    queue, answers = pool.queue(), pool.queue()
    child = start(method, answer_where, queue, answers)
    queue.put(array[7:])
    (inode, offset), kind, writable, total = answers.get(timeout=60)
    assert inode == path.stat().st_ino
    assert offset == 128 + 7 * 200 * 8
    assert (kind, writable, total) == ("MappedArray", True, float(array[7:].sum()))
    assert child.wait() == 0
    child = start(method, answer_argument, array[3], answers)
    (inode, offset), kind, writable, _ = answers.get(timeout=60)
    assert (inode, offset) == (path.stat().st_ino, 128 + 3 * 200 * 8)
    assert (kind, writable) == ("MappedArray", True)
    assert child.wait() == 0


def test_an_executor(path):
    array = oc.open_array(path)
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        place, total, pid = executor.submit(where_in_a_worker, array[1:3]).result(60)
    assert place == (path.stat().st_ino, 128 + 1600)
    assert total == array[1:3].sum()
    assert pid != os.getpid()


def test_what_one_writes_the_other_reads(path, pool):
    array = oc.open_array(path, mode="r+")
    child = os.fork()
    if child == 0:
        got = pickle.loads(pickle.dumps(array))
        got[5, 5] = 12345
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert array[5, 5] == 12345


# ------------------------------------------------------------------- files that change on the way


def replace(path):
    other = path.with_name("other")
    with other.open("wb") as file:
        np.save(file, np.zeros((300, 200)))
    other.replace(path)


def remove(path):
    path.unlink()


def shorten(path):
    os.truncate(path, 200)


def link(path):
    other = path.with_name("real.npy")
    path.rename(other)
    path.symlink_to(other)


def fifo(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [replace, remove, shorten, link, fifo])
def test_a_file_that_was_changed_after_it_was_sent(path, pool, change):
    """No process has it mapped any more."""
    array = oc.open_array(path)
    queue = pool.queue()
    queue.put(array)
    data = pickle.dumps(array[250:])
    del array
    change(path)
    for receive in (queue.get, lambda: pickle.loads(data)):
        with pytest.raises((oc.StaleRef, OSError, oc.BadFile), match=r"a\.npy"):
            receive()
    if change in {replace, remove, shorten}:
        with pytest.raises(oc.StaleRef):
            pickle.loads(data)


@pytest.mark.parametrize("change", [replace, remove])
def test_what_others_could_not_find_is_copied(path, pool, change):
    array = oc.open_array(path)
    kept = np.array(array)
    change(path)
    queue = pool.queue()
    queue.put(array)
    got = queue.get()
    assert not np.shares_memory(got, array)
    assert np.array_equal(got, kept)
    assert np.array_equal(pickle.loads(pickle.dumps(array)), kept)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_the_receivers_own_rights_count(path):
    array = oc.open_array(path)
    data = pickle.dumps(array)
    del array
    for directory in (path.parent, *path.parent.parents[:3]):
        directory.chmod(0o755)
    path.chmod(0o600)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            pickle.loads(data)
        except PermissionError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ------------------------------------------------------------------------------------- round trips

part = st.builds(
    slice, *[st.none() | st.integers(-8, 8)] * 2, st.sampled_from([None, 1, 2, -1, -3])
)


@settings(
    max_examples=more(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    dtype=st.sampled_from(["u1", "<f8", ">i4", "M8[s]", "S3", "i4,f8"]),
    shape=st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple),
    order=st.sampled_from("CF"),
    index=st.tuples(part) | st.tuples(part, part) | st.just(()),
    wrap=st.booleans(),
)
def test_any_view_of_any_file(tmp_path, pool, dtype, shape, order, index, wrap):
    random = np.random.default_rng(0)
    dtype = np.dtype(dtype)
    there = random.integers(0, 100, (*shape, dtype.itemsize), "u1").view(dtype).reshape(shape)
    memory = io.BytesIO()
    np.save(memory, np.asarray(there, order=order))
    path = tmp_path / "any.npy"
    path.unlink(missing_ok=True)
    path.write_bytes(memory.getvalue())
    array = oc.open_array(path)
    view = array[index[: array.ndim]]
    queue = pool.queue()
    queue.put([view] if wrap else view)
    got = queue.get()[0] if wrap else queue.get()
    assert got.dtype == view.dtype
    assert got.shape == view.shape
    assert got.tobytes() == view.tobytes() == there[index[: there.ndim]].tobytes()
    assert np.shares_memory(got, array) or not view.size


def test_an_inode_that_is_used_again(path):
    """A pickle may be older than its file, and older than the use of its inode number."""
    array = oc.open_array(path)
    number, data, content = path.stat().st_ino, pickle.dumps(array), path.read_bytes()
    del array
    for _ in range(100):
        path.unlink()
        path.write_bytes(content)
        if path.stat().st_ino == number:
            break
    else:
        pytest.skip("this file system does not use the numbers of inodes again")
    fd = os.open(path, os.O_RDONLY)
    try:
        if not _native.birth_ns(fd):
            pytest.skip("this file system does not tell when a file was made")
    finally:
        os.close(fd)
    with pytest.raises(oc.StaleRef, match="replaced"):
        pickle.loads(data)


def test_a_writable_copy_is_no_mapping(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(10_000.0))
    array = oc.open_array(tmp_path / "a.npy", mode="r+")
    for copy in (oc.writable_copy(array), oc.writable_copy({"part": [array[::2]]})["part"][0]):
        assert type(copy) is np.ndarray
        copy[0] = 5
        assert array[0] == 0


# ---- files that are something else ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start", "said"),
    [
        ("a.npy", b"garbage" * 50, "not a .npy file, in spite of its name"),
        ("a.npy", bytes(16) + b"{'descr': '<f8'}", "not a .npy file"),
        ("a.npz", b"PK\x03\x04" + bytes(100), "numpy.load"),
        ("a.bin", b"PK\x03\x04" + bytes(100), "an archive"),
        ("a.feather", b"ARROW1\x00\x00" + bytes(100), "open_table"),
        ("a", b"PAR1" + bytes(100), "open_table"),
    ],
)
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_file_of_another_kind(tmp_path, name, start, said, mode):
    path = tmp_path / name
    path.write_bytes(start)
    with pytest.raises(oc.BadFile, match=said):
        oc.open_array(path, mode=mode)
    assert bytes(oc.open_array(path, "u1", mode=mode)) == start  # if this is wanted
    assert path.read_bytes() == start


@given(st.data())
@settings(max_examples=more(200), deadline=None, suppress_health_check=list(HealthCheck))
def test_a_damaged_header(tmp_path, data):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(3))
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(8, 127))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the expressions that numpy evaluates
        with suppress(oc.BadFile):
            oc.open_array(path)
