"""What a queue guarantees, between threads and between processes of every kind."""

import contextlib
import gc
import pickle
import queue as standard
import threading

import numpy as np
import pytest
from children import LIMIT, asleep, eventually, used

import onecopy as oc


@pytest.fixture
def queue(pool):
    return pool.queue()


# ---------------------------------------------------------------------------------- in one process


def test_first_in_first_out(queue):
    for index in range(1000):
        queue.put(index)
    assert [queue.get() for _ in range(1000)] == list(range(1000))


@pytest.mark.parametrize("maxsize", [0, 1, 2, 63, 64, 65, 1000])
def test_size_and_fullness(pool, maxsize):
    queue = pool.queue(maxsize=maxsize)
    assert queue.maxsize == maxsize
    assert queue.empty()
    count = maxsize or 3000
    for index in range(count):
        assert not queue.full()
        queue.put_nowait(index)
        assert queue.qsize() == index + 1
    assert queue.full() == bool(maxsize)
    if maxsize:
        with pytest.raises(standard.Full):
            queue.put_nowait(0)
    for turn in range(3):  # more than one round of the ring
        for index in range(count):
            assert queue.get_nowait() == index + turn * count
            queue.put_nowait(index + (turn + 1) * count)
    assert queue.qsize() == count


def test_an_empty_queue(queue):
    for call in (
        queue.get_nowait,
        lambda: queue.get(block=False),
        lambda: queue.get(False, 100),
        lambda: queue.get(timeout=0),
        lambda: queue.get(timeout=0.001),
        lambda: queue.get_many(5, timeout=0.001),
        lambda: queue.get_message(block=False),
    ):
        with pytest.raises(standard.Empty):
            call()


def test_a_full_queue_gives_nothing_away(pool):
    queue = pool.queue(maxsize=1)
    queue.put(np.zeros(10_000))
    before = pool.stats().used
    for call in (
        lambda: queue.put_nowait(1),
        lambda: queue.put(1, block=False),
        lambda: queue.put(1, timeout=0.001),
        lambda: queue.put(np.zeros(10_000), timeout=0.001),
        lambda: queue.put({"a": np.zeros(10_000)}, timeout=0.001),
        lambda: queue.put_many([1, 2], timeout=0.001),
    ):
        with pytest.raises(standard.Full):
            call()
    gc.collect()
    assert pool.stats().used == before
    assert queue.qsize() == 1


def test_bad_timeouts_are_refused(queue):
    queue.put(1)
    for call in (
        lambda: queue.get(timeout=-1),
        lambda: queue.put(1, timeout=-0.5),
        lambda: queue.get_many(1, timeout=-1),
    ):
        with pytest.raises(ValueError, match="non-negative"):
            call()
    with pytest.raises(TypeError):
        queue.get(timeout="1")
    assert queue.qsize() == 1


def test_many_at_once(pool):
    queue = pool.queue(maxsize=100)
    queue.put_many(range(100))
    assert queue.get_many(10) == list(range(10))
    assert queue.get_many(1000) == list(range(10, 100))
    queue.put_many(iter([]))
    assert queue.empty()
    queue.put_many([np.full(5000, index) for index in range(5)])
    got = queue.get_many(5)
    assert [array[0] for array in got] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="max_items"):
        queue.get_many(0)
    with pytest.raises(ValueError, match="max_items"):
        queue.get_many(-1)


def test_put_many_that_runs_out_of_room_says_so(pool):
    queue = pool.queue(maxsize=3)
    with pytest.raises(standard.Full):
        queue.put_many(range(5), timeout=0.01)
    assert queue.get_many(10) == [0, 1, 2]


def test_tasks(queue):
    queue.put_many(range(3))
    for expected in range(3):
        assert queue.get() == expected
        queue.task_done()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    queue.join()
    queue.put(1)
    message = queue.get_message()
    assert (message.item, message.redelivered) == (1, False)
    message.task_done()
    queue.join(timeout=LIMIT)


def test_join_waits_for_the_tasks(queue):
    queue.put(1)

    def work():
        queue.get()
        queue.task_done()

    worker = threading.Thread(target=work)
    worker.start()
    queue.join()
    worker.join()
    assert queue.empty()


