"""Messages that are finished, or come back, within one process; and how often each was given."""

import contextlib
import os
import pickle
import queue as standard
import threading

import numpy as np
import pytest
from children import LIMIT, used
from redelivered import check, drain, forever, image, is_empty

import onecopy as oc

pytestmark = pytest.mark.one_in(2)


@pytest.fixture
def queue(pool):
    return pool.queue(redeliver=True)


# ------------------------------------------------------------------------------- in one process


def test_it_is_a_property_of_the_queue(pool):
    assert pool.queue("jobs", redeliver=True).redeliver
    for same in (pool.queue("jobs"), pool.queue("jobs", redeliver=True)):
        assert same.redeliver
        assert pickle.loads(pickle.dumps(same)).redeliver
    with pytest.raises(oc.OneCopyError, match=r"queue 'jobs'.*redeliver=True.*redeliver=False"):
        pool.queue("jobs", redeliver=False)
    assert not pool.queue().redeliver
    assert not oc.Queue().redeliver


def test_messages_in_order(pool, queue):
    for turn in range(3):
        for index in range(100):
            queue.put(index if index % 3 else image(index))
        assert drain(queue) == [(index, False) for index in range(100)], turn
    is_empty(pool, queue)


@pytest.mark.parametrize("maxsize", [1, 2, 63, 64, 65, 200])
def test_what_is_not_finished_takes_room(pool, maxsize):
    queue = pool.queue(maxsize=maxsize, redeliver=True)
    queue.put_many(range(maxsize))
    messages = [queue.get_message() for _ in range(maxsize)]
    assert (queue.qsize(), queue.empty(), queue.full()) == (0, True, True)
    with pytest.raises(standard.Full):
        queue.put_nowait(0)
    for message in messages[1:]:
        message.task_done()
    with pytest.raises(standard.Full):  # the order is the order of the slots
        queue.put(0, timeout=0.001)
    messages[0].task_done()
    assert not queue.full()
    queue.put_many(range(maxsize), timeout=0)
    assert drain(queue) == [(index, False) for index in range(maxsize)]
    is_empty(pool, queue)


def test_a_put_waits_until_something_is_finished(pool):
    queue = pool.queue(maxsize=1, redeliver=True)
    queue.put(1)
    message = queue.get_message()
    putter = threading.Thread(target=queue.put, args=(2,))
    putter.start()
    assert queue.empty()
    message.task_done()
    putter.join(LIMIT)
    assert queue.get(timeout=LIMIT) == 2


def test_a_message_is_finished_once(pool, queue):
    queue.put_many(range(3))
    messages = [queue.get_message() for _ in range(3)]
    messages[1].task_done()
    for message in (messages[1], messages[1]):
        with pytest.raises(ValueError, match="called for it before"):
            message.task_done()
    messages[0].task_done()  # the floor passes both
    for message in messages[:2]:
        with pytest.raises(ValueError, match="called for it before"):
            message.task_done()
    messages[2].task_done()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    is_empty(pool, queue)


def test_task_done_finishes_the_oldest(pool, queue):
    queue.put_many(range(200))
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    assert queue.get_many(150) == list(range(150))
    late = queue.get_message()
    for _ in range(150):
        queue.task_done()
    late.task_done()  # was not one of them
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    with pytest.raises(TimeoutError, match="49 tasks"):
        queue.join(timeout=0)
    assert drain(queue) == [(index, False) for index in range(151, 200)]
    is_empty(pool, queue)


def test_task_done_finishes_what_the_thread_took(pool, queue):
    """So several workers in one process need no messages."""
    queue.put_many(["mine", "theirs"])
    message = queue.get_message()

    def work():
        assert queue.get() == "theirs"
        queue.task_done()

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    message.task_done()
    is_empty(pool, queue)


def test_a_thread_may_finish_what_another_took(pool, queue):
    queue.put(1)
    queue.get()
    worker = threading.Thread(target=queue.task_done)
    worker.start()
    worker.join()
    is_empty(pool, queue)


def test_memory_is_free_when_finished_even_behind_one_that_takes_long(pool, queue):
    queue.put("takes long")
    queue.put_many([image(index) for index in range(100)])
    first = queue.get_message()
    got = [queue.get_message() for _ in range(100)]
    for index, message in enumerate(got):
        check(message.item, index)
        message.task_done()
    del got, message
    assert used(pool) == 0
    first.task_done()
    is_empty(pool, queue)


def test_what_was_taken_stays_valid_after_task_done(pool, queue):
    queue.put(image(7))
    message = queue.get_message()
    message.task_done()
    queue.put(image(8))
    check(message.item, 7)
    del message
    assert drain(queue) == [(8, False)]
    is_empty(pool, queue)


def test_what_could_not_be_rebuilt_counts_as_taken(pool, queue):
    queue.put(Stubborn())
    queue.put(1)
    with pytest.raises(RuntimeError, match="no way"):
        queue.get()
    queue.task_done()
    assert drain(queue) == [(1, False)]
    is_empty(pool, queue)


class Stubborn:
    def __reduce__(self):
        return refuse, ()


def refuse():
    raise RuntimeError("no way")


def test_a_queue_that_is_dropped_frees_what_was_taken(pool):
    queue = pool.queue(redeliver=True)
    queue.put_many([image(index) for index in range(5)])
    queue.get_many(2)
    del queue
    assert pool.stats().used == 0
    assert pool.stats().structures == 0


