import copy
import gc
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import onecopy as oc
from onecopy._core import pool_files


def files(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_pool_is_a_file_that_goes_with_its_last_process(pool_directory):
    pool = oc.Pool.create("camera", size="16MiB")
    assert files(pool_directory) == ["camera.pool"]
    assert (pool.name, len(pool.id), pool.size, pool.closed) == ("camera", 16, 16 << 20, False)
    pool.close()
    assert pool.closed
    assert files(pool_directory) == []


def test_the_file_and_its_directory_are_the_owners_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("ONECOPY_DIR", str(tmp_path / "made"))
    with oc.Pool.create("camera", size="16MiB"):
        assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "made" / "camera.pool").stat().st_mode & 0o777 == 0o600


def test_a_pool_that_is_dropped_is_left(pool_directory):
    pool = oc.Pool.create(size="16MiB")
    assert len(files(pool_directory)) == 1
    del pool
    gc.collect()
    assert files(pool_directory) == []


def test_the_constructor_makes_or_opens():
    with oc.Pool("camera", size="16MiB") as first, oc.Pool("camera", size="16MiB") as second:
        assert first == second
        assert hash(first) == hash(second)
        assert first.id == second.id
        first["a"] = 1
        assert second["a"] == 1
        with oc.Pool("camera") as third:
            assert third.size == 16 << 20
    with oc.Pool("camera", size="32MiB") as fourth:
        assert fourth.size == 32 << 20
        assert fourth != first
        assert "a" not in fourth


def test_create_insists_on_making():
    with oc.Pool.create("camera", size="16MiB"), pytest.raises(oc.PoolExists, match="camera"):
        oc.Pool.create("camera", size="16MiB")


def test_open_insists_on_finding():
    with pytest.raises(oc.PoolNotFound, match="camera"):
        oc.Pool.open("camera")


def test_another_size_contradicts():
    with oc.Pool.create("camera", size="16MiB") as pool:
        with pytest.raises(oc.OneCopyError, match=r"16777216.*33554432"):
            oc.Pool("camera", size="32MiB")
        assert pool.stats().processes == 1


def test_anonymous_pools_are_distinct():
    with oc.Pool.create(size="16MiB") as first, oc.Pool.create(size="16MiB") as second:
        assert first.name != second.name
        assert first != second
        with oc.Pool.open(first.name) as found:
            assert found == first


@pytest.mark.parametrize("size", [0, -1, "0", "-5MB", "many", ""])
def test_sizes_that_are_none_are_refused(size, pool_directory):
    for make in (oc.Pool.create, oc.Pool):
        with pytest.raises(ValueError, match="size"):
            make("camera", size=size)
    assert files(pool_directory) == []


def test_a_size_larger_than_the_machine_is_refused_at_once(pool_directory):
    for backing in ("shm", "memfd"):
        with pytest.raises(oc.PoolFull, match=r"can never fit.*memory"):
            oc.Pool.create("camera", size="900TiB", backing=backing)
    assert files(pool_directory) == []


@pytest.mark.parametrize("name", ["", "a b", "x" * 101, "..", "ü"])
def test_bad_names_are_refused(name):
    for call in (oc.Pool.open, lambda name: oc.Pool(name, size="16MiB")):
        with pytest.raises(ValueError, match="cannot name a pool"):
            call(name)


@pytest.mark.parametrize("processes", [0, -1, 513])
def test_a_bad_number_of_processes_is_refused(processes):
    with pytest.raises(ValueError, match="max_processes"):
        oc.Pool.create(size="16MiB", max_processes=processes)


def test_an_unknown_backing_is_refused():
    with pytest.raises(ValueError, match="backing='ram'"):
        oc.Pool.create(size="16MiB", backing="ram")


def test_a_small_pool_works():
    with oc.Pool.create(size=1 << 16) as pool:
        assert pool.put([1, 2]).get() == [1, 2]
        with pytest.raises(oc.PoolFull, match="can never fit"):
            pool.zeros(1 << 20)


def test_a_memfd_pool_is_found_by_its_name(pool_directory):
    with oc.Pool.create("camera", size="16MiB", backing="memfd") as pool:
        pool["a"] = np.arange(5)
        assert (pool_directory / "camera.pool").stat().st_size < 1 << 20
        program = "import onecopy; print(onecopy.Pool.open('camera')['a'].sum())"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == ("10\n", "")
    assert files(pool_directory) == []


def test_where_shared_memory_is_small_a_memfd_is_used_and_it_is_said(monkeypatch, caplog):
    class Small:
        f_bavail = 16
        f_frsize = 1 << 20

    monkeypatch.setattr(os, "statvfs", lambda _: Small)
    with caplog.at_level(logging.WARNING, "onecopy"), oc.Pool.create(size="64MiB") as pool:
        assert pool.member.memfd
        assert "16.0 MiB free, less than the 64.0 MiB" in caplog.text
    caplog.clear()
    with oc.Pool.create(size="8MiB") as pool:
        assert not pool.member.memfd
    assert caplog.text == ""


