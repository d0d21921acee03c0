"""What an executor keeps in the pool, and how it makes space."""

import gc
import os
import weakref
from concurrent.futures.process import BrokenProcessPool

import children
import numpy as np
import pytest

import onecopy as oc
from executor import calls
from onecopy._workers import owners

MEGABYTE = 1 << 20


def used(pool):
    return pool.stats().used


class Model:
    """An argument that lives long."""


def test_copies_go_with_the_arrays_not_with_other_arguments(executor, pool):
    model = Model()
    for i in range(20):
        assert executor.submit(calls.total, np.full(100_000, float(i)), model=None).result() >= 0
        executor.submit(calls.same, (model.__class__.__name__, np.ones(100_000))).result()
    children.eventually(lambda: used(pool) == 0, "the copies to be gone")
    assert executor._copies._kept == {}


def test_no_watches_are_left(executor):
    array = np.ones(100_000)
    before = len(owners._owners)
    for i in range(100):
        array[0] = i
        executor.submit(calls.total, array).result()
    assert len(owners._owners[id(array)].watches) == 1
    assert len(owners._owners) == before + 1
    assert executor.submit(calls.total, np.ones(100_000)).result() == 100_000
    children.eventually(lambda: len(owners._owners) == before + 1, "the other array to be gone")
    executor.shutdown()
    gc.collect()
    assert len(owners._owners) == before


def test_several_copies_of_parts_of_one_array_need_one_weak_reference(executor, pool):
    array = np.arange(200_000.0)
    for part in (array[:50_000], array[50_000:], array[60_000:]):
        assert executor.submit(calls.total, part).result() == part.sum()
    assert len(owners._owners[id(array)].watches) == 3
    del part
    with_callbacks = [each for each in weakref.getweakrefs(array) if each.__callback__ is not None]
    assert len(with_callbacks) == 1
    del array, with_callbacks
    children.eventually(lambda: used(pool) == 0, "the copies to be gone")


def fits(put):
    try:
        return put(np.zeros(25 * MEGABYTE, np.uint8)).nbytes >= 25 * MEGABYTE
    except oc.PoolFull:
        return False


def test_a_put_gets_the_room_of_copies_that_no_call_needs(executor, pool):
    array = np.ones(30 * MEGABYTE, np.uint8)
    others = pool.empty(20 * MEGABYTE, np.uint8)
    for put in (pool.put, pool.array):
        executor.submit(calls.total, array).result()
        children.eventually(lambda: pool.stats().blocks == 2, "the call to be done with")
        assert used(pool) == array.nbytes + others.nbytes
        # The manager thread may be releasing the call, and with it the copy, at this moment.
        children.eventually(lambda: fits(put), "room")  # noqa: B023


def test_a_result_gets_the_room_of_copies_that_no_call_needs(executor, pool):
    array = np.ones(30 * MEGABYTE, np.uint8)
    others = pool.empty(20 * MEGABYTE, np.uint8)
    executor.submit(calls.total, array).result()
    result = executor.submit(calls.ones, 3 * MEGABYTE).result(30)
    assert result.sum() == 3 * MEGABYTE
    assert others.nbytes + result.nbytes <= used(pool) < others.nbytes + array.nbytes


