"""Messages that a process took and did not finish go to another one when it dies."""

import os
import queue as standard
import threading

import pytest
from children import LIMIT, asleep, eventually
from redelivered import check, drain, forever, image, is_empty

import onecopy as oc

pytestmark = pytest.mark.one_in(2)


@pytest.fixture
def queue(pool):
    return pool.queue(redeliver=True)


# ------------------------------------------------------------------------------ takers that end


def take_and_wait(queue, count, finish, ready):
    messages = [queue.get_message() for _ in range(count)]
    for index in finish:
        messages[index].task_done()
    ready.put([(message.item["index"], message.redelivered) for message in messages])
    forever()


def test_what_a_killed_taker_had_comes_first_and_whole(pool, queue, method, start):
    ready = pool.queue()
    queue.put_many([image(index) for index in range(4)])
    child = start(method, take_and_wait, queue, 2, [], ready)
    assert ready.get(timeout=LIMIT) == [(0, False), (1, False)]
    assert queue.qsize() == 2
    child.kill()
    pool.collect()
    more = [pool.zeros(20_000) for _ in range(20)]  # their memory must not have been reused
    assert queue.qsize() == 4
    messages = [queue.get_message() for _ in range(4)]
    for index, message in enumerate(messages):
        check(message.item, index)
        assert message.redelivered == (index < 2)
        assert ("redelivered" in repr(message)) == (index < 2)
    for message in reversed(messages):
        message.task_done()
    del messages, message, more, child
    is_empty(pool, queue)


def test_what_was_finished_does_not_come_back(pool, queue, method, start):
    ready = pool.queue()
    queue.put_many([image(index) for index in range(100)])
    child = start(method, take_and_wait, queue, 90, [0, 1, 5, 70, 89], ready)
    ready.get(timeout=LIMIT)
    child.kill()
    pool.collect()
    expected = [(index, index < 90) for index in range(100) if index not in {0, 1, 5, 70, 89}]
    assert drain(queue) == expected
    is_empty(pool, queue)


def test_several_takers(pool, queue, start):
    ready = pool.queue()
    queue.put_many([image(index) for index in range(7)])
    first = start("fork", take_and_wait, queue, 2, [], ready)
    ready.get(timeout=LIMIT)
    second = start("spawn", take_and_wait, queue, 2, [1], ready)
    ready.get(timeout=LIMIT)
    mine = queue.get_message()
    second.kill()
    pool.collect()
    assert queue.get_message().item["index"] == 2
    first.kill()
    pool.collect()
    third = start("fork", take_and_wait, queue, 2, [1], ready)
    assert ready.get(timeout=LIMIT) == [(0, True), (1, True)]
    third.kill()
    pool.collect()
    assert drain(queue) == [(0, True), (5, False), (6, False)]
    mine.task_done()
    queue.task_done()
    del mine
    is_empty(pool, queue)


def take_and_end(queue, count, how):
    assert len(queue.get_many(count)) == count
    if how == "finish":
        for _ in range(count):
            queue.task_done()
    elif how == "raise":
        raise SystemExit(3)
    elif how == "exit":
        os._exit(4)


@pytest.mark.parametrize(("how", "status"), [("return", 0), ("raise", 3), ("exit", 4)])
def test_who_ends_without_finishing_has_not_finished(pool, queue, method, start, how, status):
    queue.put_many([image(index) for index in range(3)])
    assert start(method, take_and_end, queue, 2, how).wait() == status
    pool.collect()
    assert drain(queue) == [(0, True), (1, True), (2, False)]
    is_empty(pool, queue)


def test_who_finishes_and_ends_leaves_nothing(pool, queue, method, start):
    queue.put_many([image(index) for index in range(3)])
    assert start(method, take_and_end, queue, 2, "finish").wait() == 0
    pool.collect()
    assert drain(queue) == [(2, False)]
    is_empty(pool, queue)


def take_forever(queue, out):
    while True:
        message = queue.get_message()
        out.put((message.item["index"], message.redelivered))
        message.task_done()


