"""Pools and other users, with a real second user: which may join, and what is never unpickled."""

from __future__ import annotations

import ast  # noqa: F401 - a stranger may not be able to read the interpreter's files
import os
import pickle
import queue  # noqa: F401 - as above
import struct
from pathlib import Path

import numpy as np
import pytest
from forks import in_child
from handles import parts

import onecopy as oc

NOBODY = 65534
SAID = "users other than this one may write the pool.*mode=0o600"

second_user = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a second user")


def as_nobody(function, *arguments):
    """Run it as an unprivileged user; return None, or the error."""

    def become():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        function(*arguments)

    return in_child(become)


@pytest.fixture
def shared(pool_directory):
    """A directory that others may read, and the path of a pool in it."""
    pool_directory.chmod(0o755)
    yield str(pool_directory / "shared.pool")
    for path in pool_directory.iterdir():
        path.unlink()


class Mine:
    """An object that only a pickle can carry; it records when it was unpickled."""

    def __reduce__(self):
        return _run, ()


def _run():
    raise AssertionError("it was unpickled")


UNITS = np.dtype("i4", metadata={"unit": "m"})  # written as a pickle


def make(path, mode):
    with oc.Pool.create(path, size="16MiB", persistent=True, mode=mode) as pool:
        fill(pool)


def fill(pool):
    pool["plain"] = (1, "two", b"three", 4.0, None, True)
    pool["array"] = np.arange(1000)
    pool["struct"] = np.zeros(3, dtype=[("x", "i4"), ("y", "f8")])
    pool["text"] = "ä" * 1000
    pool["bytes"] = b"b" * 1000
    pool["small"] = Mine()
    pool["large"] = [Mine(), b"x" * 5000, np.arange(5000), np.arange(6000)]
    pool["units"] = np.zeros(10, UNITS)
    channel = pool.queue("queue")
    for item in (Mine(), [Mine(), "x" * 1000], np.zeros(10, UNITS), 7, np.arange(10)):
        channel.put(item)
    pool.frames("frames", (10,), UNITS, 2)
    pool.frames("plain frames", (10,), "f4", 2)
    pool.stream("stream", depth=4, policy="latest").publish(Mine())


def see_only_data(path):
    """Everything that is data arrives; everything that is a pickle is refused."""
    with oc.Pool.open(path) as pool:
        assert pool.member.others_may_write
        assert pool["plain"] == (1, "two", b"three", 4.0, None, True)
        assert pool["array"].sum() == 499_500
        assert pool["struct"]["y"].sum() == 0
        assert pool["text"] == "ä" * 1000
        assert pool["bytes"] == b"b" * 1000
        assert pool.put({"a": [1, {2}], "b": np.arange(3)}).get()["a"] == [1, {2}]
        for name in ("small", "large", "units"):
            with pytest.raises(oc.Untrusted, match=SAID):
                pool[name]
        channel = pool.queue("queue")
        for _ in range(3):
            with pytest.raises(oc.Untrusted, match=SAID):
                channel.get(timeout=0)
        assert channel.get(timeout=0) == 7
        assert channel.get(timeout=0).sum() == 45
        with pytest.raises(oc.Untrusted, match=SAID):
            pool.frames("frames")
        assert pool.frames("plain frames").acquire(timeout=0).shape == (10,)
        reader = pool.stream("stream").subscribe()
        with pytest.raises(oc.Untrusted, match=SAID):
            reader.get(timeout=0)
        reference = pool.put({"a": range(1)})
        with pytest.raises(oc.Untrusted, match=SAID):
            reference.get()
        assert pool.put(np.arange(5)).get().sum() == 10
        assert pool.validate() == []


@pytest.mark.parametrize("mode", [0o660, 0o666, 0o620, 0o602])
def test_a_pool_that_others_may_write_is_not_unpickled_by_its_owner(shared, mode):
    assert in_child(make, shared, mode) is None
    assert in_child(see_only_data, shared) is None


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_pool_that_others_may_only_read_is_unpickled(shared, mode):
    with oc.Pool.create(shared, size="16MiB", persistent=True, mode=mode) as pool:
        pool["a"] = {"a": range(1)}
        assert not pool.member.others_may_write
        assert pool["a"] == {"a": range(1)}


def refused(path, error):
    for again in (
        lambda: oc.Pool.open(path),
        lambda: oc.Pool.open(path, mode="r"),
        lambda: oc.Pool(path, size="16MiB"),
    ):
        with pytest.raises(error):
            again()


@second_user
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_stranger_is_refused(shared, mode):
    assert in_child(make, shared, mode) is None
    before = state_of(shared)
    assert as_nobody(refused, shared, PermissionError) is None
    assert state_of(shared) == before