def test_shutdown_lets_take_what_is_left(queue):
    queue.put_many([1, 2])
    assert not queue.is_shut_down
    queue.shutdown()
    queue.shutdown()
    assert queue.is_shut_down
    with pytest.raises(oc.ShutDown):
        queue.put(3)
    assert [queue.get(), queue.get()] == [1, 2]
    for call in (queue.get, queue.get_nowait, lambda: queue.get_many(1), queue.get_message):
        with pytest.raises(oc.ShutDown):
            call()


def test_immediate_shutdown_drops_what_is_left(pool, queue):
    queue.put_many([np.zeros(10_000)] * 3)
    queue.shutdown(immediate=True)
    with pytest.raises(oc.ShutDown):
        queue.get()
    queue.join(timeout=LIMIT)
    assert used(pool) == 0


def test_a_closed_queue_says_so_and_others_go_on(pool):
    queue = pool.queue("jobs")
    twin = pool.queue("jobs")
    queue.put(1)
    queue.close()
    queue.close()
    for call in (
        queue.get,
        lambda: queue.put(1),
        queue.qsize,
        queue.empty,
        queue.task_done,
        queue.shutdown,
        lambda: queue.put_many([1]),
        lambda: queue.get_many(1),
        lambda: pickle.dumps(queue),
    ):
        with pytest.raises(oc.OneCopyError):
            call()
    assert repr(queue) == "<onecopy.Queue 'jobs', closed>"
    assert twin.get() == 1


def test_a_queue_that_is_dropped_frees_what_is_on_it(pool):
    queue = pool.queue()
    queue.put_many([np.zeros(10_000), {"a": np.zeros(10_000)}, pool.zeros(10_000)])
    assert pool.stats().used > 200_000
    del queue
    assert pool.stats().used == 0
    assert pool.stats().structures == 0
    assert pool.stats().structure_bytes == 0


def test_a_message_that_can_never_fit_is_refused_at_once(pool, queue):
    huge = np.zeros(65 << 20, "u1")
    for obj in (huge, {"a": huge}, huge.tobytes()):
        with pytest.raises(oc.PoolFull, match="can never fit"):
            queue.put(obj)
        with pytest.raises(oc.PoolFull, match="can never fit"):
            queue.put(obj, timeout=LIMIT)
    assert queue.empty()


def test_a_pool_that_is_full_is_an_error_with_sizes(pool, queue):
    kept = pool.zeros(60 << 20, "u1")
    with pytest.raises(oc.PoolFull, match=r"60\.0 MiB of 64\.0 MiB"):
        queue.put(np.zeros(10 << 20, "u1"))
    queue.put("small ones still fit")
    del kept
    queue.put(np.zeros(10 << 20, "u1"))
    assert queue.qsize() == 2


def test_names(pool):
    queue = pool.queue("jobs", maxsize=7)
    for twin in (pool.queue("jobs"), pool.queue("jobs", 7), pool.queue("jobs", redeliver=False)):
        assert (twin.handle, twin.maxsize, twin.name) == (queue.handle, 7, "jobs")
    with pytest.raises(oc.OneCopyError, match=r"queue 'jobs'.*maxsize=7.*maxsize=8"):
        pool.queue("jobs", 8)
    with pytest.raises(oc.OneCopyError, match=r"queue 'jobs'.*redeliver=False.*redeliver=True"):
        pool.queue("jobs", redeliver=True)
    assert pool.queue("other").maxsize == 1024
    assert pool.queue().name is None
    assert pool.queue().handle != pool.queue().handle
    queue.put(1)
    assert repr(queue) == "<onecopy.Queue 'jobs', 1 of 7>"
    assert repr(pool.queue(maxsize=0)) == "<onecopy.Queue, 0 of ∞>"
    del queue, twin
    assert pool.queue("jobs").get() == 1


@pytest.mark.parametrize("name", ["", "x" * 201, "\ud800"])
def test_bad_names_are_refused(pool, name):
    for call in (pool.queue, pool.stream, lambda name: pool.frames(name, (1,), "u1", 1)):
        with pytest.raises(ValueError, match="name"):
            call(name)


def test_bad_arguments_are_refused(pool):
    with pytest.raises(ValueError, match="maxsize=-1"):
        pool.queue(maxsize=-1)
    with pytest.raises(TypeError):
        pool.queue(maxsize=1.5)
    with pytest.raises(TypeError):
        pool.queue(7)


