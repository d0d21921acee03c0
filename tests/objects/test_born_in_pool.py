"""Ordinary results of numpy that are made in a pool: `onecopy.born_in_pool`."""

import gc
import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import children
import numpy as np
import pytest

import onecopy as oc
from onecopy import _native

MIB = 1 << 20
HALF = 1 << 18  # numbers of 8 bytes in 2 MiB


@pytest.fixture
def born(pool):
    with oc.born_in_pool("1MiB", pool) as born:
        yield born
    assert _native.born_counts()["live"] == 0


def numbers():
    """Return 2 MiB that numpy computes now."""
    return np.arange(HALF, dtype="f8") * 2


def lies_in(pool, array):
    return pool.member.where(array) is not None


def test_a_result_lies_in_the_pool(pool, born):
    array = numbers()
    assert lies_in(pool, array)
    assert array.flags.owndata
    assert array.flags.writeable
    assert array.ctypes.data % 64 == 0
    assert (array == np.arange(HALF) * 2).all()


def test_only_from_the_threshold_on(pool):
    with oc.born_in_pool(MIB, pool):
        assert lies_in(pool, np.empty(MIB, "u1"))
        assert not lies_in(pool, np.empty(MIB - 1, "u1"))


def test_ordinary_memory_outside_of_the_block(pool):
    with oc.born_in_pool(pool=pool):
        pass
    assert not lies_in(pool, numbers())


def test_it_is_in_effect_from_the_call_until_it_is_stopped(pool):
    born = oc.born_in_pool(pool=pool)
    assert born.active
    assert lies_in(pool, numbers())
    born.stop()
    born.stop()
    assert not born.active
    assert not lies_in(pool, numbers())


def test_the_last_one_that_is_not_stopped_is_in_effect(pool):
    with oc.Pool.create(size="16MiB") as other, oc.born_in_pool(pool=pool):
        inner = oc.born_in_pool(pool=other)
        assert lies_in(other, numbers())
        third = oc.born_in_pool("4MiB", pool)
        inner.stop()
        assert not lies_in(pool, numbers())  # too small for the third
        third.stop()
        assert lies_in(pool, numbers())


def test_arrays_go(pool, born):
    before = pool.stats().used
    arrays = [numbers() for _ in range(5)]
    assert pool.stats().used >= before + 5 * 2 * MIB
    assert _native.born_counts()["live_bytes"] == 5 * 2 * MIB
    del arrays
    assert pool.stats().used == before


# ------------------------------------------------------------------------------- handing over


def by_queue(pool, obj):
    queue = pool.queue()
    queue.put(obj)
    return queue.get()


def by_stream(pool, obj):
    stream = pool.stream()
    subscription = stream.subscribe()
    stream.publish(obj)
    got = subscription.get()
    subscription.close()
    return got


def by_put(pool, obj):
    return pool.put(obj).get()


WAYS = [by_queue, by_stream, by_put]


@pytest.mark.parametrize("way", WAYS)
def test_handing_over_copies_nothing(pool, born, way):
    array = numbers()
    expected = array.copy()
    place = pool.member.where(array), array.ctypes.data
    got = way(pool, array)
    assert (pool.member.where(got), got.ctypes.data) == place
    assert (got == expected).all()


@pytest.mark.parametrize("way", WAYS)
def test_containers_and_slices_go_by_reference_too(pool, born, way):
    array = numbers()
    where = pool.member.where(array)
    got = way(pool, {"id": 7, "odd": array[1::2], "rows": array.reshape(512, -1)[100:]})
    assert [pool.member.where(got[key]) for key in ("odd", "rows")] == [where, where]
    assert (got["odd"] == np.arange(1, HALF, 2) * 2).all()
    assert (got["rows"] == array.reshape(512, -1)[100:]).all()


@pytest.mark.parametrize("part", [lambda a: a, lambda a: a[10:]], ids=["whole", "slice"])
def test_what_was_handed_over_is_read_only_for_good(pool, born, part):
    array = numbers()
    sent = part(array)
    got = by_queue(pool, sent)
    for each in (array, sent):
        with pytest.raises(ValueError, match="read-only"):
            each[0] = 1
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            each.flags.writeable = True
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="does not own its data"):
        array.resize(7)
    del array, sent
    assert got[-1] == (HALF - 1) * 2


def test_the_sender_may_go_first(pool, born):
    before = pool.stats().used
    got = by_queue(pool, numbers())
    assert _native.born_counts()["live"] == 0  # a lease owns it now
    assert (got == np.arange(HALF) * 2).all()
    del got
    assert pool.stats().used == before


def test_it_may_be_sent_twice(pool, born):
    array = numbers()
    assert pool.member.where(by_queue(pool, array)) == pool.member.where(by_put(pool, array))


