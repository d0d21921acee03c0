"""Several pools that are looked at again and again."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import onecopy as oc
from onecopy.observer import Observer
from onecopy.observer.several import Watch


def found(watch):
    return {look.name: look for look in watch.look()}


def test_all_pools_of_the_directory(pool_directory):
    watch = Watch()
    assert watch.look() == []
    with oc.Pool.create("b", size="4MiB"), oc.Pool.create("a", size="4MiB"):
        (pool_directory / "junk.pool").write_bytes(b"junk")
        looks = watch.look()
        (pool_directory / "junk.pool").unlink()
    assert [look.name for look in looks] == ["a", "b", "junk"]
    assert [look.snapshot is None for look in looks] == [False, False, True]
    assert looks[2].problem
    assert not looks[2].gone


def test_a_pool_in_another_directory_that_has_a_name(tmp_path):
    with oc.Pool.create(tmp_path / "data", size="4MiB") as pool:
        path = pool.member.path
        assert [look.path for look in Watch([path]).look()] == [path]
        assert [look.path for look in Watch([pool]).look()] == [path]


def test_rates_need_two_looks():
    watch = Watch()
    with oc.Pool.create("a", size="4MiB") as pool:
        queue = pool.queue("jobs")
        assert watch.look()[0].snapshot.queues[0].put_rate is None
        queue.put(1)
        assert watch.look()[0].snapshot.queues[0].put_rate > 0


def test_a_pool_that_is_made_again_has_no_rates_at_first():
    watch = Watch()
    for _ in range(2):
        with oc.Pool.create("a", size="4MiB") as pool:
            pool.queue("jobs").put(1)
            seen = watch.look()[0].snapshot
            assert seen.seconds is None
            assert seen.queues[0].put_rate is None


def test_a_pool_that_vanishes_is_gone_for_a_while():
    kept, forgotten = Watch(keep_gone=1e9), Watch(keep_gone=0)
    with oc.Pool.create("a", size="4MiB"):
        assert [look.name for look in kept.look()] == ["a"]
        assert [look.name for look in forgotten.look()] == ["a"]
    (look,) = kept.look()
    assert (look.name, look.snapshot, look.problem, look.gone) == (
        "a",
        None,
        "the pool is gone",
        True,
    )
    assert forgotten.look() == []
    with oc.Pool.create("a", size="4MiB"):
        assert not kept.look()[0].gone


def test_named_pools_may_come_and_go():
    watch = Watch(["a", "b", "a"])
    assert [(look.name, look.gone) for look in watch.look()] == [("a", True), ("b", True)]
    with oc.Pool.create("b", size="4MiB"):
        assert [(look.name, look.gone) for look in watch.look()] == [("a", True), ("b", False)]


def test_a_name_that_no_pool_can_have():
    with pytest.raises(ValueError, match="cannot name a pool"):
        Watch(["a b"])


def test_a_damaged_pool_does_not_hide_the_others(pool_directory):
    with oc.Pool.create("good", size="4MiB"), oc.Pool.create("bad", size="4MiB") as bad:
        with Path(bad.member.path).open("r+b") as file:
            head = file.read(64)
            file.seek(0)
            file.write(struct.pack("64B", *(byte ^ 0xFF for byte in head)))
        looks = found(Watch())
        assert looks["good"].snapshot is not None
        assert looks["bad"].snapshot is None
        assert looks["bad"].problem
        with Path(bad.member.path).open("r+b") as file:
            file.write(head)
    assert not (pool_directory / "bad.pool").exists()


def test_a_pool_that_may_not_be_read(monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied", self.path)

    with oc.Pool.create("secret", size="4MiB") as pool:
        monkeypatch.setattr(Observer, "snapshot", refuse)
        (look,) = Watch().look()
        assert (look.snapshot, look.gone) == (None, False)
        assert look.problem == f"Permission denied: {pool.member.path}"
