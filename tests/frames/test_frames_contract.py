"""What frames guarantee: a fixed number of equal arrays, each free or in use."""

import contextlib
import gc
import pickle
import queue as standard
import threading

import numpy as np
import pytest
from children import LIMIT, used

import onecopy as oc


@pytest.fixture
def frames(pool):
    return pool.frames("cam0", shape=(48, 64, 3), dtype="uint8", count=3)


def place(array):
    return array.__array_interface__["data"][0]


def test_a_frame_is_an_ordinary_writable_array(frames):
    frame = frames.acquire()
    assert type(frame) is np.ndarray
    assert (frame.shape, frame.dtype) == ((48, 64, 3), np.uint8)
    assert frame.flags.writeable
    assert frame.flags.c_contiguous
    assert place(frame) % 64 == 0
    assert (frames.shape, frames.dtype, frames.count) == (frame.shape, frame.dtype, 3)


def test_frames_go_out_and_come_home(pool, frames):
    assert frames.available == 3
    held = [frames.acquire() for _ in range(3)]
    assert len({place(frame) for frame in held}) == 3
    assert frames.available == 0
    for timeout in (0, 0.001):
        with pytest.raises(standard.Empty):
            frames.acquire(timeout=timeout)
    part = held[0][:10, ::2]
    held.clear()
    assert frames.available == 2
    del part
    assert frames.available == 3
    assert pool.validate() == []


def test_a_frame_that_comes_home_wakes_who_waits(frames):
    held = [frames.acquire() for _ in range(3)]
    places = []
    waiter = threading.Thread(target=lambda: places.append(place(frames.acquire())))
    waiter.start()
    expected = place(held[1])
    del held[1]
    waiter.join()
    assert places == [expected]


def test_a_frame_travels_without_a_copy_and_comes_home(pool, frames):
    queue, stream = pool.queue(), pool.stream()
    subscription = stream.subscribe()
    frame = frames.acquire()
    frame[:] = 7
    expected = place(frame)
    queue.put((1, frame))
    stream.publish({"frame": frame[10:20]})
    assert not frame.flags.writeable
    del frame
    assert frames.available == 2
    _, got = queue.get()
    part = subscription.get()["frame"]
    assert place(got) == expected
    assert place(part) == expected + 10 * 64 * 3
    assert got.sum() == 7 * got.size
    del got
    assert frames.available == 2
    del part
    subscription.close()
    stream.publish(None)
    for _ in range(stream.depth):
        stream.publish(None)
    assert frames.available == 3


def test_a_recycled_frame_is_writable_again(pool, frames):
    queue = pool.queue()
    for turn in range(20):
        frame = frames.acquire(timeout=0)
        frame[:] = turn
        queue.put(frame)
        del frame
        assert queue.get()[0, 0, 0] == turn


def test_lend_brings_the_frame_home(frames):
    with frames.lend() as frame:
        assert frame.flags.writeable
        frame[:] = 1
        assert frames.available == 2
    assert frames.available == 3
    assert frame.shape == (0,)


def test_lend_brings_the_frame_home_after_an_error(frames):
    with contextlib.suppress(ZeroDivisionError), frames.lend() as frame:
        frame[:] = 1 // 0
    gc.collect()
    assert frames.available == 3


def test_a_lent_frame_that_was_sent_stays_with_its_receiver(pool, frames):
    queue = pool.queue()
    with frames.lend() as frame:
        frame[:] = 5
        queue.put(frame)
    assert frames.available == 2
    got = queue.get()
    assert (got == 5).all()
    del got
    assert frames.available == 3


def test_a_lent_frame_that_something_still_refers_to_stays_valid(frames):
    with frames.lend() as frame:
        frame[:] = 5
        part = frame[1:3]
        view = memoryview(frame)
    assert frames.available == 2
    assert (part == 5).all()
    assert view[0, 0, 0] == 5
    view.release()
    del view, frame
    assert frames.available == 2
    del part
    assert frames.available == 3


def test_lend_in_a_loop_needs_one_frame(pool):
    frames = pool.frames(None, (10,), "u1", 1)
    for turn in range(10):
        with frames.lend(timeout=0) as frame:
            frame[:] = turn
    assert frames.available == 1


def test_lend_waits_no_longer_than_told(frames):
    held = [frames.acquire() for _ in range(3)]
    with pytest.raises(standard.Empty), frames.lend(timeout=0):
        pass
    held.clear()