def test_a_table_of_pandas_copies_nothing(pool, born):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": np.arange(HALF) * 1.5, "b": np.arange(HALF) * 2.5}) + 1
    expected = frame.copy()
    before = pool.stats().used
    got = by_queue(pool, frame)
    assert pool.stats().used < before + MIB
    pandas.testing.assert_frame_equal(got, expected)


def double(array):
    return array * 2


def test_an_executor_copies_neither_arguments_nor_results(pool, born):
    arguments = numbers()
    place = pool.member.where(arguments)
    with oc.Executor(1, pool, initializer=oc.born_in_pool, initargs=("1MiB", pool)) as executor:
        result = executor.submit(double, arguments).result()
        assert (result == arguments * 2).all()
        assert lies_in(pool, result)
    assert pool.member.where(arguments) == place
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        arguments.flags.writeable = True


# ------------------------------------------------------------------------------- ordinary memory


def test_arrays_that_contain_pointers_are_never_in_a_pool(pool, born):
    for array in (
        np.empty(HALF, object),
        np.zeros(HALF, object),
        np.full(HALF, "text", object),
        np.array([["a", 1]] * HALF, object).copy(),
        np.empty(HALF, [("name", object), ("number", "f8")]),
        np.arange(HALF).astype(object),
        np.arange(HALF).astype(object)[::-1].copy(),
    ):
        assert array.dtype.hasobject
        assert not lies_in(pool, array)
    array = np.empty(10, object)
    array.resize(HALF, refcheck=False)
    assert not lies_in(pool, array)
    if hasattr(np.dtypes, "StringDType"):
        texts = np.full(HALF, "a long string " * 4, np.dtypes.StringDType())
        assert _native.born_lease(texts) is None


def test_zeros_have_ordinary_memory(pool, born):
    assert not lies_in(pool, np.zeros(HALF))


def test_a_full_pool_is_no_error(pool, born):
    fell_back = born.counts()["fell_back"]
    arrays = [numbers() for _ in range(40)]  # 80 MiB
    assert 20 < sum(lies_in(pool, array) for array in arrays) <= 32
    assert born.counts()["fell_back"] > fell_back
    assert all((array == np.arange(HALF) * 2).all() for array in arrays)


HEAP_LOCK, ROWS_AT, ROW = 192, 64, 512  # offsets in the segment: native/layout/layout.hpp


def stop_with_the_heap(pool, ready):
    """Own the heap's lock, as far as others can see, and stop."""
    with Path(pool.member.path).open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    (rows,) = struct.unpack_from("<Q", memory, ROWS_AT)
    (generation,) = struct.unpack_from("<I", memory, rows + pool.member.slot * ROW + 4)
    tag = (generation & 0xFFFFF) << 11 | (pool.member.slot + 1)
    struct.pack_into("<I", memory, HEAP_LOCK, tag)
    ready.set()
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_stopped_process_has_the_heap(pool_directory):
    """An array waits a moment, and those that come soon after it do not wait at all."""
    with oc.Pool.create("heap", size="64MiB") as pool, oc.born_in_pool(pool=pool) as born:
        ready = pool.event()
        child = children.start("spawn", stop_with_the_heap, pool, ready)
        assert ready.wait(children.LIMIT)
        before = born.counts()
        arrays = [np.full(MIB, 7, "u1") for _ in range(200)]
        after = born.counts()
        assert after["made"] == before["made"]
        assert after["fell_back"] == before["fell_back"] + 200
        assert before["skipped"] < after["skipped"] < before["skipped"] + 200
        assert all((array == 7).all() for array in arrays)
        child.kill()
        children.eventually(lambda: lies_in(pool, np.empty(MIB, "u1")), "the heap to be repaired")
        del ready


def test_an_array_that_is_larger_than_the_pool(pool, born):
    array = np.full(65 * MIB, 3, "u1")
    assert not lies_in(pool, array)
    assert lies_in(pool, numbers())  # smaller ones are made in the pool at once


def test_a_closed_pool_is_no_error():
    with oc.Pool.create(size="16MiB") as pool, oc.born_in_pool(pool=pool):
        array = numbers()
        assert lies_in(pool, array)
        pool.close()
        assert (array == np.arange(HALF) * 2).all()  # it outlives the pool's object
        other = numbers()
    assert (other == array).all()
    with oc.born_in_pool():  # and the closed one is forgotten
        assert lies_in(oc.default_pool(), numbers())


def test_a_switch_keeps_nobody_in_a_pool(pool_directory):
    pool = oc.Pool.create(size="16MiB")
    born = oc.born_in_pool(pool=pool)
    pool.close()
    assert not any(pool_directory.iterdir())
    born.stop()


