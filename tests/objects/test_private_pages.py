"""Received objects can be written, and no other process sees it: ``copy="on_write"`` and True."""

import ctypes
import faulthandler
import gc
import os
import pickle
import signal
import traceback
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from children import LIMIT, used
from slots import occupied

import onecopy as oc
from onecopy import _native

pytestmark = pytest.mark.one_in(2)

WRITABLE = ["on_write", True]
LARGE = 1 << 20  # bytes: more than is copied at a time
SMALL = 40_000


@pytest.fixture(autouse=True)
def nothing_is_left_mapped():
    before = _native.private_mappings()
    yield
    gc.collect()
    assert _native.private_mappings() <= before


def counted(nbytes, dtype="f4"):
    return np.arange(nbytes // np.dtype(dtype).itemsize).astype(dtype)


# ------------------------------------------------------------------------------------- every way


def by_queue(pool, obj, copy):
    queue = pool.queue()
    queue.put(obj)
    return queue.get(copy=copy)


def by_queue_nowait(pool, obj, copy):
    queue = pool.queue()
    queue.put(obj)
    return queue.get_nowait(copy)


def by_queue_many(pool, obj, copy):
    queue = pool.queue()
    queue.put(obj)
    return queue.get_many(3, copy=copy)[0]


def by_message(pool, obj, copy):
    queue = pool.queue(redeliver=True)
    queue.put(obj)
    with queue.get_message(copy=copy) as message:
        return message.item


def by_redelivery(pool, obj, copy):
    queue = pool.queue(redeliver=True)
    queue.put(obj)
    queue.get_message().give_back()
    message = queue.get_message(copy=copy)
    assert message.redelivered
    return message.item


def by_stream(pool, obj, copy):
    stream = pool.stream()
    subscription = stream.subscribe()
    stream.publish(obj)
    return subscription.get(copy=copy)


def by_loop(pool, obj, copy):
    stream = pool.stream()
    subscription = stream.subscribe(copy=copy)
    stream.publish(obj)
    return next(subscription)


def by_latest(pool, obj, copy):
    stream = pool.stream()
    stream.publish(obj)
    return stream.latest(copy)


def by_reference(pool, obj, copy):
    return pool.put(obj).get(copy)


def by_name(pool, obj, copy):
    pool["it"] = obj
    return pool.get("it", copy=copy)


WAYS = [
    by_queue,
    by_queue_nowait,
    by_queue_many,
    by_message,
    by_redelivery,
    by_stream,
    by_loop,
    by_latest,
    by_reference,
    by_name,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("copy", WRITABLE)
@pytest.mark.parametrize("nbytes", [100, SMALL, LARGE])
def test_every_way_gives_writable_arrays(pool, way, copy, nbytes):
    array = counted(nbytes)
    for obj in (array, {"a": [array]}, pool.array(array), {"a": [pool.array(array)]}):
        got = way(pool, obj, copy)
        got = got["a"][0] if isinstance(got, dict) else got
        assert np.array_equal(got, array)
        got += 1
        assert np.array_equal(got, array + 1)
        if isinstance(obj, np.ndarray):
            assert np.array_equal(obj, array)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("copy", [None, False])
def test_without_it_they_are_read_only(pool, way, copy):
    assert not way(pool, counted(LARGE), copy).flags.writeable


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("copy", ["on-write", "", 1, 0, "True", b"on_write"])
def test_another_value_is_refused(pool, way, copy):
    with pytest.raises(ValueError, match=r'None or False .* "on_write" .* True'):
        way(pool, counted(100), copy)


def test_what_is_refused_takes_nothing(pool):
    queue = pool.queue()
    queue.put(5)
    with pytest.raises(ValueError, match="copy"):
        queue.get(copy="no")
    assert queue.get(copy="on_write") == 5


# ------------------------------------------------------------------------------------ every kind


class Marked(np.ndarray):
    """A subclass that pickle handles."""


def kinds(pool):
    many = counted(LARGE)
    table = pool.array(many.reshape(512, -1))
    times = np.arange(LARGE // 8).astype("M8[us]")
    record = np.zeros(LARGE // 16, [("a", "f8"), ("b", "i8")])
    return {
        "C": many.reshape(512, -1),
        "F": np.asfortranarray(many.reshape(512, -1)),
        "scattered": many.reshape(512, -1)[::2, ::-3],
        "scattered in the pool": table[::2, ::-3],
        "turned in the pool": table.T,
        "times": times,
        "records": record,
        "other byte order": many.astype(">f4"),
        "masked": np.ma.masked_array(many, many > 7),
        "subclass": many.view(Marked),
        "subclass, scattered": table.view(Marked)[::2, ::-3],
        "0 dimensions": np.array(4.5),
        "empty": np.zeros((3, 0)),
    }


@pytest.mark.parametrize("copy", WRITABLE)
def test_every_kind_of_array(pool, copy):
    for name, array in kinds(pool).items():
        for obj in (array, [array]):
            ref = pool.put(obj)
            got = ref.get(copy) if obj is array else ref.get(copy)[0]
            assert type(got) is type(array), name
            assert got.flags.writeable, name
            assert got.dtype == array.dtype, name
            assert np.array_equal(got, array), name
            if array.size:
                got[...] = np.zeros((), array.dtype)
            again = ref.get() if obj is array else ref.get()[0]
            assert np.array_equal(again, array), name


@pytest.mark.parametrize("copy", WRITABLE)
def test_a_data_frame_is_changed_in_place(pool, copy):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": counted(LARGE), "b": counted(LARGE), "t": range(LARGE // 4)})
    frame["c"] = pd.Categorical(frame.t % 3)
    ref = pool.put({"frame": frame})
    got = ref.get(copy)["frame"]
    for column in "abt":
        assert got[column].to_numpy(copy=False).base is not None
    got.loc[0, "a"] = -1.0
    got.loc[:, "t"] += 1
    pd.testing.assert_frame_equal(ref.get()["frame"], frame)


@pytest.mark.parametrize("copy", WRITABLE)
@pytest.mark.parametrize("nested", [False, True])
def test_a_memoryview_can_be_written(pool, copy, nested):
    view = memoryview(counted(LARGE).data).cast("B").cast("f")
    ref = pool.put([view] if nested else view)
    got = ref.get(copy)[0] if nested else ref.get(copy)
    assert (got.format, got.shape, got.readonly) == ("f", view.shape, False)
    got[3] = 99.0
    again = ref.get()[0] if nested else ref.get()
    assert again[3] == 3.0


@pytest.mark.parametrize("copy", WRITABLE)
@pytest.mark.parametrize("nested", [False, True])
def test_elements_that_share_memory_come_apart(pool, copy, nested):
    """A write to one must not change another one, as in an array that pickle has rebuilt."""
    row = pool.array(counted(LARGE))
    wide = np.broadcast_to(row, (3, row.size))
    ref = pool.put([wide] if nested else wide)
    got = ref.get(copy)[0] if nested else ref.get(copy)
    got[0, 0] = 7
    assert got[:, 0].tolist() == [7, 0, 0]


@pytest.mark.parametrize("copy", [None, *WRITABLE])
@pytest.mark.parametrize("nested", [False, True])
def test_shared_arrays_stay_shared(pool, copy, nested):
    shared = pool.shared_array(LARGE, "u1")
    ref = pool.put([shared] if nested else shared)
    got = ref.get(copy)[0] if nested else ref.get(copy)
    got[5] = 9
    assert shared[5] == 9


def test_an_object_inside_is_still_a_reference(pool):
    inner = pool.put(counted(LARGE))
    queue = pool.queue()
    queue.put([inner, queue])
    ref, same = queue.get(copy="on_write")
    assert ref.handle == inner.handle
    assert same.handle == queue.handle


# -------------------------------------------------------------------------------- what it is over


@pytest.mark.parametrize("backing", ["shm", "memfd", "file"])
def test_each_backing(tmp_path, pool_directory, backing):
    place = {"name": str(tmp_path / "on-disk")} if backing == "file" else {"backing": backing}
    with oc.Pool.create(size="16MiB", **place) as pool:
        ref = pool.put(counted(LARGE))
        got = ref.get("on_write")
        assert _native.private_mappings() == 1
        got += 1
        assert np.array_equal(ref.get(), counted(LARGE))


def test_a_pool_that_is_open_for_reading(tmp_path):
    path = str(tmp_path / "on-disk")
    with oc.Pool.create(path, size="16MiB", persistent=True) as pool:
        pool["a"], pool["b"] = counted(LARGE), [counted(LARGE), memoryview(counted(LARGE))]
    before = (tmp_path / "on-disk").read_bytes()
    with oc.Pool.open(path, mode="r") as pool:
        plain, [nested, view] = pool.get("a", copy="on_write"), pool.get("b", copy="on_write")
        plain += 1
        nested += 1
        view[0] = 5.0
        assert np.array_equal(pool["a"], counted(LARGE))
        assert np.array_equal(pool["b"][0], counted(LARGE))
    assert (tmp_path / "on-disk").read_bytes() == before


@pytest.mark.parametrize("copy", WRITABLE)
def test_what_goes_by_a_name_is_private_too(pool, tmp_path, copy):
    """A plain array and a table over a mapped file, and over a pool that is open for reading."""
    pd = pytest.importorskip("pandas")
    np.save(tmp_path / "a.npy", counted(LARGE))
    mapped = oc.open_array(tmp_path / "a.npy", mode="r+")
    plain = np.asarray(mapped).view(np.ndarray)
    path = str(tmp_path / "on-disk")
    with oc.Pool.create(path, size="16MiB", persistent=True) as made:
        made["a"] = counted(LARGE)
    with oc.Pool.open(path, mode="r") as reader:
        ref = pool.put({"file": plain, "frame": pd.DataFrame({"x": plain}), "pool": reader["a"]})
        got = ref.get(copy)
        got["file"] += 1
        got["pool"] += 1
        got["frame"].loc[0, "x"] = 5.0
        assert np.array_equal(ref.get()["file"], counted(LARGE))
        assert np.array_equal(ref.get()["pool"], counted(LARGE))
        assert np.array_equal(np.load(tmp_path / "a.npy"), counted(LARGE))
        del got, ref


def test_it_keeps_its_block_and_no_more(pool):
    ref = pool.put({"large": counted(LARGE), "other": counted(LARGE)})
    kept = ref.get("on_write")["large"]
    ref.release()
    gc.collect()
    assert LARGE <= used(pool) < 1.5 * LARGE
    for value in range(30):  # all free memory is overwritten
        pool.full(LARGE, value, "u1")
    assert np.array_equal(kept, counted(LARGE))
    del kept
    assert used(pool) == 0


def test_neighbours_on_its_pages_are_not_disturbed(pool):
    """Blocks are not aligned to pages: the first and the last page have parts of other blocks."""
    before, ref, behind = (
        pool.array(np.full(1000, 1, "u1")),
        pool.put(np.full(LARGE + 100, 2, "u1")),
        pool.array(np.full(1000, 3, "u1")),
    )
    got = ref.get("on_write")
    got[:] = 9
    before[:], behind[:] = 4, 5
    assert (got == 9).all()
    assert (before == 4).all()
    assert (behind == 5).all()
    assert (ref.get() == 2).all()


def test_it_outlives_the_pool_object(pool_directory):
    pool = oc.Pool.create("it", size="16MiB")
    got = pool.put(counted(LARGE)).get("on_write")
    got[0] = 5
    pool.close()
    assert got[0] == 5
    assert np.array_equal(got[1:], counted(LARGE)[1:])


def test_it_can_be_sent_as_it_is_now(pool):
    queue = pool.queue()
    queue.put(counted(LARGE))
    got = queue.get(copy="on_write")
    got += 1
    queue.put(got)
    got += 1
    assert np.array_equal(queue.get(), counted(LARGE) + 1)
    assert got.flags.writeable
    assert np.array_equal(pickle.loads(pickle.dumps(got)), counted(LARGE) + 2)


# ----------------------------------------------------------------------------------------- forks


def in_child(act):
    """Run a function in a forked child; return its exit status, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        faulthandler.disable()  # a fault may be the expected result
        signal.alarm(int(LIMIT))
        try:
            act()
            status = 0
        except BaseException:  # noqa: BLE001 - it is reported, and nothing returns into pytest
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_has_what_was_written_before_and_its_own_pages_after(pool):
    got = pool.put(counted(LARGE)).get("on_write")
    got[0] = 5

    def child():
        assert got[0] == 5
        assert got[1] == 1
        got[0], got[1], got[-1] = 6, 7, 8

    assert in_child(child) == 0
    assert got[[0, 1]].tolist() == [5, 1]
    assert got[-1] == counted(LARGE)[-1]


def test_a_child_keeps_the_block_after_its_parent_let_go(pool):
    """The pages that were not written are still those of the block."""
    got = pool.put(counted(LARGE)).get("on_write")
    asks, asked = os.pipe()
    told, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        signal.alarm(int(LIMIT))
        try:
            os.write(asked, b"x")
            os.read(told, 1)
            assert np.array_equal(got, counted(LARGE))
            got[:] = 0
            status = 0
        finally:
            os._exit(status)
    os.read(asks, 1)
    del got
    for value in range(30):
        pool.full(LARGE, value, "u1")
    assert used(pool) >= LARGE
    os.write(tells, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for end in (asks, asked, told, tells):
        os.close(end)
    pool.collect()
    assert used(pool) == 0


# AddressSanitizer turns the fault into an abort (`make san`).
FAULT = signal.SIGABRT if "libasan" in os.environ.get("LD_PRELOAD", "") else signal.SIGSEGV


def test_in_a_child_that_is_no_member_it_faults(pool_directory):
    """The child does not keep the block: a signal is better than another message's data."""
    with oc.Pool.create("full", size="16MiB", max_processes=2) as pool:
        got = pool.put(counted(LARGE)).get("on_write")
        with occupied(pool):
            assert in_child(lambda: got[0]) == -FAULT
            assert in_child(lambda: got.__setitem__(0, 1)) == -FAULT
        assert np.array_equal(got, counted(LARGE))
        got += 1


def test_what_a_child_has_mapped_keeps_no_lock_of_its_parent(pool):
    """A parent that was killed is dead, although its child has the pages."""
    told, tells = os.pipe()
    parent = os.fork()
    if parent == 0:
        signal.alarm(int(LIMIT))
        got = pool.put(counted(LARGE)).get("on_write")
        slot = pool.member.slot
        child = os.fork()
        if child == 0:
            os.write(tells, bytes([slot]))
            signal.pause()
            del got
        signal.pause()
    slot = os.read(told, 1)[0]
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    pool.collect()
    holders = {holder["slot"] for holder in pool.member.holders()}
    assert slot not in holders
    [child] = [h["pid"] for h in pool.member.holders() if h["pid"] != os.getpid()]
    os.kill(child, signal.SIGKILL)
    os.close(told)
    os.close(tells)


# ---------------------------------------------------------------------------------------- limits


def test_a_process_has_its_share_of_mappings_and_goes_on_with_copies(pool_directory):
    """Linux gives a process 65,530; other users of mappings need some of them."""

    def child():
        with oc.Pool.create(size="8MiB") as pool:
            before = _native.private_mappings()
            ref = pool.put(np.arange(1 << 18, dtype="u1"))
            kept = [ref.get("on_write") for _ in range(16_384 + 50)]
            assert _native.private_mappings() == 16_384
            for each in (kept[0], kept[16_383], kept[-1]):
                each[0] = 9
            assert ref.get()[0] == 0
            del kept
            assert _native.private_mappings() == before
            ref.get("on_write")[0] = 1

    assert in_child(child) == 0


def test_without_the_pool_s_descriptor_it_is_a_copy(pool):
    """The mapping needs a descriptor; a library that makes daemons has closed all of them."""

    def child():
        ref = pool.put(counted(LARGE))
        os.closerange(3, 1 << 16)
        got = ref.get("on_write")
        assert _native.private_mappings() == 0
        got += 1
        assert np.array_equal(got, counted(LARGE) + 1)
        assert np.array_equal(ref.get(), counted(LARGE))

    assert in_child(child) == 0


def test_after_the_second_descriptor_was_closed_another_one_is_opened(pool):
    ref = pool.put(counted(LARGE))
    before = set(Path("/proc/self/fd").iterdir())
    ref.get("on_write")
    [link] = [link for link in Path("/proc/self/fd").iterdir() if link not in before]
    os.close(int(link.name))
    ref.get("on_write")  # notices
    kept = ref.get("on_write")
    assert _native.private_mappings() == 1
    kept[0] = 1


# ------------------------------------------------------------------- libraries that write anyhow


@pytest.fixture
def guarded():
    """As in a process that has loaded torch, which writes to memory that is read-only."""
    before = _native.guard_writes(True)
    yield
    _native.guard_writes(before)


def force(array):
    """Write to an array as a library does that does not check whether it is writable."""
    ctypes.memset(array.ctypes.data, 7, array.nbytes)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("nbytes", [SMALL, LARGE])
@pytest.mark.parametrize("nested", [False, True])
def test_where_read_only_memory_is_written_nobody_else_sees_it(pool, guarded, way, nbytes, nested):
    array = counted(nbytes)
    mine = pool.put(array)
    obj = mine.get(copy=False)  # in the pool, and sent by reference
    got = way(pool, [obj] if nested else obj, None)
    got = got[0] if nested else got
    assert not got.flags.writeable
    force(got)
    assert (got.view("u1") == 7).all()
    assert np.array_equal(mine.get(), array)
    assert np.array_equal(obj, array)


def test_it_can_be_told_that_nobody_writes(pool, guarded):
    ref = pool.put(counted(LARGE))
    assert type(ref.get(copy=False).base) is _native.Lease
    assert type(ref.get().base) is _native.PrivateMemory


# -------------------------------------------------------------------------------------- Executor


def add(array, number):
    array += number
    return array


def changed(frame):
    frame.loc[0, "a"] = -1.0
    return frame


def first(ref, array):
    array[0] = 5
    return float(ref.get()[0]), float(array[0])


@pytest.mark.parametrize("copy", WRITABLE)
def test_calls_may_write_to_arguments_and_their_callers_to_results(pool, copy):
    pd = pytest.importorskip("pandas")
    array = counted(LARGE)
    frame = pd.DataFrame({"a": array, "b": array})
    with oc.Executor(1, pool, copy=copy) as executor:
        for number in (1, 2):
            result = executor.submit(add, array, number).result()
            assert np.array_equal(result, array + number)
            result += 1
        table = executor.submit(changed, frame).result()
        table.loc[1, "a"] = 7.0
        assert table.a[:2].tolist() == [-1.0, 7.0]
        ref = executor.share(array)
        assert executor.submit(first, ref, pool.array(array)).result() == (0.0, 5.0)
        results = list(executor.map(partial(add, array), [1, 2]))
        assert [result[0] for result in results] == [1, 2]
    assert np.array_equal(array, counted(LARGE))
    assert frame.a[0] == 0.0


def test_an_executor_refuses_another_value(pool):
    with pytest.raises(ValueError, match='"on_write"'):
        oc.Executor(1, pool, copy="write")
