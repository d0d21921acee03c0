import os

import pytest

import onecopy as oc
from onecopy import inspect


def hold(pool, ready, leave):
    array = pool.empty(1 << 20, "u1")
    ready.put(os.getpid())
    leave.get()
    del array


def test_pools_are_listed(pool_directory):
    assert inspect.list_pools() == []
    with oc.Pool.create("b", size="16MiB") as pool, oc.Pool.create("a", size="32MiB"):
        array = pool.empty(1000, "u1")
        (pool_directory / "junk.pool").write_bytes(b"junk")
        listed = inspect.list_pools()
        assert [(info.name, info.state) for info in listed] == [
            ("a", "in_use"),
            ("b", "in_use"),
            ("junk", "not_a_pool"),
        ]
        assert listed[0].stats.size == 32 << 20
        assert listed[1].stats.used >= 1000
        assert listed[2].stats is None
        assert pool.stats().processes == 1
        (pool_directory / "junk.pool").unlink()
        del array


def test_a_directory_that_is_missing_has_no_pools(tmp_path):
    assert inspect.list_pools(str(tmp_path / "none")) == []
    assert inspect.gc(str(tmp_path / "none")) == []


def test_a_pool_is_looked_into(pool):
    pool["calibration"] = 1
    pool.queue("jobs")
    pool.stream("camera")
    pool.frames("cam0", (2, 2), "u1", 3)
    pool.shared_array(3, name="grid")
    pool.lock("gpu")
    pool.rwlock("table")
    pool.barrier("start", 2)
    pool.value("d", name="level")
    pool.list(name="events")
    view = inspect.inspect_pool(pool.name)
    assert view.names == {
        "object": ["calibration"],
        "queue": ["jobs"],
        "stream": ["camera"],
        "frames": ["cam0"],
        "array": ["grid"],
        "lock": ["gpu"],
        "rlock": [],
        "rwlock": ["table"],
        "semaphore": [],
        "bounded_semaphore": [],
        "event": [],
        "condition": [],
        "barrier": ["start"],
        "value": ["level"],
        "value_lock": ["level"],
        "list": ["events"],
        "dict": [],
    }
    assert view.problems == []
    assert (view.id, view.path) == (pool.id.hex(), pool.member.path)
    assert (view.persistent, view.memfd) == (False, False)
    assert view.stats.name == pool.name
    assert [holder.pid for holder in view.holders] == [os.getpid()]


def open_the_level(pool, ready, leave):
    level = pool.value("d", name="level")
    ready.put(os.getpid())
    leave.get()
    level.value = 1.0


def test_who_has_a_value_open(pool, start):
    def processes():
        view = inspect.inspect_pool(pool.name)
        (count,) = [thing.processes for thing in view.things if thing.kind == "value"]
        return count

    ready, leave = pool.queue(), pool.queue()
    level = pool.value("d", name="level")
    assert processes() == 1
    child = start("spawn", open_the_level, pool, ready, leave)
    ready.get()
    assert processes() == 2
    del level
    assert processes() == 1
    leave.put(None)
    assert child.wait() == 0
    pool.collect()
    assert processes() == 0


def be_there(ready, leave):
    pool = oc.Pool.create("elsewhere", size="16MiB")
    ready.put(pool.name)
    leave.get()


def test_who_looks_is_not_counted(pool, start):
    ready, leave = pool.queue(), pool.queue()
    child = start("spawn", be_there, ready, leave)
    view = inspect.inspect_pool(ready.get())
    assert view.stats.processes == len(view.holders) == 1
    (listed,) = [info for info in inspect.list_pools() if info.name == "elsewhere"]
    assert listed.stats.processes == 1
    with oc.Pool.open("elsewhere") as joined:  # a member that only looks counts
        assert inspect.inspect_pool("elsewhere").stats.processes == joined.stats().processes == 2
    leave.put(None)
    assert child.wait() == 0


def test_a_pool_that_is_missing(pool_directory):
    with pytest.raises(oc.PoolNotFound):
        inspect.inspect_pool("none")
    with pytest.raises(oc.PoolNotFound):
        inspect.holders("none")


def test_holders_are_listed_largest_first(pool, start):
    ready, leave = pool.queue(), pool.queue()
    child = start("spawn", hold, pool, ready, leave)
    pid = ready.get()
    mine = pool.empty(1000, "u1")
    first, second = inspect.holders(pool.name)
    assert (first.pid, first.alive, first.bytes, first.blocks) == (pid, True, 1 << 20, 1)
    assert (second.pid, second.alive) == (os.getpid(), True)
    assert first.start_ticks > 0
    assert first.born_ns > 1_600_000_000 * 10**9
    leave.put(None)
    assert child.wait() == 0
    del mine


def die():
    # The stale pool last: making a pool removes the stale pools of the directory.
    oc.Pool.create("kept", size="16MiB", persistent=True)["a"] = 1
    stale = oc.Pool.create("stale", size="16MiB")
    stale["a"] = 1
    os._exit(3)


def test_orphans_are_removed(pool_directory, start):
    assert start("spawn", die).wait() == 3
    states = {info.name: info.state for info in inspect.list_pools()}
    assert states == {"kept": "persistent", "stale": "stale"}
    assert [(info.name, info.state) for info in inspect.gc(dry_run=True)] == [("stale", "stale")]
    assert sorted(path.name for path in pool_directory.iterdir()) == ["kept.pool", "stale.pool"]
    assert [(info.name, info.state) for info in inspect.gc()] == [("stale", "removed")]
    assert sorted(path.name for path in pool_directory.iterdir()) == ["kept.pool"]
    oc.Pool.open("kept").unlink()


def test_an_orphan_goes_with_the_next_use_of_the_directory(pool_directory, start):
    assert start("spawn", die).wait() == 3
    with oc.Pool.create("new", size="16MiB"):
        assert sorted(path.name for path in pool_directory.iterdir()) == ["kept.pool", "new.pool"]
    oc.Pool.open("kept").unlink()


def test_an_orphan_is_no_pool_to_open(start):
    assert start("spawn", die).wait() == 3
    with pytest.raises(oc.PoolNotFound):
        oc.Pool.open("stale")
    with oc.Pool("stale", size="16MiB") as pool:
        assert len(pool) == 0
    oc.Pool.open("kept").unlink()
