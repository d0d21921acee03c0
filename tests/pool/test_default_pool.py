import threading

import numpy as np
import pytest

import onecopy as oc
from onecopy._core import default_size


def test_it_is_made_on_first_use_and_stays(pool_directory):
    assert list(pool_directory.iterdir()) == []
    pool = oc.default_pool()
    assert oc.default_pool() is pool
    assert pool.size == 256 << 20
    assert len(list(pool_directory.iterdir())) == 1


def test_after_it_was_closed_there_is_a_new_one():
    first = oc.default_pool()
    first.close()
    assert oc.default_pool() != first


def test_the_functions_of_the_package_work_on_it():
    pool = oc.default_pool()
    array, empty, zeros = oc.array([1, 2]), oc.empty((2, 3), "u1"), oc.zeros(4)
    ref, shared = oc.put({"a": 1}), oc.shared_array((2,), "i4", name="s")
    assert (array.tolist(), empty.shape, zeros.tolist()) == ([1, 2], (2, 3), [0.0] * 4)
    assert ref.get() == {"a": 1}
    assert isinstance(shared, oc.SharedArray)
    channels = oc.Queue(), oc.Stream(), oc.Frames((2,), "u1", 3)
    for part in (ref, *channels):
        assert part.member.id == pool.id
    assert pool.stats().structures == 3


def test_channels_have_the_defaults_of_the_standard_library():
    queue, stream = oc.Queue(), oc.Stream()
    assert (queue.maxsize, oc.Queue(5).maxsize, oc.Queue(-1).maxsize) == (0, 5, 0)
    assert (stream.depth, stream.policy) == (16, "lossy")


@pytest.mark.parametrize("size", ["0", "-1", "lots", "1XB"])
def test_a_bad_size_in_the_environment_is_refused(monkeypatch, size):
    monkeypatch.setenv("ONECOPY_POOL_SIZE", size)
    with pytest.raises(ValueError, match="ONECOPY_POOL_SIZE"):
        oc.default_pool()


@pytest.mark.parametrize(("size", "expected"), [("33554432", 32 << 20), ("32MiB", 32 << 20)])
def test_the_size_in_the_environment(monkeypatch, size, expected):
    monkeypatch.setenv("ONECOPY_POOL_SIZE", size)
    assert oc.default_pool().size == expected


def test_the_size_follows_the_machine(monkeypatch):
    monkeypatch.delenv("ONECOPY_POOL_SIZE")
    monkeypatch.setattr(default_size, "_memory_limit", lambda: 8 << 30)
    monkeypatch.setattr(default_size, "has_dev_shm", lambda: True)

    class Free:
        f_frsize = 1 << 20
        f_bavail = 1024

    monkeypatch.setattr(default_size.os, "statvfs", lambda _: Free)
    assert default_size.default_size() == 512 << 20
    Free.f_bavail = 100_000
    assert default_size.default_size() == 4 << 30
    Free.f_bavail = 64
    assert default_size.default_size() == 4 << 30


def test_threads_get_the_same_one():
    pools = []
    barrier = threading.Barrier(8)

    def get():
        barrier.wait()
        pools.append(oc.default_pool())

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(pool) for pool in pools}) == 1


def use_default(queue, pool_id):
    assert oc.default_pool().id == pool_id
    queue.put(oc.array(np.arange(3)))


def test_children_have_their_parents(method, start):
    queue = oc.Queue()
    child = start(method, use_default, queue, oc.default_pool().id)
    assert queue.get().tolist() == [0, 1, 2]
    assert child.wait() == 0


def own_default(queue, name):
    own = oc.default_pool()
    queue.put(own.name)


def test_a_process_that_gets_another_pool_has_its_own(pool, start):
    mine = oc.default_pool()
    queue = pool.queue()
    child = start("spawn", own_default, queue, mine.name)
    assert queue.get() != mine.name
    assert child.wait() == 0
