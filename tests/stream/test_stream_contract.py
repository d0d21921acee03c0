"""What a stream guarantees: every subscriber gets every message, as its policy says."""

import pickle
import queue as standard
import threading

import numpy as np
import pytest
from children import LIMIT, asleep, eventually, used

import onecopy as oc


def drain(subscription):
    taken = []
    try:
        while True:
            taken.append(subscription.get(timeout=0))
    except standard.Empty:
        return taken


@pytest.mark.parametrize("policy", ["lossy", "lossless"])
def test_every_subscriber_sees_every_message(pool, policy):
    stream = pool.stream(depth=16, policy=policy)
    first, second = stream.subscribe(), stream.subscribe()
    assert stream.subscribers == 2
    for index in range(10):
        stream.publish({"index": index, "data": np.full(5000, index)})
    for subscription in (first, second):
        taken = drain(subscription)
        assert [message["index"] for message in taken] == list(range(10))
        assert all((message["data"] == message["index"]).all() for message in taken)
        assert subscription.missed == 0
    assert stream.published == 10
    first.close()
    second.close()
    assert stream.subscribers == 0


def test_subscribers_share_the_memory(pool):
    stream = pool.stream()
    subscriptions = [stream.subscribe() for _ in range(3)]
    array = pool.array(np.arange(10_000))
    stream.publish(array)
    places = {s.get().__array_interface__["data"][0] for s in subscriptions}
    assert places == {array.__array_interface__["data"][0]}
    assert not array.flags.writeable
    for subscription in subscriptions:
        subscription.close()


def test_a_subscription_begins_with_the_next_message(pool):
    stream = pool.stream()
    stream.publish("before")
    with_next = stream.subscribe()
    stream.publish("after")
    assert drain(with_next) == ["after"]
    with_next.close()


def test_lossy_overwrites_and_tells(pool):
    stream = pool.stream(depth=4, policy="lossy")
    slow = stream.subscribe()
    for index in range(10):
        stream.publish((index, np.full(2000, index)))
    taken = [index for index, _ in drain(slow)]
    assert taken == list(range(10 - len(taken), 10))
    assert 1 <= len(taken) <= 4
    assert slow.missed == 10 - len(taken)
    slow.close()


def test_lossless_waits_for_the_slowest(pool):
    stream = pool.stream(depth=4, policy="lossless")
    slow = stream.subscribe()
    for index in range(4):
        stream.publish(index, timeout=0)
    for timeout in (0, 0.001):
        with pytest.raises(standard.Full):
            stream.publish(99, timeout=timeout)
    assert slow.get() == 0
    stream.publish(4, timeout=0)
    assert drain(slow) == [1, 2, 3, 4]
    assert slow.missed == 0
    slow.close()


def test_lossless_does_not_wait_for_who_has_gone(pool):
    stream = pool.stream(depth=2, policy="lossless")
    slow = stream.subscribe()
    stream.publish(0)
    stream.publish(1)
    slow.close()
    assert slow.closed
    stream.publish(2, timeout=0)


def test_latest_skips_to_the_newest(pool):
    stream = pool.stream(depth=4, policy="latest")
    stream.publish("old")
    subscription = stream.subscribe()
    assert subscription.get() == "old"
    for index in range(10):
        stream.publish(index)
    assert subscription.get() == 9
    assert subscription.missed == 9
    with pytest.raises(standard.Empty):
        subscription.get(timeout=0)
    subscription.close()


def test_without_subscribers_messages_go_by(pool):
    for policy in ("lossy", "lossless", "latest"):
        stream = pool.stream(depth=2, policy=policy)
        for index in range(10):
            stream.publish(index, timeout=0)
        assert stream.published == 10


def test_closing_ends_the_subscriptions_after_what_is_left(pool):
    stream = pool.stream()
    subscription = stream.subscribe()
    stream.publish(1)
    stream.publish(2)
    stream.shutdown()
    assert list(subscription) == [1, 2]
    with pytest.raises(oc.ShutDown):
        subscription.get()
    with pytest.raises(oc.ShutDown):
        stream.publish(3)
    subscription.close()


