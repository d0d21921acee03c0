"""Large arguments are written once, are never out of date, and arrive read-only."""

import functools
import threading

import children
import numpy as np
import pytest

import onecopy as oc
from executor import calls
from onecopy._codec.backing import address

pytestmark = pytest.mark.one_in(2)

MEGABYTE = 1 << 20


def used(pool):
    return pool.stats().used


def test_a_thousand_calls_take_one_copy(executor, pool):
    array = np.arange(131_072.0)  # 1 MiB
    futures = [executor.submit(calls.where, array) for _ in range(1000)]
    assert MEGABYTE <= used(pool) < MEGABYTE + 4096 * 1000
    assert pool.stats().size < 1000 * MEGABYTE
    assert {future.result() for future in futures} == {(float(array.sum()), False)}
    assert MEGABYTE <= used(pool) < 2 * MEGABYTE


def test_each_method(pool, context):
    array = np.arange(100_000.0)  # 800,000 bytes
    with oc.Executor(2, pool, context) as executor:
        got = list(executor.map(calls.total, [array] * 4, range(4)))
        assert got == [array.sum() + i for i in range(4)]
        children.eventually(lambda: used(pool) == 800_000, "the messages to be gone")
    del executor, array
    assert used(pool) == 0


def test_a_changed_object_is_a_new_one(executor):
    array = np.zeros(100_000)
    expected, futures = [], []
    for i in range(20):
        array[i] = i + 1  # in place: the same object, at the same address
        expected.append(float(array.sum()))
        futures.append(executor.submit(calls.total, array))
    assert [future.result() for future in futures] == expected


def test_a_change_of_the_last_byte_is_seen(executor):
    array = np.zeros(MEGABYTE, np.uint8)
    first = executor.submit(calls.total, array)
    array[-1] = 1
    assert executor.submit(calls.total, array).result() == 1
    assert first.result() == 0


def test_what_was_submitted_does_not_change(executor, tmp_path):
    # Both workers are busy, so the call is still in the queue when its argument changes.
    busy = [executor.submit(calls.wait_for, tmp_path / "go") for _ in range(2)]
    array, small, table = np.zeros(100_000), [1, 2], {"a": np.zeros(3)}
    futures = [executor.submit(calls.same, obj) for obj in (array, small, table)]
    array[:] = 7
    small.append(3)
    table["a"][0] = 9
    (tmp_path / "go").touch()
    got = [future.result() for future in futures]
    assert not got[0].any()
    assert got[1] == [1, 2]
    assert got[2]["a"][0] == 0
    assert all(future.result() for future in busy)


def test_the_copy_goes_with_the_object(executor, pool):
    array = np.ones(100_000)
    assert executor.submit(calls.total, array).result() == 100_000
    children.eventually(lambda: used(pool) == 800_000, "the message to be gone")
    del array
    children.eventually(lambda: used(pool) == 0, "the manager thread to release the call")


def test_another_object_at_the_same_place(executor):
    for i in range(50):
        assert executor.submit(calls.total, np.full(50_000, float(i))).result() == 50_000 * i


def test_part_of_an_object(executor, pool):
    array = np.arange(400_000.0).reshape(4, 100_000)
    futures = [executor.submit(calls.total, row) for row in array]
    assert [future.result() for future in futures] == list(array.sum(axis=1))
    columns = [executor.submit(calls.total, array[:, i::50_000]) for i in range(2)]
    assert [each.result() for each in columns] == [array[:, i::50_000].sum() for i in range(2)]


def test_inside_of_other_objects(executor, pool):
    array = np.arange(100_000.0)
    table = {"nested": [(array, "text"), array[::2]], "same": array}
    got = executor.submit(calls.same, table).result()
    np.testing.assert_array_equal(got["nested"][0][0], array)
    np.testing.assert_array_equal(got["nested"][1], array[::2])
    assert used(pool) < 1.6 * array.nbytes
    again = executor.submit(calls.same, [array]).result()
    assert address(again[0]) == address(got["same"])


def test_a_long_pickle_is_there_once(executor, pool):
    words = [f"word {i}" for i in range(100_000)]
    futures = [executor.submit(len, words) for _ in range(20)]
    most = used(pool)
    assert [future.result() for future in futures] == [len(words)] * 20
    assert most < 2 * len(b"".join(word.encode() for word in words)) + 20 * 4096
    words[0] = "another"
    assert executor.submit(calls.same, words).result()[0] == "another"