def test_a_pool_on_disk_stays(tmp_path):
    path = tmp_path / "table.pool"
    with oc.Pool.create(backing=path, size="16MiB") as pool:
        assert pool.name == str(path)
        pool["table"] = {"rows": np.arange(10_000)}
    assert path.exists()
    with oc.Pool.open(path) as pool:
        np.testing.assert_array_equal(pool["table"]["rows"], np.arange(10_000))
        assert pool.validate() == []
    with oc.Pool(path, size="16MiB") as pool:
        assert list(pool) == ["table"]
        pool.unlink()
    assert not path.exists()


def test_a_pool_on_disk_is_named_by_its_file(tmp_path):
    with pytest.raises(ValueError, match="a name has no slash"):
        oc.Pool.create("./table", backing=tmp_path / "table.pool", size="16MiB")
    with pytest.raises(ValueError, match="needs one"):
        oc.Pool.create(backing=tmp_path / "table.pool")


def test_a_persistent_pool_stays(pool_directory):
    with oc.Pool.create("kept", size="16MiB", persistent=True) as pool:
        pool["a"] = [1]
    assert files(pool_directory) == ["kept.pool"]
    with oc.Pool.open("kept") as pool:
        assert pool["a"] == [1]
        pool.unlink()
    assert files(pool_directory) == []


@pytest.mark.parametrize("size", [16 << 20, (128 << 20) + 4096, 200 << 20])
def test_prefault_takes_the_memory_at_once(size, pool_directory):
    with oc.Pool.create("full", size=size, prefault=True) as pool:
        assert pool.stats().committed == pool.stats().size >= size
        assert (pool_directory / "full.pool").stat().st_blocks * 512 >= size
        assert pool.validate() == []


def test_unlink_takes_the_name_and_leaves_the_members(pool_directory):
    with oc.Pool.create("camera", size="16MiB") as pool:
        pool["a"] = 1
        pool.unlink()
        assert files(pool_directory) == []
        assert pool["a"] == 1
        with pytest.raises(oc.PoolNotFound):
            oc.Pool.open("camera")
        with oc.Pool.create("camera", size="16MiB") as other:
            assert other != pool
        with pytest.raises(oc.PoolNotFound, match="has no name any more: it was unlinked before"):
            pool.unlink()


def test_stats_count_what_is_held(pool):
    empty = pool.stats()
    assert (empty.name, empty.size, empty.used, empty.free) == (pool.name, 64 << 20, 0, 64 << 20)
    assert (empty.blocks, empty.processes, empty.max_processes, empty.structures) == (0, 1, 512, 0)
    array = pool.empty(1 << 20, "u1")
    queue = pool.queue()
    stats = pool.stats()
    assert (stats.used, stats.blocks, stats.structures) == (1 << 20, 1, 1)
    assert stats.free == stats.size - stats.used - stats.structure_bytes
    assert stats.committed >= stats.used
    with pytest.raises(AttributeError):
        stats.used = 0
    del array, queue
    assert pool.stats()._replace(committed=0) == empty._replace(committed=0)


def test_collect_gives_memory_back_and_reclaims_nothing_of_the_living(pool):
    array = pool.empty(32 << 20, "u1")
    array[:] = 1
    assert pool.collect() == 0
    committed = pool.stats().committed
    assert committed >= 32 << 20
    del array
    assert pool.collect() == 0
    assert pool.stats().committed <= committed - (28 << 20)


def test_a_closed_pool_says_so(pool):
    pool.close()
    pool.close()
    for call in (
        lambda: pool.put(1),
        lambda: pool.empty(1),
        lambda: pool.queue("q"),
        lambda: pool["a"],
        lambda: len(pool),
        pool.stats,
        pool.unlink,
        lambda: pickle.dumps(pool),
    ):
        with pytest.raises(oc.OneCopyError, match="was closed here"):
            call()
    assert repr(pool) == f"<onecopy.Pool {pool.name!r}, closed>"
    assert len(pool.id) == 16


def test_closing_lets_go_of_channels_made_by_it_and_of_no_others(pool_directory):
    first = oc.Pool.create("camera", size="16MiB")
    second = oc.Pool.open("camera")
    mine, frames, stream = first.queue("q"), first.frames(None, (4,), "u1", 2), first.stream()
    yours = second.queue("q")
    first.close()
    for call in (mine.qsize, lambda: frames.available, stream.subscribe, lambda: mine.put(1)):
        with pytest.raises(oc.OneCopyError):
            call()
    assert [repr(part) for part in (mine, frames, stream)] == [
        "<onecopy.Queue 'q', closed>",
        "<onecopy.Frames, closed>",
        "<onecopy.Stream, closed>",
    ]
    yours.put(1)
    assert yours.get() == 1
    second.close()
    assert files(pool_directory) == []


