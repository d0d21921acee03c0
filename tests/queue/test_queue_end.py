"""Queues at their end: what is left in one that was shut down, and what it keeps."""

import gc
import queue as standard
import threading

import numpy as np
import pytest
from children import LIMIT, eventually

import onecopy as oc

# ------------------------------------------------------------------------------ queues at their end


@pytest.mark.parametrize("redeliver", [False, True])
def test_a_queue_that_is_through_keeps_no_room_for_messages(redeliver):
    with oc.Pool.create(size="8MiB") as pool:
        for number in range(2000):
            queue = pool.queue(f"reply {number}", maxsize=16, redeliver=redeliver)
            queue.put(b"done")
            if number % 2:
                queue.shutdown()
            assert queue.get() == b"done"
            queue.task_done()
            if number % 2:
                with pytest.raises(oc.ShutDown):
                    queue.get()
            else:
                queue.shutdown()
            queue.close()
        assert pool.stats().structures == 2000
        late = pool.queue("reply 7")
        with pytest.raises(oc.ShutDown):
            late.get()
        with pytest.raises(oc.ShutDown):
            late.put(1)
        assert late.empty()
        late.join()
        assert pool.validate() == []


@pytest.mark.parametrize("redeliver", [False, True])
@pytest.mark.parametrize("number", [0, 1, 63, 64, 65, 130])
def test_the_last_messages_come_before_the_end(pool, redeliver, number):
    queue = pool.queue(redeliver=redeliver)
    queue.put_many(range(number))
    queue.shutdown()
    assert pool.validate() == []
    got = []
    for message in queue:
        got.append(message)
        assert pool.validate() == []
    with pytest.raises(oc.ShutDown):
        queue.get()
    assert got == list(range(number))
    for _ in got:
        queue.task_done()
    assert pool.stats().structures == 1
    assert pool.validate() == []


def take_and_die(queue, taken):
    queue.get()
    taken.put(None)
    threading.Event().wait()


def test_what_a_dead_process_took_before_the_end_is_redelivered(pool, start, method):
    queue, taken = pool.queue(redeliver=True), pool.queue()
    queue.put(b"job")
    child = start(method, take_and_die, queue, taken)
    taken.get(timeout=LIMIT)
    queue.shutdown()
    child.kill()
    message = queue.get_message(timeout=LIMIT)
    assert (message.item, message.redelivered) == (b"job", True)
    message.task_done()
    with pytest.raises(oc.ShutDown):
        queue.get()
    del taken, message
    gc.collect()
    eventually(lambda: (pool.collect(), pool.stats().structures)[1] == 1, "one structure")
    assert pool.validate() == []


def test_an_immediate_shutdown_drops_all(pool):
    for redeliver in (False, True):
        queue = pool.queue(redeliver=redeliver)
        queue.put_many([np.arange(3000)] * 70)
        queue.shutdown(immediate=True)
        assert (pool.stats().structures, pool.stats().used) == (1, 0)
        with pytest.raises(oc.ShutDown):
            queue.get()
        with pytest.raises((standard.Empty, oc.ShutDown)):
            queue.get_nowait()
        del queue