def test_bytes(executor, pool):
    data = b"x" * MEGABYTE
    futures = [executor.submit(len, data) for _ in range(30)]
    assert used(pool) < 2 * MEGABYTE
    assert [future.result() for future in futures] == [MEGABYTE] * 30


def test_what_lies_in_the_pool_is_not_copied(executor, pool):
    array = pool.empty(100_000)
    array[:] = 2
    before = used(pool)
    futures = [executor.submit(calls.where, array[i:]) for i in range(10)]
    assert used(pool) < before + 10 * 4096
    assert not array.flags.writeable  # sealed when it was submitted
    assert [future.result() for future in futures] == [
        (2.0 * (100_000 - i), False) for i in range(10)
    ]


def test_a_shared_array_is_written_by_the_worker(executor, pool):
    array = pool.shared_array(100_000)
    array[:] = 0
    executor.submit(calls.write, array).result()
    assert array[0] == 1


# ---- what lies in another pool -------------------------------------------------------------------


@pytest.fixture
def other():
    """A pool that is not that of the executor."""
    with oc.Pool.create(size="64MiB") as pool:
        yield pool


def test_an_array_of_another_pool_is_not_copied(pool, other, context):
    array = other.empty(100_000)
    array[:] = 2
    with oc.Executor(1, pool, context) as executor:
        parts = [array[i : 99_990 + i : 2] for i in range(5)]
        futures = [executor.submit(calls.where, part) for part in parts]
        futures += [executor.submit(calls.total_in, {"parts": parts})]
        assert used(pool) < 10 * 4096
        assert [future.result() for future in futures] == [(99_990.0, False)] * 5 + [499_950.0]
    assert not array.flags.writeable  # sealed when it was submitted


def test_it_stays_until_the_call_is_done(executor, pool, other, tmp_path):
    busy = [executor.submit(calls.wait_for, tmp_path / "go") for _ in range(2)]
    array = other.put(np.ones(100_000)).get()
    future = executor.submit(calls.total, array)
    del array
    (tmp_path / "go").touch()
    assert future.result() == 100_000
    assert all(each.result() for each in busy)
    children.eventually(lambda: used(other) == 0, "the other pool to be empty")


@pytest.mark.parametrize("kind", ["pandas", "arrow columns", "pyarrow"])
def test_a_table_of_another_pool_is_not_copied(executor, pool, other, kind):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"number": np.arange(50_000.0), "text": ["a", "bc"] * 25_000})
    if kind != "pandas":
        pa = pytest.importorskip("pyarrow")
        table = pa.Table.from_pandas(table)
    if kind == "arrow columns":
        table = table.to_pandas(types_mapper=pd.ArrowDtype)
    received = other.put(table).get()
    futures = [executor.submit(calls.length, received) for _ in range(3)]
    assert [future.result() for future in futures] == [50_000] * 3
    assert used(pool) < 10 * 4096


def test_a_shared_array_of_another_pool_is_written_by_the_worker(pool, other, context):
    array = other.shared_array(100_000)
    array[:] = 0
    with oc.Executor(1, pool, context) as executor:
        executor.submit(calls.write, array).result()
        assert array[0] == 1
        array[0] = 0
        executor.submit(calls.write_in, {"x": array[1:]}).result()
    assert array[1] == 1
    assert array.flags.writeable


def test_an_array_of_a_pool_without_a_name_is_copied(executor, pool, other):
    array = other.put(np.ones(100_000)).get()
    other.unlink()
    assert executor.submit(calls.total, array).result() == 100_000
    assert used(pool) >= 800_000


def test_what_is_shared_from_another_pool_is_copied(executor, other):
    array = other.put(np.ones(100_000)).get()
    ref = executor.share({"x": array})
    del array
    assert used(other) == 0
    assert ref.get()["x"].sum() == 100_000