def test_a_getter_that_waits_elsewhere_gets_it(pool, queue, method, start):
    """No process calls `collect`: a waiter looks for dead processes itself."""
    ready, out = pool.queue(), pool.queue()
    queue.put(image(0))
    taker = start(method, take_and_wait, queue, 1, [], ready)
    ready.get(timeout=LIMIT)
    waiter = start(method, take_forever, queue, out)
    eventually(lambda: asleep(waiter.pid), "the child to wait")
    taker.kill()
    assert out.get(timeout=LIMIT) == (0, True)
    queue.join(timeout=LIMIT)


@pytest.mark.parametrize(
    "get",
    [
        lambda queue: queue.get_nowait(),
        lambda queue: queue.get(timeout=0),
        lambda queue: queue.get(timeout=0.01),
        lambda queue: queue.get_many(5, timeout=0)[0],
    ],
)
def test_a_get_that_does_not_wait_gets_it(pool, queue, start, get):
    ready = pool.queue()
    queue.put(image(0))
    child = start("fork", take_and_wait, queue, 1, [], ready)
    ready.get(timeout=LIMIT)
    with pytest.raises(standard.Empty):
        get(queue)
    child.kill()
    check(get(queue), 0)
    queue.task_done()
    is_empty(pool, queue)


def test_a_get_that_waits_gets_it(pool, queue, start):
    ready = pool.queue()
    queue.put(image(0))
    child = start("fork", take_and_wait, queue, 1, [], ready)
    ready.get(timeout=LIMIT)
    got = []
    getter = threading.Thread(target=lambda: got.append(queue.get_message(timeout=LIMIT)))
    getter.start()
    child.kill()
    getter.join(LIMIT)
    check(got[0].item, 0)
    assert got[0].redelivered


def test_a_busy_queue_notices_by_itself(pool, queue, start):
    """Never empty, no process waits, none calls `collect`."""
    ready = pool.queue()
    queue.put(image(0))
    child = start("fork", take_and_wait, queue, 1, [], ready)
    ready.get(timeout=LIMIT)
    child.kill()
    queue.put_many(range(1000))
    messages = []
    while not (messages and messages[-1].redelivered):
        messages.append(queue.get_message())
    assert len(messages) < 100
    check(messages[-1].item, 0)


def test_join_waits_for_what_came_back(pool, queue, start):
    ready, out = pool.queue(), pool.queue()
    queue.put_many([image(0), image(1)])
    child = start("fork", take_and_wait, queue, 1, [], ready)
    ready.get(timeout=LIMIT)
    queue.get_message().task_done()
    joiner = threading.Thread(target=queue.join)
    joiner.start()
    child.kill()
    pool.collect()
    with pytest.raises(TimeoutError, match="1 tasks"):
        queue.join(timeout=0.001)
    assert joiner.is_alive()
    start("fork", take_forever, queue, out)
    joiner.join(LIMIT)
    assert not joiner.is_alive()
    assert out.get(timeout=LIMIT) == (0, True)


def test_many_that_were_taken_at_once(pool, queue, method, start):
    queue.put_many([image(index) if index % 50 == 0 else index for index in range(300)])
    assert start(method, take_and_end, queue, 200, "exit").wait() == 4
    pool.collect()
    assert queue.qsize() == 300
    got = queue.get_many(250)
    check(got[0], 0)
    check(got[50], 50)
    assert got[1:50] == list(range(1, 50))
    assert got[201:250] == list(range(201, 250))
    for _ in got:
        queue.task_done()
    del got
    assert drain(queue) == [(index, False) for index in range(250, 300)]
    is_empty(pool, queue)


def test_room_that_the_dead_had_taken_comes_free_when_it_is_finished(pool, start):
    queue, ready = pool.queue(maxsize=2, redeliver=True), pool.queue()
    queue.put_many([image(0), image(1)])
    child = start("fork", take_and_wait, queue, 2, [], ready)
    ready.get(timeout=LIMIT)
    child.kill()
    with pytest.raises(standard.Full):
        queue.put(2, timeout=0.001)
    assert drain(queue) == [(0, True), (1, True)]
    queue.put(2, timeout=0)
    assert drain(queue) == [(2, False)]
    is_empty(pool, queue)