def test_shutdown_lets_finish(pool, queue):
    queue.put_many([image(index) for index in range(3)])
    message = queue.get_message()
    queue.shutdown()
    with pytest.raises(oc.ShutDown):
        queue.put(1)
    assert drain(queue) == [(1, False), (2, False)]
    for call in (queue.get, queue.get_nowait, queue.get_message, lambda: queue.get_many(2)):
        with pytest.raises(oc.ShutDown):
            call()
    with pytest.raises(TimeoutError, match="1 tasks"):
        queue.join(timeout=0)
    message.task_done()
    del message
    is_empty(pool, queue)


def test_immediate_shutdown_drops_what_nobody_has(pool, queue):
    queue.put_many([image(index) for index in range(200)])
    message = queue.get_message()
    queue.shutdown(immediate=True)
    with pytest.raises(oc.ShutDown):
        queue.get()
    with pytest.raises(TimeoutError, match="1 tasks"):
        queue.join(timeout=0)
    check(message.item, 0)
    message.task_done()
    del message
    is_empty(pool, queue)


def test_threads_share_one_queue(pool):
    queue = pool.queue(maxsize=10, redeliver=True)
    producers, each = 3, 300
    taken = [[] for _ in range(3)]

    def produce(number):
        for index in range(each):
            queue.put({"index": (number, index), "image": np.full(index % 3 * 2000 + 1, index)})

    def consume(mine):
        """Hold two messages of two, and finish the newer one first."""
        with contextlib.suppress(oc.ShutDown):
            while True:
                hand = [queue.get_message()]
                with contextlib.suppress(standard.Empty, oc.ShutDown):
                    hand.append(queue.get_message(block=False))
                for message in reversed(hand):
                    number, index = message.item["index"]
                    assert (message.item["image"] == index).all()
                    assert not message.redelivered
                    mine.append((number, index))
                    message.task_done()

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
    is_empty(pool, queue)


# ------------------------------------------------------------------------ how often it was given


def test_deliveries_are_counted(pool, queue):
    queue.put_many(["first", "second"])
    for count in range(1, 70):
        message = queue.get_message()
        assert (message.item, message.redelivered) == ("first", count > 1)
        assert message.deliveries == min(count, 64)
        message.give_back()
    for item, count in (("first", 64), ("second", 1)):
        message = queue.get_message()
        assert (message.item, message.deliveries) == (item, count)
        message.task_done()
    queue.put("third")  # in a slot of its own, which counts from the beginning
    assert queue.get_message().deliveries == 1


def tell_deliveries(queue, told):
    message = queue.get_message()
    told.put(message.deliveries)
    forever()


def test_deaths_count_and_so_does_what_was_given_back(pool, queue, start, method):
    told = pool.queue()
    queue.put(image(7))
    for count in (1, 2):
        child = start(method, tell_deliveries, queue, told)
        assert told.get(timeout=LIMIT) == count
        child.kill()
    message = queue.get_message(timeout=LIMIT)
    assert message.deliveries == 3
    message.give_back()
    message = queue.get_message(timeout=LIMIT)
    check(message.item, 7)
    assert message.deliveries == 4
    message.task_done()
    del message
    is_empty(pool, queue)


def test_what_does_not_redeliver_counts_one(pool):
    queue = pool.queue()
    queue.put(1)
    assert queue.get_message().deliveries == 1


class OnlyHere:
    """Cannot be rebuilt."""

    def __reduce__(self):
        return int, ("no number",)


def test_what_cannot_be_rebuilt_can_be_finished(pool, queue):
    queue.put(OnlyHere())
    with pytest.raises(ValueError, match="no number"):
        queue.get_message()
    queue.task_done()
    is_empty(pool, queue)


# --------------------------------------------------------------------- messages that are dropped


def test_a_message_that_nobody_looked_at_goes_back(pool):
    queue = pool.queue(redeliver=True)
    queue.put_many(["a", "b"])
    queue.get_message()
    again = queue.get_message()
    assert (again.item, again.redelivered, again.deliveries) == ("a", True, 2)
    again.task_done()


def test_one_that_somebody_looked_at_stays_in_hand(pool):
    queue = pool.queue(redeliver=True)
    queue.put_many(["a", "b"])
    assert queue.get_message().item == "a"
    assert queue.get_message().item == "b"
    assert queue.empty()
    queue.task_done()
    queue.task_done()
    queue.join(timeout=0)


def test_one_that_was_finished_does_not_come_back(pool):
    queue = pool.queue(redeliver=True)
    queue.put("a")
    queue.get_message().task_done()
    assert queue.empty()
    queue.join(timeout=0)


def test_a_queue_that_does_not_redeliver_takes_nothing_back(pool):
    queue = pool.queue()
    queue.put("a")
    queue.get_message()
    assert queue.empty()


def test_a_block_that_finishes_its_message_finishes_it_once(pool):
    for queue in (pool.queue(redeliver=True), pool.queue()):
        queue.put_many([1, 2])
        with queue.get_message() as message:
            message.task_done()
        with contextlib.suppress(LookupError), queue.get_message() as message:
            message.task_done()
            raise LookupError
        queue.join(timeout=0)


def test_a_child_does_not_put_back_what_its_parent_has(pool):
    queue = pool.queue(redeliver=True)
    queue.put("a")
    message = queue.get_message()
    child = os.fork()
    if child == 0:
        del message
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert queue.empty()
    assert message.item == "a"
    message.task_done()


def test_messages_are_made_by_queues_only(pool):
    with pytest.raises(TypeError, match=r"made by Queue\.get_message"):
        oc.Message()
    queue = pool.queue()
    queue.put(1)
    message = queue.get_message()
    assert repr(message) == f"<Message from {queue!r}>"
    message.item = None
    assert message.item is None
