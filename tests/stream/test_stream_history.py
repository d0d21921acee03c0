"""What a stream has kept: the newest message for all, the last ones for a late subscriber."""

import queue as standard

import numpy as np
import pytest
from children import LIMIT, used

import onecopy as oc


def drain(subscription):
    taken = []
    try:
        while True:
            taken.append(subscription.get(timeout=0))
    except standard.Empty:
        return taken


@pytest.mark.parametrize("policy", ["lossy", "lossless"])
@pytest.mark.parametrize("published", [0, 1, 3, 4, 5, 40])
def test_a_late_subscriber_gets_the_last_messages(pool, policy, published):
    stream = pool.stream(depth=4, policy=policy)
    for index in range(published):
        stream.publish(index)
    for history in range(7):
        with_history = stream.subscribe(history=history)
        first = published - min(history, 4, published)
        assert drain(with_history) == list(range(first, published))
        assert with_history.missed == 0
        with_history.close()


def test_history_and_what_comes_after(pool):
    stream = pool.stream(depth=8)
    for index in range(20):
        stream.publish(np.full(2000, index))
    late = stream.subscribe(history=3)
    for index in range(20, 23):
        stream.publish(np.full(2000, index))
    assert [message[0] for message in drain(late)] == [17, 18, 19, 20, 21, 22]
    late.close()


def test_a_lossless_stream_waits_for_a_subscriber_with_a_history(pool):
    stream = pool.stream(depth=4, policy="lossless")
    early = stream.subscribe()
    for index in range(4):
        stream.publish(index)
    assert drain(early) == [0, 1, 2, 3]
    late = stream.subscribe(history=4)
    with pytest.raises(standard.Full):
        stream.publish(4, timeout=0)
    assert late.get(timeout=LIMIT) == 0
    stream.publish(4, timeout=LIMIT)
    assert drain(late) == [1, 2, 3, 4]
    assert late.missed == 0
    assert pool.validate() == []
    early.close()
    late.close()


def test_the_newest_is_where_latest_begins_in_any_case(pool):
    stream = pool.stream(depth=4, policy="latest")
    for index in range(6):
        stream.publish(index)
    for history in (0, 1, 3):
        subscription = stream.subscribe(history=history)
        assert drain(subscription) == [5]
        subscription.close()


@pytest.mark.parametrize("wrong", [-1, 1.5, "2", None])
def test_a_history_is_a_number_of_messages(pool, wrong):
    stream = pool.stream()
    with pytest.raises((ValueError, TypeError)):
        stream.subscribe(history=wrong)
    assert stream.subscribers == 0


@pytest.mark.parametrize("policy", ["lossy", "lossless", "latest"])
@pytest.mark.parametrize("depth", [1, 2, 16])
def test_the_newest_message_can_be_looked_at_again(pool, policy, depth):
    stream = pool.stream(depth=depth, policy=policy)
    with pytest.raises(standard.Empty):
        stream.latest()
    for index in range(20):
        stream.publish({"index": index, "data": np.full(5000, index)})
        for _ in range(2):
            message = stream.latest()
            assert message["index"] == index
            assert (message["data"] == index).all()
    del message
    subscription = stream.subscribe()
    stream.shutdown()
    assert stream.latest()["index"] == 19  # a stream that was shut down still shows it
    subscription.close()
    name = stream.name
    stream.detach()
    del stream, subscription
    assert used(pool) == 0, name


def test_latest_takes_nothing_from_subscribers(pool):
    stream = pool.stream()
    subscription = stream.subscribe()
    stream.publish("a")
    assert stream.latest() == stream.latest() == "a"
    assert drain(subscription) == ["a"]
    assert subscription.missed == 0
    subscription.close()


def publish_for_ever(stream):
    index = 0
    while True:
        stream.publish((index, np.full(2000, index)))
        index += 1


@pytest.mark.parametrize("depth", [1, 2, 8])
def test_latest_under_a_fast_publisher_is_whole_and_never_older(pool, start, depth):
    stream = pool.stream(depth=depth)
    child = start("fork", publish_for_ever, stream)
    subscription = stream.subscribe()
    subscription.get(timeout=LIMIT)  # it has begun
    seen = -1
    for _ in range(2000):
        index, data = stream.latest()
        assert index >= seen
        assert (data == index).all()
        seen = index
    child.kill()
    pool.collect()
    try:  # it may have died while it replaced the only message
        index, data = stream.latest()
        assert (data == index).all()
    except standard.Empty:
        assert depth == 1
    assert pool.validate() == []
    subscription.close()


def test_a_closed_handle_says_so(pool):
    stream = pool.stream()
    stream.publish(1)
    stream.detach()
    with pytest.raises(oc.OneCopyError):
        stream.latest()
    with pytest.raises(oc.OneCopyError):
        stream.subscribe(history=1)
