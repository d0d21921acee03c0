"""Typical uses of queues: in a loop, in a `with` block, with the oldest message dropped."""

import gc
import queue as standard
import threading

import numpy as np
import pytest
from children import LIMIT, used

import onecopy as oc
import onecopy.multiprocessing as dropin


def test_a_loop_ends_with_the_shutdown(pool):
    queue = pool.queue()
    queue.put_many(range(5))
    queue.shutdown()
    assert list(queue) == [0, 1, 2, 3, 4]
    assert list(queue) == []


def test_a_loop_waits(pool):
    queue = pool.queue()
    taken = []
    thread = threading.Thread(target=lambda: taken.extend(queue))
    thread.start()
    queue.put_many(["a", "b"])
    queue.shutdown()
    thread.join(LIMIT)
    assert taken == ["a", "b"]


def test_a_block_closes_the_queue_here(pool):
    other = pool.queue("q")
    with pool.queue("q") as queue:
        queue.put(1)
    with pytest.raises(oc.OneCopyError):
        queue.put(2)
    assert other.get() == 1


# ------------------------------------------------------------------------------ drop_oldest


@pytest.mark.parametrize("redeliver", [False, True])
def test_the_oldest_gives_way(pool, redeliver):
    queue = pool.queue(maxsize=3, redeliver=redeliver)
    for index in range(10):
        queue.put(np.full(5000, index), drop_oldest=True)
        assert queue.qsize() == min(index + 1, 3)
    got = []
    while not queue.empty():
        got.append(queue.get()[0])
        queue.task_done()
    assert got == [7, 8, 9]
    queue.join(timeout=LIMIT)
    gc.collect()
    assert used(pool) == 0


def test_small_ones_too_and_with_a_timeout(pool):
    queue = pool.queue(maxsize=1)
    for index in range(5):
        queue.put(index, timeout=0, drop_oldest=True)
    assert queue.get_nowait() == 4


def test_nothing_is_dropped_while_there_is_room(pool):
    queue = pool.queue(maxsize=4)
    for index in range(4):
        queue.put(index, drop_oldest=True)
    assert queue.get_many(4) == [0, 1, 2, 3]


def test_what_is_in_hand_cannot_be_dropped(pool):
    queue = pool.queue(maxsize=2, redeliver=True)
    queue.put_many("ab")
    first, second = queue.get_message(), queue.get_message()
    with pytest.raises(standard.Full):
        queue.put("c", block=False, drop_oldest=True)
    first.task_done()
    queue.put("c", timeout=LIMIT, drop_oldest=True)
    second.task_done()
    assert queue.get() == "c"


def test_a_queue_that_was_shut_down_takes_none(pool):
    queue = pool.queue(maxsize=1)
    queue.put(1)
    queue.shutdown()
    with pytest.raises(oc.ShutDown):
        queue.put(2, drop_oldest=True)
    assert queue.get() == 1


