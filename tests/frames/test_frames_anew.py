"""Frames under a name that had others, of another shape, when those are not used any more."""

import gc
import threading

import numpy as np
import pytest
from children import LIMIT

import onecopy as oc
from onecopy._core.kinds import Kind

# ------------------------------------------------------------------------------------- frames again


def test_frames_that_nobody_has_are_made_anew_in_another_shape(pool):
    queue = pool.queue()
    frames = pool.frames("cam0", (480, 640, 3), "u1", 4)
    frame = frames.acquire()
    frame[:] = 1
    queue.put({"image": frame})
    del frame
    frames.close()
    anew = pool.frames("cam0", (720, 1280, 3), "u1", 3)
    assert (anew.shape, anew.count) == ((720, 1280, 3), 3)
    # The end of a set does not remove frames that are on their way.
    image = queue.get()["image"]
    assert image.shape == (480, 640, 3)
    assert (image == 1).all()
    del image
    anew.acquire()[:] = 2
    assert pool.stats().used == 3 * 720 * 1280 * 3
    assert pool.validate() == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"count": 5}, oc.OneCopyError),
        ({"shape": (8, 8)}, oc.OneCopyError),
        ({"dtype": "f8"}, oc.OneCopyError),
        ({"shape": (8, 0), "count": 4}, ValueError),
        ({"shape": (8, 8), "count": 0}, ValueError),
    ],
)
def test_frames_stay_if_the_call_could_not_make_others(pool, arguments, error):
    pool.frames("cam0", (4, 4), "u1", 4).close()
    with pytest.raises(error):
        pool.frames("cam0", **arguments)
    assert pool.frames("cam0").shape == (4, 4)


def have(pool, ready, wait):
    frames = pool.frames("cam0")
    ready.put(frames.count)
    wait.get()


def test_frames_that_a_process_has_stay_until_it_is_dead(pool, start, method):
    pool.frames("cam0", (4, 4), "u1", 4).close()
    ready, wait = pool.queue(), pool.queue()
    child = start(method, have, pool, ready, wait)
    assert ready.get(timeout=LIMIT) == 4
    with pytest.raises(oc.OneCopyError, match=r"shape=\(4, 4\).*this call has shape=\(8, 8\)"):
        pool.frames("cam0", (8, 8), "u1", 4)
    assert pool.frames("cam0").shape == (4, 4)
    child.kill()
    assert pool.frames("cam0", (8, 8), "u1", 4).shape == (8, 8)


def test_frames_that_something_refers_to_stay(pool):
    frames = pool.frames("cam0", (4, 4), "u1", 4)
    pool["camera"] = frames
    frames.close()
    with pytest.raises(oc.OneCopyError, match=r"Pool\.delete"):
        pool.frames("cam0", (8, 8), "u1", 4)
    assert pool["camera"].shape == (4, 4)


def test_of_two_that_ask_for_another_shape_both_get_the_same(pool):
    for size in range(5, 60):
        both = threading.Barrier(2)
        got = []

        def ask(size=size, both=both, got=got):
            both.wait(LIMIT)
            got.append(pool.frames("cam0", (size, size), "u1", 2))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({frames.handle for frames in got}) == 1
        del got, ask, threads
        gc.collect()
    assert pool.validate() == []


def test_cameras_that_come_and_go_under_their_own_names(pool):
    for number in range(100):
        pool.frames(f"cam {number}", (720, 1280, 3), "u1", 2).close()  # 5.3 of 64 MiB
    array = pool.empty(60 << 20, "u1")  # nor do they make an array impossible
    del array
    pool.frames("cam", (720, 1280, 3), "u1", 2).close()
    assert pool.put(np.zeros(60 << 20, "u1")).get().nbytes == 60 << 20
    assert pool.validate() == []


def test_frames_that_are_kept_are_not_deleted_for_want_of_room(pool):
    kept = pool.frames("kept", (1 << 20,), "u1", 30)
    pool.frames("spare", (1 << 20,), "u1", 30).close()
    with pytest.raises(oc.PoolFull):
        pool.empty(40 << 20, "u1")
    assert pool.member.name_list(Kind.FRAMES) == ["kept"]
    assert kept.available == 30
