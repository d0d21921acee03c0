"""Pools in files: they remain after their processes, and are found by path and by name."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from children import start as start_child

import onecopy as oc
from onecopy._core import paths, stale


def fill(path, name):
    """Make a pool and put things into it; runs in a process of its own."""
    pool = oc.Pool.create(name, "16MiB", backing=path)
    pool["array"] = np.arange(100_000)
    pool["words"] = {"one": [1, "two"], "more": np.ones((3, 50_000), np.float32)}
    queue = pool.queue("jobs")
    queue.put_many([1, 2, 3])
    pool.close()


def check(pool):
    assert sorted(pool) == ["array", "words"]
    assert np.array_equal(pool["array"], np.arange(100_000))
    assert np.array_equal(pool["words"]["more"], np.ones((3, 50_000), np.float32))
    assert pool["words"]["one"] == [1, "two"]
    assert pool.validate() == []


def hold_everything(path):
    pool = oc.Pool.open(path)
    lock = pool.lock("lock")
    lock.acquire()
    held = [pool.empty(100_000), pool["array"], pool.put([1] * 1000)]
    pool.event("ready").set()
    pool.event("never").wait()
    del held


@pytest.mark.parametrize("how", ["path", "name"])
def test_it_outlives_a_process_that_ends(elsewhere, how, start):
    path = str(elsewhere / "t.pool")
    assert start("stranger", fill, path, "tables").wait() == 0
    with oc.Pool.open("tables" if how == "name" else path) as pool:
        check(pool)
        assert pool.queue("jobs").get_many(3) == [1, 2, 3]
        assert pool.name == path
        pool.unlink()
    assert list(elsewhere.iterdir()) == []


def test_it_outlives_processes_that_are_killed(elsewhere, start):
    path = str(elsewhere / "t.pool")
    assert start("stranger", fill, path, None).wait() == 0
    with oc.Pool.open(path) as pool:
        used = pool.stats().used
        victims = [start(method, hold_everything, path) for method in ("fork", "stranger")]
        assert pool.event("ready").wait(60)
        for victim in victims:
            victim.kill()
    # No process was informed; the next one that opens it recovers.
    with oc.Pool.open(path) as pool:
        check(pool)
        with pytest.warns(oc.OwnerDiedWarning):
            assert pool.lock("lock").acquire(timeout=60)
        assert pool.stats().used == used
        assert pool.stats().processes == 1


def test_the_name_goes_with_the_pool_directory_and_the_path_stays(elsewhere, pool_directory):
    path = elsewhere / "t.pool"
    with oc.Pool("tables", "16MiB", backing=path) as pool:
        pool["a"] = 1
    shutil.rmtree(pool_directory)  # as a reboot does
    with pytest.raises(oc.PoolNotFound):
        oc.Pool.open("tables")
    with oc.Pool.open(path) as pool:
        assert pool["a"] == 1
    with oc.Pool("tables", backing=path) as pool:  # releases the name again
        assert pool["a"] == 1
    with oc.Pool.open("tables") as pool:
        assert pool["a"] == 1
        pool.unlink()
    assert list(pool_directory.iterdir()) == []


def test_a_name_that_is_taken(elsewhere):
    with oc.Pool.create("tables", "16MiB", backing=elsewhere / "a.pool") as pool:
        with pytest.raises(oc.PoolExists, match=r"a\.pool"):
            oc.Pool.create("tables", "16MiB")
        with pytest.raises(oc.PoolExists, match=r"a\.pool"):
            oc.Pool.create("tables", "16MiB", backing=elsewhere / "b.pool")
        with pytest.raises(oc.OneCopyError, match=r"leave backing out"):
            oc.Pool("tables", "16MiB", backing=elsewhere / "b.pool")
        assert list(elsewhere.iterdir()) == [elsewhere / "a.pool"]
        pool.unlink()
    with oc.Pool.create("camera", "16MiB"):
        with pytest.raises(oc.PoolExists, match="camera"):
            oc.Pool.create("camera", "16MiB", backing=elsewhere / "b.pool")
        assert list(elsewhere.iterdir()) == []


def test_a_name_whose_file_is_gone_is_free(elsewhere):
    with oc.Pool.create("tables", "16MiB", backing=elsewhere / "a.pool"):
        (elsewhere / "a.pool").unlink()
    with pytest.raises(oc.PoolNotFound, match=r"a\.pool"):
        oc.Pool.open("tables")
    with oc.Pool("tables", "16MiB") as pool:
        assert pool.name == "tables"


@pytest.mark.parametrize("how", ["link", "writable", "relative", "cut", "long"])
def test_a_signpost_of_somebody_else_is_not_followed(elsewhere, pool_directory, how):
    with oc.Pool.create(elsewhere / "t.pool", "16MiB", persistent=True):
        pass
    text = b"onecopy-path 1 " + os.fsencode(elsewhere / "t.pool") + b"\n"
    goal = pool_directory / "tables.pool"
    if how == "link":
        (elsewhere / "post").write_bytes(text)
        goal.symlink_to(elsewhere / "post")
    else:
        goal.write_bytes(
            {"relative": b"onecopy-path 1 t.pool\n", "cut": text[:-1], "long": text * 1000}.get(
                how, text
            )
        )
        goal.chmod(0o622 if how == "writable" else 0o600)
    with pytest.raises((oc.PoolCorrupted, PermissionError)):
        oc.Pool.open("tables")
    goal.unlink()


def test_sweeping_leaves_names_alone(elsewhere, pool_directory):
    with oc.Pool.create("tables", "16MiB", backing=elsewhere / "t.pool"):
        pass
    stale.sweep(str(pool_directory), remove=True)
    assert paths.signpost("tables") == str(elsewhere / "t.pool")
    (pool_directory / "tables.pool").unlink()


def test_a_name_besides_a_path_has_no_slash(elsewhere):
    with pytest.raises(ValueError, match="a name has no slash"):
        oc.Pool.create(elsewhere / "a", "16MiB", backing=elsewhere / "b")
    assert list(elsewhere.iterdir()) == []


def test_flush(elsewhere, pool):
    pool["a"] = 1
    pool.flush()  # in memory: nothing to do
    with oc.Pool.create(size="16MiB", backing="memfd") as other:
        other.flush()
    with oc.Pool.create(elsewhere / "t.pool", "16MiB") as kept:
        kept["a"] = np.arange(1000)
        kept.flush()
        assert np.arange(1000).tobytes() in (elsewhere / "t.pool").read_bytes()
    with pytest.raises(oc.OneCopyError, match="closed"):
        kept.flush()


def test_a_pool_in_a_file_without_a_name_has_only_its_path(elsewhere, pool_directory):
    child = start_child("fork", fill, str(elsewhere / "t.pool"), None)
    assert child.wait() == 0
    child.end()
    assert list(pool_directory.iterdir()) == []
    with oc.Pool(elsewhere / "t.pool") as pool:
        check(pool)


# ---- what is in the way --------------------------------------------------------------------------


@pytest.mark.parametrize("made", ["text", "npy", "directory", "fifo", "empty"])
def test_what_is_no_pool_is_not_to_be_removed(elsewhere, made):
    path = elsewhere / "thing"
    if made == "directory":
        path.mkdir()
    elif made == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes({"text": b"dear diary\n" * 1000, "npy": b"\x93NUMPY", "empty": b""}[made])
    for mode in ("r+", "r"):
        with pytest.raises(oc.OneCopyError, match="is no pool of onecopy") as caught:
            oc.Pool.open(path, mode=mode)
        assert "remove" not in str(caught.value)


def test_links(elsewhere):
    real = elsewhere / "real"
    real.mkdir()
    (elsewhere / "directory").symlink_to(real)
    (real / "link.pool").symlink_to("t.pool")
    with oc.Pool.create(backing=elsewhere / "directory" / "t.pool", size="1MiB") as pool:
        pool["x"] = 1
        assert pool.member.path == str(real / "t.pool")
        assert oc.Pool.open(elsewhere / "directory" / "t.pool")["x"] == 1
    for mode in ("r+", "r"):
        with pytest.raises(PermissionError, match="is a symbolic link"):
            oc.Pool.open(real / "link.pool", mode=mode)


@pytest.mark.parametrize("missing", ["a", "a/b"])
def test_a_directory_that_is_not_there(elsewhere, missing):
    with pytest.raises(
        FileNotFoundError, match=r"the directory for the pool's file 't\.pool' does not exist"
    ):
        oc.Pool.create(backing=elsewhere / missing / "t.pool", size="1MiB")
    assert not (elsewhere / "a").exists()


def test_a_size_that_no_pool_has(elsewhere):
    with pytest.raises(ValueError, match="1 byte to 64 TiB"):
        oc.Pool.create(backing=elsewhere / "t.pool", size="100TiB")


def test_a_file_that_another_program_has_locked(elsewhere):
    path = elsewhere / "t.pool"
    oc.Pool.create(backing=path, size="1MiB").close()
    code = f"""
import fcntl, sys
file = open({str(path)!r}, "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        other.stdout.readline()
        with pytest.raises(oc.OneCopyError, match=f"locked its file.*process {other.pid}"):
            oc.Pool.open(path)
        other.stdin.close()
    oc.Pool.open(path).close()