def test_a_closed_subscription_says_so(pool):
    subscription = pool.stream().subscribe()
    subscription.close()
    subscription.close()
    with pytest.raises(oc.Closed, match="the subscription was closed in this process"):
        subscription.get(timeout=0)
    assert list(subscription) == []


def test_a_block_closes_a_subscription(pool):
    stream = pool.stream()
    with stream.subscribe() as subscription:
        stream.publish(1)
        assert subscription.get() == 1
        assert stream.subscribers == 1
    assert subscription.closed
    assert stream.subscribers == 0
    with pytest.raises(RuntimeError, match="within"), stream.subscribe() as subscription:
        raise RuntimeError("within")
    assert subscription.closed


def test_a_subscription_goes_on_after_its_pool_is_closed_in_this_process():
    with oc.Pool.create(size="4MiB") as pool:
        stream = pool.stream()
        subscription = stream.subscribe()
        stream.publish("before")
    assert pool.closed
    assert subscription.get(timeout=0) == "before"
    subscription.close()  # with which the process leaves the pool


def test_names(pool):
    stream = pool.stream("camera", depth=8, policy="lossless")
    twin = pool.stream("camera")
    assert (twin.handle, twin.depth, twin.policy, twin.name) == (
        stream.handle,
        8,
        "lossless",
        "camera",
    )
    with pytest.raises(oc.OneCopyError, match=r"stream 'camera'.*depth=8.*depth=9"):
        pool.stream("camera", depth=9)
    with pytest.raises(oc.OneCopyError, match=r"stream 'camera'.*'lossless'.*'lossy'"):
        pool.stream("camera", policy="lossy")
    assert repr(stream) == "<onecopy.Stream 'camera', lossless, depth 8>"
    assert pickle.loads(pickle.dumps(stream)).name == "camera"


def test_bad_arguments_are_refused(pool):
    for policy in ("newest", "", 1, "LOSSY", b"lossy"):
        with pytest.raises(ValueError, match=r"policy=.*'lossy', 'lossless', 'latest'"):
            pool.stream(policy=policy)
    for depth in (0, -1, 1 << 30):
        with pytest.raises(ValueError, match="depth"):
            pool.stream(depth=depth)
        with pytest.raises(ValueError, match="depth"):
            oc.Stream(depth=depth)
    with pytest.raises(TypeError):
        pool.stream(depth="4")
    with pytest.raises(ValueError, match="policy"):
        oc.Stream(policy="newest")


def test_a_message_that_can_never_fit_is_refused_at_once(pool):
    stream = pool.stream(policy="lossless")
    with pytest.raises(oc.PoolFull, match="can never fit"):
        stream.publish(np.zeros(65 << 20, "u1"))
    assert stream.published == 0


def test_the_number_of_subscribers_is_finite(pool):
    stream = pool.stream("ticks")
    subscriptions = [stream.subscribe() for _ in range(64)]
    with pytest.raises(oc.OneCopyError, match=r"stream .ticks. has 64 subscribers, .*close"):
        stream.subscribe()
    subscriptions.pop().close()
    subscriptions.append(stream.subscribe())
    stream.publish(1)
    assert [subscription.get() for subscription in subscriptions] == [1] * 64
    for subscription in subscriptions:
        subscription.close()


def test_a_stream_that_is_dropped_frees_what_it_keeps(pool):
    stream = pool.stream(depth=8)
    subscription = stream.subscribe()
    for _ in range(20):
        stream.publish(np.zeros(10_000))
    got = subscription.get()
    subscription.close()
    del stream, subscription
    assert pool.stats().blocks == 1
    assert pool.stats().structures == 0
    del got
    assert pool.stats().used == 0


def test_bad_timeouts_are_refused(pool):
    stream = pool.stream()
    subscription = stream.subscribe()
    with pytest.raises(ValueError, match="non-negative"):
        subscription.get(timeout=-1)
    with pytest.raises(ValueError, match="non-negative"):
        stream.publish(1, timeout=-1)
    subscription.close()