# ----------------------------------------------------------------------------------- in numpy


@pytest.mark.parametrize("count", [HALF * 2, HALF // 2, 10])
def test_resize(pool, born, count):
    array = numbers()
    array.resize(count, refcheck=False)
    kept = min(count, HALF)
    assert (array[:kept] == np.arange(kept) * 2).all()
    assert (array[kept:] == 0).all()
    assert lies_in(pool, array) == (array.nbytes >= MIB)


def test_an_array_that_grows_from_a_small_one(pool, born):
    """It keeps ordinary memory: nobody could tell whether it contains pointers."""
    array = np.fromiter((number * 2 for number in range(HALF)), "f8")
    assert (array == np.arange(HALF) * 2).all()
    assert not lies_in(pool, array)


def test_sorting_and_its_buffers(pool, born):
    before = pool.stats().used
    array = np.sort(numbers()[::-1], kind="stable")
    assert (array == np.arange(HALF) * 2).all()
    del array
    assert pool.stats().used == before


def test_an_array_that_was_there_before(pool):
    array = numbers()
    with oc.born_in_pool(pool=pool):
        array.resize(HALF * 2, refcheck=False)
        assert (array[:HALF] == np.arange(HALF) * 2).all()
        del array
        numbers()


def test_threads(pool, born):
    wrong = []

    def work(number):
        for step in range(50):
            array = np.full(HALF // 2, number * 100 + step)
            if not (array == number * 100 + step).all():
                wrong.append(array)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ------------------------------------------------------------------------------------ processes


def in_child(pool, array, event, answers):
    with oc.born_in_pool(pool=pool):
        mine = array + 1
        answers.put(mine)
        event.set()
        threading.Event().wait()


@pytest.mark.parametrize("method", children.METHODS)
def test_a_killed_process_leaves_nothing(pool, born, method):
    array = numbers()
    before = pool.stats().used
    answers, event = pool.queue(), pool.event()
    child = children.start(method, in_child, pool, array, event, answers)
    got = answers.get(timeout=children.LIMIT)
    assert event.wait(children.LIMIT)
    child.kill()
    assert (got == array + 1).all()
    del got, answers, event
    gc.collect()
    pool.collect()
    assert pool.stats().used <= before
    assert pool.validate() == []


def look_and_write(array, queue):
    queue.put(float(array.sum()))
    array[0] = -1
    more = array[:100] * np.ones((2000, 1))
    queue.put((more.nbytes, float(more[0, 0])))


def test_a_forked_child_has_the_same_memory(pool, born):
    array = numbers()
    total = float(array.sum())
    queue = pool.queue()
    child = children.start("fork", look_and_write, array, queue)
    assert queue.get(timeout=children.LIMIT) == total
    assert queue.get(timeout=children.LIMIT) == (1_600_000, -1.0)
    assert child.wait() == 0
    assert array[0] == -1  # as every array of a pool; the documentation says it
    assert lies_in(pool, array)


@pytest.mark.parametrize(
    "end", ["pass", "import os; os._exit(0)", "del array; oc.default_pool().close()"]
)
def test_the_end_of_the_process(pool_directory, end):
    code = f"""
import numpy as np, onecopy as oc
oc.born_in_pool()
array = np.arange({HALF}) * 2
assert oc.default_pool().member.where(array) is not None
other = np.arange({HALF}) * 3
q = oc.default_pool().queue(); q.put(other)
{end}
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=children.LIMIT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    from onecopy._core import stale

    stale.sweep(str(pool_directory), remove=True)
    assert not any(pool_directory.iterdir())


# ---------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("threshold", [0, 1000, "63KiB"])
def test_a_threshold_that_is_too_small(pool, threshold):
    with pytest.raises(ValueError, match="threshold"):
        oc.born_in_pool(threshold, pool)


def test_wrong_arguments(pool):
    with pytest.raises(TypeError, match="threshold"):
        oc.born_in_pool(1.5, pool)
    with pytest.raises(TypeError, match="pool"):
        oc.born_in_pool(pool="camera")


def test_a_closed_pool_is_refused():
    pool = oc.Pool.create(size="16MiB")
    pool.close()
    with pytest.raises(oc.Closed):
        oc.born_in_pool(pool=pool)
    assert not lies_in(oc.default_pool(), numbers())


def test_its_repr(pool):
    born = oc.born_in_pool("4MiB", pool)
    assert repr(born) == f"<born_in_pool from 4.0 MiB in {pool!r}>"
    born.stop()
    assert repr(born) == f"<born_in_pool from 4.0 MiB in {pool!r}, stopped>"