def test_names(pool, frames):
    for twin in (pool.frames("cam0"), pool.frames("cam0", [48, 64, 3], np.uint8, 3)):
        assert (twin.handle, twin.shape, twin.dtype, twin.count, twin.name) == (
            frames.handle,
            (48, 64, 3),
            np.uint8,
            3,
            "cam0",
        )
    with pytest.raises(oc.OneCopyError, match=r"frames 'cam0'.*shape=\(48, 64, 3\).*shape=\(4,\)"):
        pool.frames("cam0", (4,))
    with pytest.raises(oc.OneCopyError, match=r"frames 'cam0'.*dtype"):
        pool.frames("cam0", dtype="f4")
    with pytest.raises(oc.OneCopyError, match=r"frames 'cam0'.*count=3.*count=4"):
        pool.frames("cam0", count=4)
    with pytest.raises(oc.OneCopyError, match=r"no frames named 'none'.*shape, dtype and count"):
        pool.frames("none")
    assert pickle.loads(pickle.dumps(frames)).name == "cam0"
    assert repr(frames) == "<onecopy.Frames 'cam0', 3 of 3 free, shape (48, 64, 3), uint8>"


def test_bad_arguments_are_refused(pool):
    for count in (0, -1, 1 << 30):
        with pytest.raises(ValueError, match="count"):
            pool.frames(None, (4,), "u1", count)
    for shape in ((0,), (3, 0)):
        with pytest.raises(ValueError, match="no bytes"):
            pool.frames(None, shape, "u1", 2)
    with pytest.raises(ValueError, match="negative"):
        pool.frames(None, (-1,), "u1", 2)
    with pytest.raises(TypeError):
        pool.frames(None, (4,), "u1", 2.5)


def test_frames_that_do_not_fit_leave_nothing(pool):
    with pytest.raises(oc.PoolFull):
        pool.frames("many", (1 << 20,), "u1", 100)
    assert pool.stats().used == 0
    assert pool.stats().structures == 0
    pool.frames("many", (1 << 20,), "u1", 10)


@pytest.mark.parametrize("dtype", ["f8", ">i4", "c8", "?", "M8[ns]", [("a", "i4"), ("b", "U2")]])
def test_any_dtype_without_objects(pool, dtype):
    frames = pool.frames(None, (4, 5), dtype, 2)
    assert frames.dtype == np.dtype(dtype)
    assert frames.acquire().dtype == np.dtype(dtype)
    assert pickle.loads(pickle.dumps(frames)).dtype == np.dtype(dtype)


def test_closed_frames_say_so_and_leave_what_is_out(pool, frames):
    frame = frames.acquire()
    twin = pool.frames("cam0")
    frames.close()
    frames.close()
    for call in (frames.acquire, lambda: frames.available, lambda: pickle.dumps(frames)):
        with pytest.raises(oc.OneCopyError):
            call()
    frame[:] = 3
    assert twin.available == 2
    del frame
    assert twin.available == 3


def test_a_frame_outlives_the_frames(pool):
    frames = pool.frames(None, (1000,), "u1", 2)
    frame = frames.acquire()
    frame[:] = 9
    del frames
    gc.collect()
    more = [pool.zeros(1000, "u1") for _ in range(100)]
    assert (frame == 9).all()
    del frame, more
    assert pool.stats().used == 0


# --------------------------------------------------------------------------- between processes


def produce(frames, queue, count):
    for index in range(count):
        frame = frames.acquire()
        frame[:] = index % 256
        queue.put((index, frame))
        del frame


def test_frames_go_round_between_processes(pool, frames, method, start):
    queue = pool.queue(maxsize=8)
    count = 500
    child = start(method, produce, frames, queue, count)
    for expected in range(count):
        index, frame = queue.get(timeout=LIMIT)
        assert index == expected
        assert (frame == index % 256).all()
        del frame
    assert child.wait() == 0
    assert frames.available == 3
    del frames
    assert pool.validate() == []


def hold(frames, ready):
    held = [frames.acquire(), frames.acquire()]
    ready.put(len(held))
    threading.Event().wait()


def test_frames_of_the_dead_come_home(pool, frames, method, start):
    ready = pool.queue()
    child = start(method, hold, frames, ready)
    assert ready.get(timeout=LIMIT) == 2
    mine = frames.acquire(timeout=0)
    with pytest.raises(standard.Empty):
        frames.acquire(timeout=0)
    child.kill()
    others = [frames.acquire(timeout=LIMIT), frames.acquire(timeout=LIMIT)]
    assert len({place(frame) for frame in (mine, *others)}) == 3
    del mine, others
    assert used(pool) == pool.stats().used
    assert frames.available == 3