def test_a_reader_under_a_fast_writer_never_sees_a_torn_message(pool):
    stream = pool.stream(depth=4, policy="lossy")
    subscription = stream.subscribe()
    count = 3000

    def write():
        for index in range(count):
            stream.publish((index, np.full(2000, index)))
        stream.close()

    writer = threading.Thread(target=write)
    writer.start()
    last, seen = -1, 0
    for index, array in subscription:
        assert index > last
        assert (array == index).all()
        last, seen = index, seen + 1
    writer.join()
    assert last == count - 1
    assert seen + subscription.missed == count
    subscription.close()


# --------------------------------------------------------------------------- between processes


def read(stream, ready, outcome):
    subscription = stream.subscribe()
    ready.put(None)
    numbers, damaged = [], 0
    for number, array in subscription:
        numbers.append(number)
        damaged += not (array == number).all()
    outcome.put((numbers, damaged, subscription.missed))


@pytest.mark.parametrize("policy", ["lossy", "lossless", "latest"])
def test_readers_in_other_processes(pool, method, start, policy):
    stream = pool.stream("camera", depth=8, policy=policy)
    ready, outcome = pool.queue(), pool.queue()
    children = [start(method, read, stream, ready, outcome) for _ in range(2)]
    for _ in children:
        ready.get(timeout=LIMIT)
    count = 500
    for number in range(count):
        stream.publish((number, np.full(5000, number)), timeout=LIMIT)
    stream.close()
    for _ in children:
        numbers, damaged, missed = outcome.get(timeout=LIMIT)
        assert damaged == 0
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == count - 1
        assert len(numbers) + missed == count
        if policy == "lossless":
            assert numbers == list(range(count))
    assert [child.wait() for child in children] == [0, 0]
    del stream
    assert pool.validate() == []


def subscribe_and_wait(stream, ready):
    subscription = stream.subscribe()
    ready.put(None)
    subscription.get()
    ready.put("took one")
    threading.Event().wait()


def test_lossless_does_not_wait_for_the_dead(pool, method, start):
    stream = pool.stream(depth=2, policy="lossless")
    ready = pool.queue()
    child = start(method, subscribe_and_wait, stream, ready)
    ready.get(timeout=LIMIT)
    stream.publish(0)
    assert ready.get(timeout=LIMIT) == "took one"
    stream.publish(np.zeros(10_000))
    stream.publish(2)
    with pytest.raises(standard.Full):
        stream.publish(3, timeout=0)
    child.kill()
    stream.publish(3, timeout=LIMIT)
    assert stream.subscribers == 0


def test_a_killed_reader_that_waits_disturbs_nobody(pool, method, start):
    stream, ready = pool.stream(), pool.queue()
    child = start(method, subscribe_and_wait, stream, ready)
    ready.get(timeout=LIMIT)
    mine = stream.subscribe()
    eventually(lambda: asleep(child.pid), "the child to wait")
    child.kill()
    for index in range(100):
        stream.publish((index, np.zeros(2000)))
        assert mine.get(timeout=LIMIT)[0] == index
    mine.close()
    del stream, mine
    assert used(pool) == 0


def test_a_stream_of_the_newest_message_keeps_little(pool):
    assert pool.stream(policy="latest").depth == oc.Stream(policy="latest").depth == 2
    assert pool.stream(policy="latest", depth=5).depth == 5
    assert pool.stream().depth == oc.Stream().depth == 16
    named = pool.stream("s", policy="latest")
    assert pool.stream("s", policy="latest").depth == named.depth
    frames = pool.frames(None, (10, 10), "u1", 4)
    for _ in range(20):
        frame = frames.acquire(timeout=30.0)
        named.publish(frame)
        del frame


def test_a_subscription_is_described(pool):
    stream = pool.stream(depth=2)
    subscription = stream.subscribe()
    for i in range(5):
        stream.publish(i)
    assert subscription.get() == 3
    assert repr(subscription) == "<onecopy.Subscription, 3 missed>"
    subscription.close()
    assert repr(subscription) == "<onecopy.Subscription, closed>"