def test_calls_leave_room_for_results(executor, pool):
    # Arguments of 4 MiB and results of 6 MiB, 24 of each, in 64 MiB. Each result is dropped when it
    # is there: on a busy machine one worker may make ten before the other has made its first.
    sizes = []

    def look(future):
        sizes.append(future.result().nbytes)

    for _ in range(24):
        executor.submit(calls.grown, np.ones(MEGABYTE // 2)).add_done_callback(look)
    children.eventually(lambda: len(sizes) == 24, "all results")
    assert set(sizes) == {6 * MEGABYTE}


def test_a_large_call_among_many_small_ones(executor):
    small = [executor.submit(calls.total, np.ones(MEGABYTE // 8)) for _ in range(30)]
    large = [executor.submit(calls.total, np.ones(3 * MEGABYTE)) for _ in range(3)]
    small += [executor.submit(calls.total, np.ones(MEGABYTE // 8)) for _ in range(30)]
    assert [future.result(30) for future in large] == [3 * MEGABYTE] * 3
    assert {future.result(30) for future in small} == {MEGABYTE // 8}


def test_calls_that_share_a_large_table_run_at_once(executor, pool, tmp_path):
    # Another copy would be more than calls may use; none may be made.
    table = np.ones(30 * MEGABYTE, np.uint8)
    marks = [tmp_path / "one", tmp_path / "two"]
    futures = [
        executor.submit(calls.meet, table, mine, other) for mine, other in (marks, reversed(marks))
    ]
    assert [future.result(30) for future in futures] == [30 * MEGABYTE] * 2
    assert used(pool) < 31 * MEGABYTE


def test_a_forked_child_is_told_that_it_has_no_executor(executor):
    assert executor.submit(pow, 2, 3).result() == 8
    child = os.fork()
    if child == 0:
        try:
            executor.submit(pow, 2, 3)
        except BrokenProcessPool:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert executor.submit(pow, 2, 3).result() == 8


def test_cancelled_calls_keep_nothing(executor, pool, tmp_path):
    busy = [executor.submit(calls.wait_for, tmp_path / "go") for _ in range(2)]
    futures = [executor.submit(calls.total, np.ones(100_000)) for _ in range(20)]
    executor.shutdown(wait=False, cancel_futures=True)
    children.eventually(futures[-1].cancelled, "calls to be cancelled")
    (tmp_path / "go").touch()
    executor.shutdown(wait=True)
    assert sum(future.cancelled() for future in futures) > 10
    del futures, busy
    children.eventually(lambda: used(pool) == 0, "what cancelled calls had to be gone")


def test_a_submit_that_is_refused_writes_nothing(executor, pool):
    executor.shutdown()
    with pytest.raises(RuntimeError):
        executor.submit(calls.total, np.ones(MEGABYTE))
    assert used(pool) == 0


def test_a_failed_call_keeps_no_arguments_in_its_worker(executor, pool):
    array = np.ones(100_000)
    with pytest.raises(ValueError, match="after a look"):
        executor.submit(calls.fail_with, array).result()
    del array
    children.eventually(lambda: used(pool) == 0, "the argument to be gone")


@pytest.mark.parametrize("make", ["queue", "lock", "dict", "event"])
def test_what_is_passed_by_handle_may_be_dropped(executor, pool, make, tmp_path):
    busy = [executor.submit(calls.wait_for, tmp_path / "go") for _ in range(2)]
    future = executor.submit(calls.kind, getattr(pool, make)())
    (tmp_path / "go").touch()
    assert future.result(30).lower() == make
    assert all(each.result() for each in busy)


def test_what_is_gone_is_an_error_of_its_call_alone(executor, tmp_path):
    busy = [executor.submit(calls.wait_for, tmp_path / "go") for _ in range(2)]
    with oc.Pool.create(size="16MiB") as other:
        future = executor.submit(calls.same, Stale(other.put([1])))
        del other
    good = executor.submit(pow, 2, 3)
    (tmp_path / "go").touch()
    with pytest.raises(oc.StaleRef):
        future.result(30)
    assert good.result(30) == 8
    assert all(each.result() for each in busy)


class Stale:
    """It unpickles to a reference to an object that does not exist any more."""

    def __init__(self, ref):
        import pickle

        self.data = pickle.dumps(ref)
        ref.release()

    def __reduce__(self):
        import pickle

        return pickle.loads, (self.data,)


def test_a_context_in_place_of_the_pool():
    import multiprocessing

    with pytest.raises(TypeError, match="mp_context"):
        oc.Executor(2, multiprocessing.get_context("fork"))