def state_of(path):
    there = Path(path).stat()
    return there.st_ino, there.st_mode, there.st_size, there.st_mtime_ns


@second_user
def test_a_stranger_cannot_look_into_a_directory(pool_directory):
    path = str(pool_directory / "shared.pool")
    assert in_child(make, path, 0o666) is None
    assert as_nobody(refused, path, PermissionError) is None
    Path(path).unlink()


@second_user
def test_a_stranger_joins_where_it_may_and_unpickles_nothing(shared):
    assert in_child(make, shared, 0o666) is None
    assert as_nobody(see_only_data, shared) is None


@second_user
def test_a_member_is_not_harmed_by_what_a_stranger_puts(shared):
    with oc.Pool.create(shared, size="16MiB", mode=0o666) as pool:
        channel = pool.queue("queue")
        assert as_nobody(put_things, shared) is None
        assert channel.get(timeout=10) == "hello"
        with pytest.raises(oc.Untrusted, match=SAID):
            channel.get(timeout=10)
        assert channel.get(timeout=10).tolist() == [0, 1, 2]
        assert pool.validate() == []


def put_things(path):
    with oc.Pool.open(path) as pool:
        channel = pool.queue("queue")
        for item in ("hello", {"a": range(1)}, np.arange(3)):
            channel.put(item)


@second_user
@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_pool_of_another_user(pool_directory, mode):
    """Root does not unpickle the objects of other users either."""
    other = pool_directory / "theirs"
    other.mkdir()
    os.chown(other, NOBODY, NOBODY)
    pool_directory.chmod(0o711)
    path = str(other / "shared.pool")
    assert as_nobody(make, path, mode) is None
    if mode == 0o600:
        assert in_child(refused, path, PermissionError) is None
    else:
        assert in_child(see_only_data, path) is None
    Path(path).unlink()
    other.rmdir()


def set_flags(path, flags):
    with Path(path).open("r+b") as file:
        file.seek(56)
        before = struct.unpack("<Q", file.read(8))[0]
        file.seek(56)
        file.write(struct.pack("<Q", flags(before)))


def test_a_flag_that_was_cleared_gains_no_trust(shared):
    """The mode of the file says that others may write, whether they have written or not."""
    assert in_child(make, shared, 0o666) is None
    set_flags(shared, lambda flags: flags & ~4)
    assert in_child(see_only_data, shared) is None
    if os.geteuid() == 0:
        assert as_nobody(refused, shared, PermissionError) is None


def test_a_flag_that_says_memfd_gains_no_trust(shared):
    assert in_child(make, shared, 0o666) is None
    set_flags(shared, lambda flags: flags & ~4 | 2)
    assert in_child(refused, shared, oc.PoolCorrupted) is None


def test_a_flag_changed_while_it_is_open_changes_nothing(shared):
    with oc.Pool.create(shared, size="16MiB", mode=0o666) as pool:
        pool["a"] = {"a": range(1)}
        set_flags(shared, lambda flags: flags & ~4 | 2)
        assert pool.member.others_may_write
        for again in (pool, oc.Pool.of(pool.member)):
            with pytest.raises(oc.Untrusted):
                again["a"]


def test_what_the_file_says_when_one_joins_is_what_counts(shared):
    with oc.Pool.create(shared, size="16MiB", persistent=True) as pool:
        pool["a"] = {"a": range(1)}
        Path(shared).chmod(0o666)
        assert pool["a"] == {"a": range(1)}
        if os.geteuid() == 0:  # the creator did not intend it
            assert as_nobody(refused, shared, PermissionError) is None
    assert in_child(is_not_unpickled, shared) is None


def is_not_unpickled(path):
    with oc.Pool.open(path) as pool, pytest.raises(oc.Untrusted):
        pool["a"]


def test_a_dtype_that_was_read_in_a_trusted_pool_is_not_trusted_in_another(shared):
    """A cache of dtypes must not replace a check."""
    with (
        oc.Pool.create(size="16MiB") as mine,
        oc.Pool.create(shared, size="16MiB", mode=0o666) as theirs,
    ):
        mine["a"] = np.zeros(3, UNITS)
        theirs["a"] = np.zeros(3, UNITS)
        assert mine["a"].dtype.metadata == {"unit": "m"}
        with pytest.raises(oc.Untrusted):
            theirs["a"]


@second_user
def test_a_stranger_cannot_use_a_pickled_handle(shared):
    with oc.Pool.create(shared, size="16MiB", persistent=True) as pool:
        reference = pool.put([1, 2])
        rebuild, arguments = parts(pickle.dumps(reference))
        del reference
    assert as_nobody(cannot_rebuild, rebuild, arguments) is None


def cannot_rebuild(rebuild, arguments):
    with pytest.raises(PermissionError):
        rebuild(*arguments)
