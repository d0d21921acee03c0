"""A pool has a slot for each worker that is started in it, or an error says at once that not."""

import os

import pytest
from slots import occupied

import onecopy as oc
from onecopy import multiprocessing as mp

WORKERS = 3


def slot_of(_):
    return oc.default_pool().member.slot


def test_every_pool_has_room_for_512_processes_unless_it_is_told_otherwise(pool):
    assert oc.default_pool().stats().max_processes == pool.stats().max_processes == 512
    with oc.Pool.create(size="1MiB", max_processes=7) as other:
        assert other.stats().max_processes == 7


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_last_workers_that_a_default_pool_has_room_for(method):
    """All other slots are taken; those that are left are the last of the 512."""
    pool = oc.default_pool()
    last = set(range(512 - WORKERS, 512))
    with occupied(pool, but=WORKERS):
        context = mp.get_context(method)
        with oc.Executor(WORKERS, mp_context=context) as executor:
            assert set(executor.map(slot_of, range(20))) <= last
        with context.Pool(WORKERS) as workers:
            assert set(workers.map(slot_of, range(20))) <= last
    pool.collect()
    assert pool.stats().processes == 1
    assert pool.validate() == []


def test_more_workers_than_any_pool_has_room_for_are_refused_at_once():
    for make, parameter in ((oc.Executor, "max_workers"), (mp.Pool, "processes")):
        with pytest.raises(ValueError, match=rf"{parameter}=512: .* 512 .* 511 workers"):
            make(512)


def test_more_workers_than_a_given_pool_has_room_for_are_refused_at_once():
    with oc.Pool.create(size="16MiB", max_processes=3) as pool:
        with pytest.raises(ValueError, match=r"max_workers=3: .* 3 processes .* 2 workers"):
            oc.Executor(3, pool=pool)
        with oc.Executor(2, pool=pool) as executor:
            assert list(executor.map(abs, [-1, -2])) == [1, 2]


def test_by_default_there_are_no_more_workers_than_the_pool_has_room_for(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 600)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 600, raising=False)
    with (
        oc.Pool.create(size="16MiB", max_processes=3) as pool,
        oc.Executor(pool=pool) as executor,
    ):
        assert executor._max_workers == 2
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
    with oc.Executor() as executor:
        assert executor._max_workers == 511


def test_a_default_pool_with_too_little_room_refuses_workers_at_once(monkeypatch):
    """It came from another process, for example."""
    with oc.Pool.create(size="16MiB", max_processes=3) as pool:
        monkeypatch.setattr("onecopy.default._pool", pool)
        with pytest.raises(ValueError, match=r"processes=3: .* 3 processes .* 2 workers"):
            mp.Pool(3)
        with mp.Pool(2) as workers:
            assert workers.map(abs, [-1, -2]) == [1, 2]
        with pytest.raises(ValueError, match="at least 1"):
            mp.Pool(0)
        monkeypatch.undo()