@pytest.mark.parametrize("shared", [False, True])
def test_a_result_that_lies_in_another_pool_is_copied(executor, other, shared):
    """It cannot be known when a worker may release what it has sent."""
    executor.submit(abs, 1).result()  # forked now, it inherits nothing
    array = other.shared_array(100_000) if shared else other.empty(100_000)
    array[:] = 1
    result = executor.submit(calls.same, array).result()
    del array
    assert type(result) is np.ndarray
    assert (result.sum(), result.flags.writeable) == (100_000, False)
    children.eventually(lambda: used(other) == 0, "the other pool to be empty")


def test_a_function_with_an_array_of_another_pool(executor, pool, other, tmp_path):
    """`map` has ended when the last call runs; each call keeps the arrays that it uses."""
    busy = [executor.submit(calls.wait_for, tmp_path / "go") for _ in range(2)]
    function = functools.partial(
        calls.totals, np.ones(100_000), other.put(np.ones(100_000)).get(), other.put(np.ones(5))
    )
    results = executor.map(function, range(4))
    del function
    (tmp_path / "go").touch()
    assert list(results) == [200_005 + i for i in range(4)]
    assert all(each.result() for each in busy)
    del results, busy
    children.eventually(lambda: used(other) == 0, "the other pool to be empty")


def test_workers_join_another_pool_once(pool, context):
    with oc.Executor(1, pool, context) as executor:
        executor.submit(abs, 1).result()
        with oc.Pool.create(size="8MiB") as other:
            array = other.put(np.ones(100_000)).get()
            joined = set()
            for i in range(10):
                assert executor.submit(calls.total, array[i:]).result() == 100_000 - i
                joined |= {(each["pid"], each["born_ns"]) for each in other.member.holders()}
            assert len(joined) == 2  # this process and the worker
            # Only while it has something to do.
            children.eventually(lambda: other.stats().processes == 1, "it to leave")


def test_a_pool_without_a_slot_for_the_worker(pool, context):
    with oc.Executor(1, pool, context) as executor:
        executor.submit(abs, 1).result()
        with oc.Pool.create(size="8MiB", max_processes=1) as small:
            array = small.put(np.ones(100_000)).get()
            future = executor.submit(calls.total, array)
            with pytest.raises(oc.OneCopyError, match=f"{small.member.path} has no slot left"):
                future.result()
        assert executor.submit(abs, -1).result() == 1


def test_what_is_copied_is_not_sealed(executor, pool, other):
    array = other.empty(100_000)
    executor.share({"x": array})
    pool.queue("q").put({"x": array})
    small = other.empty(10)
    executor.submit(calls.total, small).result()
    assert array.flags.writeable
    assert small.flags.writeable


def test_a_shared_array_of_another_pool_is_copied_where_nobody_keeps_it(executor, other, tmp_path):
    shared = other.shared_array(1000)
    shared[:] = 1
    ref = executor.share([shared])
    with oc.Pool.create(backing=tmp_path / "pool", size="8MiB") as lasting:
        lasting["x"] = [shared]
        del shared
        assert used(other) == 0
        for got in (ref.get()[0], lasting["x"][0]):
            assert type(got) is np.ndarray
            assert got.sum() == 1000


def test_a_pool_that_others_may_write():
    with oc.Pool.create(size="8MiB", mode=0o666) as open_to_all:
        with pytest.raises(oc.Untrusted, match="may be written by other users"):
            oc.Executor(1, open_to_all)
        with oc.Pool.create(size="8MiB") as pool, oc.Executor(1, pool) as executor:
            array = open_to_all.array(np.ones(100_000))
            assert executor.submit(calls.total, array).result() == 100_000


def test_writing_raises(executor):
    with pytest.raises(ValueError, match="read-only"):
        executor.submit(calls.write, np.zeros(100_000)).result()


def test_share(executor, pool):
    array = np.ones(100_000)
    ref = executor.share(array)
    array[:] = 5  # shared arrays stay as they were
    before = used(pool)
    assert list(executor.map(calls.total_of, [ref] * 10)) == [100_000.0] * 10
    # A worker answers first, and then finishes the message of the call.
    children.eventually(lambda: used(pool) == before, "the messages to be gone")
    np.testing.assert_array_equal(ref.get(), np.ones(100_000))
    assert executor.share(3).get() == 3