def test_a_queue_is_pickled_by_reference(pool):
    queue = pool.queue("jobs", maxsize=5)
    queue.put(1)
    twin = pickle.loads(pickle.dumps(queue))
    assert (twin.get(), twin.name, twin.maxsize) == (1, "jobs", 5)
    data = pickle.dumps(pool.queue())
    with pytest.raises(oc.StaleRef):
        pickle.loads(data)


def test_threads_share_one_queue(pool):
    queue = pool.queue(maxsize=10)
    producers, each = 4, 500
    taken = [[] for _ in range(producers)]

    def produce(number):
        for index in range(each):
            queue.put((number, index, np.full(index % 3 * 2000 + 1, index)))

    def consume(mine):
        with contextlib.suppress(oc.ShutDown):
            while True:
                number, index, array = queue.get()
                assert (array == index).all()
                mine.append((number, index))

    consumers = [threading.Thread(target=consume, args=(mine,)) for mine in taken]
    threads = [threading.Thread(target=produce, args=(number,)) for number in range(producers)]
    for thread in (*consumers, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    queue.shutdown()
    for thread in consumers:
        thread.join()
    everything = [item for mine in taken for item in mine]
    assert sorted(everything) == [(n, i) for n in range(producers) for i in range(each)]
    for mine in taken:
        for number in range(producers):
            order = [index for producer, index in mine if producer == number]
            assert order == sorted(order)
    assert used(pool) == 0


def test_a_view_outlives_everything_else(pool_directory):
    """After del, gc.collect(), close() in the sender and a thousand allocations it is unchanged."""
    pool = oc.Pool.create(size="64MiB")
    queue = pool.queue()
    receiver = oc.Pool.open(pool.name)
    theirs = receiver.queue()
    sent = pool.array(np.arange(100_000))
    queue.put(sent)
    queue.put({"image": np.arange(50_000)[::2], "whole": sent[::-3]})
    first, second = queue.get(), queue.get()
    expected = np.arange(100_000)
    del sent, queue
    gc.collect()
    pool.close()
    del pool
    gc.collect()
    for index in range(1000):
        theirs.put(receiver.full(1000 + index, 255, "u1"))
        if index % 3:
            theirs.get()
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second["image"], np.arange(50_000)[::2])
    np.testing.assert_array_equal(second["whole"], expected[::-3])
    receiver.close()
    del receiver, theirs
    gc.collect()
    np.testing.assert_array_equal(first, expected)
    del first, second
    gc.collect()
    assert list(pool_directory.iterdir()) == []


# --------------------------------------------------------------------------- between processes


def echo(requests, replies):
    with contextlib.suppress(oc.ShutDown):
        while True:
            replies.put(requests.get())


def test_every_kind_of_object_there_and_back(pool, method, start):
    requests, replies = pool.queue(), pool.queue()
    child = start(method, echo, requests, replies)
    objects = [
        None,
        7,
        "text",
        b"x" * 10_000,
        (1, "two", b"three"),
        {"id": 7, "image": np.arange(100_000).reshape(100, 1000)},
        np.asfortranarray(np.arange(10_000.0).reshape(100, 100)),
        pool.array(np.arange(100_000))[::-7],
        np.zeros((0, 3)),
        np.array(5),
        [1, [2, {"x": np.zeros(10_000, "M8[s]")}]],
    ]
    for obj in objects:
        requests.put(obj)
        got = replies.get(timeout=LIMIT)
        assert type(got) is type(obj)
        np.testing.assert_equal(got, obj)
    requests.shutdown()
    assert child.wait() == 0
    del objects, obj, got
    assert used(pool) == 0
    assert pool.validate() == []


def place_of(requests, replies, pool_name):
    with oc.Pool.open(pool_name) as pool:
        array = requests.get()
        replies.put(pool.member.where(array))
        replies.put(array[1::2])


def test_an_array_goes_there_and_back_without_a_copy(pool, method, start):
    requests, replies = pool.queue(), pool.queue()
    child = start(method, place_of, requests, replies, pool.name)
    array = pool.array(np.arange(1_000_000))
    requests.put(array)
    assert replies.get(timeout=LIMIT) == pool.member.where(array)
    back = replies.get(timeout=LIMIT)
    assert pool.stats().used == array.nbytes
    assert back.__array_interface__["data"][0] == array[1:].__array_interface__["data"][0]
    assert child.wait() == 0
    np.testing.assert_array_equal(back, array[1::2])
    del array, back
    assert used(pool) == 0