def test_after_a_shutdown_the_dead_still_give_back(pool, queue, start):
    ready = pool.queue()
    queue.put_many([image(0), image(1)])
    child = start("fork", take_and_wait, queue, 2, [1], ready)
    ready.get(timeout=LIMIT)
    queue.shutdown()
    with pytest.raises(oc.ShutDown):
        queue.get()
    child.kill()
    message = queue.get_message()
    assert (message.item["index"], message.redelivered) == (0, True)
    message.task_done()
    with pytest.raises(oc.ShutDown):
        queue.get()
    del message
    is_empty(pool, queue)


def test_after_an_immediate_shutdown_they_give_nothing_back(pool, queue, start):
    ready = pool.queue()
    queue.put_many([image(index) for index in range(4)])
    dead = start("fork", take_and_wait, queue, 1, [], ready)
    ready.get(timeout=LIMIT)
    alive = start("fork", take_and_wait, queue, 1, [], ready)
    ready.get(timeout=LIMIT)
    dead.kill()
    queue.shutdown(immediate=True)
    with pytest.raises(TimeoutError, match="1 tasks"):
        queue.join(timeout=0)
    alive.kill()
    queue.join(timeout=LIMIT)
    with pytest.raises(oc.ShutDown):
        queue.get()
    is_empty(pool, queue)


def test_a_child_cannot_finish_what_its_parent_took(pool, queue):
    queue.put_many([image(0), image(1)])
    message = queue.get_message()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with pytest.raises(ValueError, match="only the parent"):
                message.task_done()
            with pytest.raises(ValueError, match="too many times"):
                queue.task_done()
            check(queue.get(timeout=LIMIT), 1)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    pool.collect()
    check(message.item, 0)
    message.task_done()
    assert drain(queue) == [(1, True)]
    del message
    is_empty(pool, queue)


def test_the_parent_of_a_dead_taker_keeps_what_it_took(pool, queue, start):
    ready = pool.queue()
    queue.put_many([image(0), image(1)])
    mine = queue.get_message()
    child = start("fork", take_and_wait, queue, 1, [], ready)
    ready.get(timeout=LIMIT)
    child.kill()
    pool.collect()
    assert drain(queue) == [(1, True)]
    mine.task_done()
    del mine
    is_empty(pool, queue)


def take_and_leave(name, out):
    with oc.Pool.open(name) as pool:
        assert pool.queue("jobs").get() == 1
    out.put("left")
    forever()


# A fork has the membership of its parent.
@pytest.mark.parametrize("method", ["forkserver", "spawn", "stranger"])
def test_who_leaves_the_pool_and_lives_on_gives_back(pool, method, start):
    queue = pool.queue("jobs", redeliver=True)
    queue.put(1)
    with oc.Pool.create(size="16MiB") as elsewhere:
        out = elsewhere.queue()
        start(method, take_and_leave, pool.name, out)
        assert out.get(timeout=LIMIT) == "left"
        assert queue.qsize() == 1
        assert drain(queue) == [(1, True)]
    is_empty(pool, queue)


def work(jobs, results):
    while True:
        message = jobs.get_message()
        results.put((message.item["index"], message.redelivered, int(message.item["image"].sum())))
        message.task_done()


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_workers_killed_at_random_lose_nothing(pool, start):
    count = 3000
    jobs, results = pool.queue("jobs", maxsize=32, redeliver=True), pool.queue(maxsize=0)
    workers = [start("fork", work, jobs, results) for _ in range(3)]
    seen, kills, puts = {}, 0, 0

    def collect_results():
        while not results.empty():
            index, redelivered, total = results.get()
            assert total == index * 20_000
            assert redelivered or index not in seen, "twice, and not flagged"
            seen[index] = redelivered

    while puts < count:
        jobs.put(image(puts), timeout=LIMIT)
        puts += 1
        collect_results()
        if puts % 50 == 0:
            workers.pop(0).kill()
            workers.append(start("fork", work, jobs, results))
            kills += 1
    jobs.join(timeout=LIMIT)
    collect_results()
    assert sorted(seen) == list(range(count))
    assert kills == count // 50
    for worker in workers:
        worker.kill()
    collect_results()
    is_empty(pool, jobs)