def test_share_finds_what_was_submitted(executor, pool):
    array = np.ones(100_000)
    executor.submit(calls.total, array).result()
    before = used(pool)
    ref = executor.share(array)
    assert used(pool) < before + 4096
    del array
    assert ref.get().sum() == 100_000


def test_a_reference_in_an_argument_keeps_its_object(executor, pool, tmp_path):
    busy = [executor.submit(calls.wait_for, tmp_path / "go") for _ in range(2)]
    ref = pool.put(np.ones(1000))
    future = executor.submit(calls.total_of, ref)
    del ref
    (tmp_path / "go").touch()
    assert future.result() == 1000
    assert all(each.result() for each in busy)


def test_threads_that_submit_the_same_object_write_it_once(executor, pool):
    array = np.ones(500_000)
    results = []

    def submit():
        results.extend(executor.submit(calls.total, array) for _ in range(20))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert used(pool) < 1.5 * array.nbytes
    assert {future.result() for future in results} == {500_000.0}


def test_more_than_the_pool_holds(pool, context):
    # 40 arrays of 8 MiB for a pool of 64 MiB: those that do not fit wait.
    with oc.Executor(2, pool, context) as executor:
        futures = [executor.submit(calls.total, np.full(MEGABYTE, float(i))) for i in range(40)]
        assert [future.result() for future in futures] == [i * MEGABYTE for i in range(40)]


def test_an_argument_that_can_never_fit(executor, pool):
    future = executor.submit(calls.total, np.zeros(100 * MEGABYTE, np.uint8))
    with pytest.raises(oc.PoolFull):
        future.result()
    assert executor.submit(pow, 2, 3).result() == 8


def test_an_argument_that_cannot_be_pickled(executor):
    future = executor.submit(calls.same, threading.Lock())
    with pytest.raises(TypeError, match="pickle"):
        future.result()
    assert executor.submit(pow, 2, 3).result() == 8


def test_a_function_with_a_table_is_written_once(executor, pool):
    array = np.ones(100_000)
    results = executor.map(functools.partial(calls.total, array), range(100))
    assert used(pool) < 1.5 * array.nbytes
    assert list(results) == [100_000.0 + i for i in range(100)]


def test_a_full_pool_gives_up_copies_that_no_call_needs(executor, pool):
    kept = [np.full(2 * MEGABYTE, float(i)) for i in range(6)]  # 96 MiB: never all at the same time
    for i, array in enumerate(kept):
        assert executor.submit(calls.total, array).result() == 2 * MEGABYTE * i


def test_a_table_is_written_once(executor, pool):
    pd = pytest.importorskip("pandas")
    n = 50_000
    frame = pd.DataFrame(
        {
            "number": np.arange(n, dtype=float),
            "text": pd.Series([f"text {i}" for i in range(n)], dtype=object),
            "day": pd.date_range("2026-01-01", periods=n, freq="s"),
        }
    )
    first = executor.submit(calls.same, frame).result()
    once = used(pool)
    futures = [executor.submit(calls.rows, frame, i) for i in range(50)]
    assert used(pool) < 1.2 * once
    assert [future.result() for future in futures] == [(n, float(frame["number"].sum()))] * 50
    pd.testing.assert_frame_equal(first, frame)
    frame.loc[0, "number"] = -5.0
    frame.loc[1, "text"] = "changed"
    again = executor.submit(calls.same, frame).result()
    pd.testing.assert_frame_equal(again, frame)
    assert first["number"].iloc[0] == 0


def test_a_slice_of_a_table_is_written_once(executor, pool):
    pa = pytest.importorskip("pyarrow")
    part = pa.table({"a": np.arange(400_000.0), "b": np.arange(400_000)}).slice(1000, 50_000)
    assert executor.submit(calls.same, part).result().equals(part)
    futures = [executor.submit(len, part) for _ in range(50)]
    assert used(pool) < 3 * part.nbytes
    assert {future.result() for future in futures} == {50_000}


def test_scattered_arrays_are_written_once(executor, pool):
    array = np.arange(400_000.0)
    part = array[::4]
    futures = [executor.submit(calls.total, part) for _ in range(50)]
    assert used(pool) < 1.5 * part.nbytes
    assert {future.result() for future in futures} == {float(part.sum())}
    array[:] = 1
    assert executor.submit(calls.total, part).result() == 100_000