def test_producers_and_consumers_at_once(pool):
    """Each consumer gets its messages in order, and the last message arrives."""
    queue = pool.queue(maxsize=4)
    taken = [[], []]

    def consume(mine):
        for item in queue:
            mine.append(item)

    threads = [threading.Thread(target=consume, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for index in range(20_000):
        queue.put(index, drop_oldest=True)
    queue.shutdown()
    for thread in threads:
        thread.join(LIMIT)
    for mine in taken:
        assert mine == sorted(mine)
    together = sorted(taken[0] + taken[1])
    assert len(set(together)) == len(together)
    assert together[-1] == 19_999


# ------------------------------------------------------------------------- with get_message()


def test_a_block_finishes_the_message(pool):
    queue = pool.queue(redeliver=True)
    queue.put("work")
    with queue.get_message() as message:
        assert message.item == "work"
    queue.join(timeout=LIMIT)
    with pytest.raises(ValueError, match="task_done"):
        message.task_done()


@pytest.mark.parametrize("redeliver", [False, True])
def test_a_message_that_is_finished_in_its_block_is_finished_once(pool, redeliver):
    queue = pool.queue(redeliver=redeliver)
    queue.put_many(["a", "b"])
    with queue.get_message() as message:
        message.task_done()
    with pytest.raises(TimeoutError):
        queue.join(timeout=0)  # "b" is not finished yet
    with queue.get_message() as message:
        assert message.item == "b"
    queue.join(timeout=LIMIT)


def finish_and_fail(queue):
    with queue.get_message() as message:
        message.task_done()
        1 / 0  # noqa: B018


def test_a_message_that_is_given_back_in_its_block_is_not_finished(pool):
    queue = pool.queue(redeliver=True)
    queue.put("work")
    with queue.get_message() as message:
        message.give_back()
    with pytest.raises(ZeroDivisionError):
        finish_and_fail(queue)
    assert queue.empty()
    queue.join(timeout=LIMIT)


def test_an_exception_gives_it_back_to_the_head(pool):
    queue = pool.queue(redeliver=True)
    queue.put_many([np.full(5000, 1), np.full(5000, 2)])
    with pytest.raises(ZeroDivisionError), queue.get_message():
        1 / 0  # noqa: B018
    assert queue.qsize() == 2
    with queue.get_message() as message:
        assert message.redelivered
        assert message.item[0] == 1
    with queue.get_message() as message:
        assert not message.redelivered
        assert message.item[0] == 2
    queue.join(timeout=LIMIT)
    assert pool.validate() == []


def test_a_queue_that_does_not_redeliver_counts_it_as_done(pool):
    queue = pool.queue()
    queue.put("work")
    with pytest.raises(ZeroDivisionError), queue.get_message():
        1 / 0  # noqa: B018
    queue.join(timeout=LIMIT)
    queue.put("more")
    with pytest.raises(ValueError, match="redeliver=True"):
        queue.get_message().give_back()


def test_messages_come_back_in_order_whoever_gives_them_back(pool):
    queue = pool.queue(redeliver=True)
    queue.put_many(range(200))  # several chunks
    hands = [queue.get_message() for _ in range(150)]
    for message in reversed(hands[20:140:3]):
        message.give_back()
    expected = list(range(20, 140, 3)) + list(range(150, 200))
    assert [queue.get() for _ in expected] == expected
    assert pool.validate() == []


def test_giving_back_twice_is_refused(pool):
    queue = pool.queue(redeliver=True)
    queue.put(1)
    message = queue.get_message()
    message.give_back()
    with pytest.raises(ValueError, match="give_back"):
        message.give_back()
    again = queue.get_message()
    with pytest.raises(ValueError, match="give_back"):
        pool.queue(redeliver=True)._give_back(0)
    again.task_done()


def test_after_an_immediate_shutdown_it_is_dropped(pool):
    queue = pool.queue(redeliver=True)
    queue.put(np.zeros(5000))
    message = queue.get_message()
    queue.shutdown(immediate=True)
    message.give_back()
    with pytest.raises(oc.ShutDown):
        queue.get(timeout=0)
    queue.join(timeout=LIMIT)


def test_somebody_who_waits_is_woken(pool, start, method):
    queue, answers = pool.queue(redeliver=True), pool.queue()
    queue.put("again")
    message = queue.get_message()
    child = start(method, pass_on, queue, answers)
    assert answers.get(timeout=LIMIT) == "ready"
    message.give_back()
    assert answers.get(timeout=LIMIT) == ("again", True)
    child.wait()


def pass_on(queue, answers):
    answers.put("ready")
    message = queue.get_message(timeout=LIMIT)
    answers.put((message.item, message.redelivered))
    message.task_done()


def test_looking_for_an_object_takes_nothing(pool):
    queue = pool.queue()
    queue.put_many([1, 2, 3])
    with pytest.raises(TypeError, match="container"):
        assert 2 in queue
    assert queue.qsize() == 3


def test_the_queues_of_the_drop_in_cannot_be_iterated_as_the_standard_ones():
    queue = dropin.Queue()
    queue.put(1)
    with pytest.raises(TypeError, match="not iterable"):
        dropin.Process(target=print, args=(queue))  # a comma is missing
    assert queue.get() == 1