def test_arrays_and_references_outlive_close(pool_directory):
    pool = oc.Pool.create(size="16MiB")
    array, ref = pool.full(1000, 7, "u1"), pool.put({"a": np.ones(10_000)})
    pool.close()
    assert array.sum() == 7000
    array[:] = 8
    assert ref.get()["a"].sum() == 10_000
    assert len(files(pool_directory)) == 1
    del array, ref
    assert files(pool_directory) == []


def test_a_pool_is_pickled_by_reference(pool):
    pool["a"] = 1
    for twin in (pickle.loads(pickle.dumps(pool)), copy.copy(pool), copy.deepcopy(pool)):
        assert twin == pool
        assert twin.name == pool.name
        assert twin["a"] == 1
    assert pool.stats().processes == 1


def test_a_pickled_pool_that_is_gone_says_so():
    with oc.Pool.create("camera", size="16MiB") as pool:
        data = pickle.dumps(pool)
    with pytest.raises(oc.PoolNotFound):
        pickle.loads(data)
    with oc.Pool.create("camera", size="16MiB"), pytest.raises(oc.PoolNotFound, match="another"):
        pickle.loads(data)


def test_representation(pool):
    array = pool.empty(1 << 20, "u1")
    assert repr(pool) == f"<onecopy.Pool {pool.name!r}, 1.0 MiB of 64.0 MiB in use>"
    del array


# ----------------------------------------------------------------------------- hostile and damaged


def pool_file(pool_directory, content, mode=0o600):
    path = pool_directory / "camera.pool"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("content", [b"", b"x", b"no pool" * 1000, bytes(1 << 20)])
def test_a_file_that_is_no_pool_is_refused(pool_directory, content):
    path = pool_file(pool_directory, content)
    with pytest.raises((oc.PoolCorrupted, oc.PoolVersionError), match="camera"):
        oc.Pool.open("camera")
    with pytest.raises((oc.PoolCorrupted, oc.PoolVersionError)):
        oc.Pool("camera", size="16MiB")
    with pytest.raises(oc.PoolExists):
        oc.Pool.create("camera", size="16MiB")
    assert path.read_bytes() == content
    path.unlink()


def kept_pool():
    with oc.Pool.create("camera", size="16MiB", persistent=True) as pool:
        pool["a"] = list(range(1000))
        return Path(pool.member.path)


def test_a_pool_of_another_version_is_refused_by_name():
    path = kept_pool()
    content = bytearray(path.read_bytes()[:4096])
    content[8] += 1  # the layout's version follows the magic
    with path.open("r+b") as file:
        file.write(content)
    with pytest.raises(oc.PoolVersionError, match="camera"):
        oc.Pool.open("camera")
    path.unlink()


def test_a_truncated_pool_is_refused():
    path = kept_pool()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(oc.PoolCorrupted, match="camera"):
        oc.Pool.open("camera")
    path.unlink()


def test_a_link_is_refused(pool_directory):
    path = kept_pool()
    elsewhere = path.rename(pool_directory / "elsewhere")
    path.symlink_to(elsewhere)
    with pytest.raises((oc.PoolCorrupted, OSError)):
        oc.Pool.open("camera")
    path.unlink()
    elsewhere.unlink()


def test_a_file_that_cannot_be_read_is_refused(pool_directory):
    path = kept_pool()
    path.chmod(0o000)
    if os.access(path, os.R_OK):
        path.unlink()
        pytest.skip("permissions do not bind this user")
    with pytest.raises(PermissionError):
        oc.Pool.open("camera")
    path.unlink()


def test_a_directory_that_others_may_write_is_refused(tmp_path, monkeypatch):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    monkeypatch.setenv("ONECOPY_DIR", str(open_to_all))
    with pytest.raises(PermissionError, match="open"):
        oc.Pool.create("camera", size="16MiB")


def test_a_directory_that_is_a_link_is_refused(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("ONECOPY_DIR", str(tmp_path / "link"))
    with pytest.raises((PermissionError, NotADirectoryError)):
        oc.Pool.create("camera", size="16MiB")


def test_a_pool_that_another_user_could_write_is_not_unpickled():
    with oc.Pool.create("camera", size="16MiB", mode=0o660) as pool:
        pool["plain"] = (1, "two")
        pool["array"] = np.arange(10)
        pool["dict"] = {"a": [1, {2}]}
        pool["pickled"] = {"a": range(5)}
        assert pool["plain"] == (1, "two")
        assert pool["dict"] == {"a": [1, {2}]}
        assert pool["array"].sum() == 45
        with pytest.raises(oc.Untrusted):
            pool["pickled"]


def test_the_process_table_is_finite():
    with oc.Pool.create("camera", size="16MiB", max_processes=1) as pool:
        program = "import onecopy; onecopy.Pool.open('camera')"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "OneCopyError" in done.stderr
        assert pool.stats().processes == 1


def test_swap_is_read():
    assert pool_files._swap() >= 0
