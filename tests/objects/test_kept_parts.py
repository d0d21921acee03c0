"""A receiver that keeps one part of a message keeps only the memory of that part."""

import gc
import pickle

import numpy as np
import pytest
from children import eventually, used

import onecopy as oc

PART = 64 << 10  # bytes
PARTS = 20


def parts():
    return [np.full(PART, number, np.uint8) for number in range(PARTS)]


def by_queue(pool, message):
    queue = pool.queue()
    queue.put(message)
    return queue.get()


def by_many(pool, message):
    queue = pool.queue()
    queue.put_many([message, message])
    return queue.get_many(2)[0]


def by_redelivery(pool, message):
    queue = pool.queue(redeliver=True)
    queue.put(message)
    taken = queue.get_message()
    taken.task_done()
    return taken.item


def by_stream(pool, message):
    stream = pool.stream(depth=2)
    subscription = stream.subscribe()
    stream.publish(message)
    got = subscription.get()
    for _ in range(2):  # the stream itself keeps its newest messages
        stream.publish(0)
    return got


def by_reference(pool, message):
    return pool.put(message).get()


def by_name(pool, message):
    pool["name"] = message
    got = pool["name"]
    del pool["name"]
    return got


def by_list(pool, message):
    return pool.list([message])[0]


def by_dict(pool, message):
    return pool.dict({"key": message})["key"]


WAYS = [by_queue, by_many, by_redelivery, by_stream, by_reference, by_name, by_list, by_dict]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrap", [list, tuple, lambda arrays: {"deep": {"list": arrays}}])
def test_one_of_many_arrays(pool, way, wrap):
    got = way(pool, wrap(parts()))
    arrays = got["deep"]["list"] if isinstance(got, dict) else got
    assert [array[0] for array in arrays] == list(range(PARTS))
    kept = arrays[7]
    del got, arrays
    gc.collect()
    assert kept.tobytes() == bytes([7]) * PART
    assert used(pool) == PART
    del kept
    assert used(pool) == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_frame_goes_home_although_its_companion_is_kept(pool, way):
    frames = pool.frames(shape=(64, 1024), dtype="uint8", count=1)
    boxes = []
    for number in range(5):  # if a frame did not come back, the second round would wait without end
        frame = frames.acquire(timeout=30)
        frame[:] = number
        got = way(pool, {"image": frame, "boxes": np.full(PART, number, np.uint8)})
        del frame
        assert got["image"][0, 0] == number
        boxes.append(got["boxes"])
        del got
        gc.collect()
        assert frames.available == 1
    assert [kept[-1] for kept in boxes] == list(range(5))


def test_other_kinds_of_parts(pool):
    """Buffers of pickle, views of memory and array subclasses are parts as well."""
    message = {
        "buffer": pickle.PickleBuffer(bytearray(b"b" * PART)),
        "view": memoryview(b"v" * PART),
        "masked": np.ma.masked_array(np.full(PART, 3, np.uint8), mask=np.zeros(PART, bool)),
        "strided": np.full((PART, 2), 4, np.uint8)[:, 0],
        "fortran": np.full((256, PART // 256), 5, np.uint8, order="F"),
    }
    for name in message:
        before = used(pool)
        got = by_queue(pool, dict(message))[name]
        kept = np.asarray(got)
        del got
        gc.collect()
        assert used(pool) - before <= 2 * PART, name  # the masked array has a mask
        assert kept.size
        del kept


def test_results_and_arguments_of_calls():
    with oc.Executor(1) as executor:
        pool = oc.default_pool()
        before = used(pool)
        kept = executor.submit(parts).result()[7]
        gc.collect()
        # The manager's thread releases the answer a moment after the future has it.
        eventually(lambda: used(pool) - before == PART, "one part to be kept")
        assert kept[0] == 7
        results = [executor.submit(_last, parts()).result() for _ in range(PARTS)]
        del kept
        gc.collect()
        eventually(lambda: used(pool) - before <= PARTS * PART, "the answers to be released")
        assert [result[0] for result in results] == [PARTS - 1] * PARTS


def _last(arrays):
    return arrays[-1].copy()


def test_many_small_parts_share_blocks(pool):
    """A message of very many buffers uses a limited number of blocks, and arrives complete."""
    arrays = [np.full(4096, number % 251, np.uint8) for number in range(9000)]
    blocks = pool.stats().blocks
    queue = pool.queue()
    queue.put(arrays)
    assert pool.stats().blocks - blocks <= 4097
    got = queue.get()
    assert all((a == b).all() for a, b in zip(got, arrays, strict=True))
    kept = got[4000]
    del got
    gc.collect()
    assert used(pool) <= 3 * 4096
    assert kept[0] == 4000 % 251


def test_a_message_that_finds_no_room_takes_none(pool):
    half = pool.empty(40 << 20, np.uint8)
    queue = pool.queue()
    before = used(pool)
    with pytest.raises(oc.PoolFull):
        queue.put([np.zeros(8 << 20, np.uint8) for _ in range(4)])
    assert used(pool) == before
    del half
    queue.put([np.zeros(8 << 20, np.uint8) for _ in range(4)])
    assert len(queue.get()) == 4
