"""What a process took and did not finish goes to somebody else when it dies."""

import contextlib
import os
import pickle
import queue as standard
import threading

import numpy as np
import pytest
from children import LIMIT, asleep, eventually, used

import onecopy as oc

pytestmark = pytest.mark.one_in(2)


@pytest.fixture
def queue(pool):
    return pool.queue(redeliver=True)


def image(index):
    return {"index": index, "image": np.full(20_000, index)}


def check(item, index):
    assert item["index"] == index
    assert (item["image"] == index).all()


def drain(queue):
    """Take and finish all that is there; tell what it was, and whether it had been taken before."""
    got = []
    while True:
        try:
            message = queue.get_message(block=False)
        except (standard.Empty, oc.ShutDown):
            return got
        item = message.item
        got.append((item["index"] if isinstance(item, dict) else item, message.redelivered))
        message.task_done()


def is_empty(pool, queue):
    queue.join(timeout=LIMIT)
    assert queue.empty()
    assert used(pool) == 0
    assert pool.validate() == []


def forever():
    threading.Event().wait()


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
        """Have two in hand where there are two, and finish the newer one first."""
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
    more = [pool.zeros(20_000) for _ in range(20)]  # nobody may have been given their memory
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
    """Nobody collects: who waits looks for the dead by itself."""
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
    """Never empty, nobody waits, nobody collects."""
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


@pytest.mark.parametrize("method", ["forkserver", "spawn", "stranger"])  # a fork has its parent's
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