def produce_by_name(pool_name, number, count):
    with oc.Pool(pool_name, size="64MiB") as pool:
        jobs, gate = pool.queue("jobs", maxsize=16), pool.queue("gate")
        for index in range(count):
            jobs.put({"from": number, "index": index, "data": np.full(3000, index)})
        gate.get()


def consume_by_name(pool_name, count):
    with oc.Pool(pool_name, size="64MiB") as pool:
        jobs, results = pool.queue("jobs", maxsize=16), pool.queue("results", maxsize=0)
        for _ in range(count):
            message = jobs.get()
            assert (message["data"] == message["index"]).all()
            results.put((message["from"], message["index"]))


def test_processes_meet_by_name(method, start):
    """The process that comes first makes the pool and the queues."""
    producers, consumers, each = 2, 2, 200
    children = [
        start(method, produce_by_name, "meeting", number, each) for number in range(producers)
    ]
    children += [
        start(method, consume_by_name, "meeting", producers * each // consumers)
        for _ in range(consumers)
    ]
    with oc.Pool("meeting", size="64MiB") as pool:
        results = pool.queue("results", maxsize=0)
        got = [results.get(timeout=LIMIT) for _ in range(producers * each)]
        assert sorted(got) == [(n, i) for n in range(producers) for i in range(each)]
        pool.queue("gate").put_many([None] * producers)
        assert [child.wait() for child in children] == [0] * len(children)
        assert used(pool) == 0
        assert pool.validate() == []


def make_same(pool_name, ready, go):
    with oc.Pool.open(pool_name) as pool:
        ready.put(None)
        go.get()
        for index in range(50):
            pool.queue(f"same {index}", maxsize=5).put(1)
            pool.shared_array(10, "i4", name=f"array {index}")[0] += 1


def test_one_of_many_that_ask_for_a_name_creates(pool, start):
    ready, go = pool.queue(), pool.queue()
    children = [start("fork", make_same, pool.name, ready, go) for _ in range(4)]
    for _ in children:
        ready.get(timeout=LIMIT)
    go.put_many([None] * len(children))
    assert [child.wait() for child in children] == [0] * len(children)
    assert [pool.queue(f"same {index}").qsize() for index in range(50)] == [4] * 50


def wait_in_get(queue, ready, outcome):
    ready.put(None)
    try:
        queue.get()
    except oc.ShutDown:
        outcome.put("shut down")


def test_shutdown_wakes_who_waits_elsewhere(pool, method, start):
    queue, ready, outcome = pool.queue(), pool.queue(), pool.queue()
    child = start(method, wait_in_get, queue, ready, outcome)
    ready.get(timeout=LIMIT)
    eventually(lambda: asleep(child.pid), "the child to wait")
    queue.shutdown()
    assert outcome.get(timeout=LIMIT) == "shut down"
    assert child.wait() == 0


def take_all(queue, count):
    for _ in range(count):
        queue.get()
        queue.task_done()


def test_join_waits_for_tasks_done_elsewhere(pool, method, start):
    queue = pool.queue()
    queue.put_many(range(100))
    child = start(method, take_all, queue, 100)
    queue.join(timeout=LIMIT)
    assert queue.empty()
    assert child.wait() == 0


def put_slowly(queue, count):
    for index in range(count):
        queue.put((index, np.full(100_000, index % 256, "u1")))


def test_a_full_queue_holds_the_producer_back(pool, method, start):
    """64 MiB are much less than all the messages: memory is used again."""
    queue = pool.queue(maxsize=4)
    count = 2000
    child = start(method, put_slowly, queue, count)
    for index in range(count):
        got, array = queue.get(timeout=LIMIT)
        assert got == index
        assert array[0] == array[-1] == index % 256
        del array
    assert child.wait() == 0
    assert used(pool) == 0
    assert pool.stats().committed < 32 << 20


def reply(requests):
    question, answers = requests.get()
    answers.put(question * 2)


def test_a_queue_travels_on_a_queue(pool, method, start):
    requests, answers = pool.queue(), pool.queue()
    child = start(method, reply, requests)
    requests.put((21, answers))
    assert answers.get(timeout=LIMIT) == 42
    assert child.wait() == 0
