"""The texts of queue.Empty and queue.Full say what the call waited for, and how long."""

import os
import queue as standard

import pytest


def empty(call, *args, **named):
    with pytest.raises(standard.Empty) as caught:
        call(*args, **named)
    assert type(caught.value) is standard.Empty
    return str(caught.value)


def full(call, *args, **named):
    with pytest.raises(standard.Full) as caught:
        call(*args, **named)
    assert type(caught.value) is standard.Full
    return str(caught.value)


def test_an_empty_queue(pool):
    queue = pool.queue("jobs")
    for call in (queue.get_nowait, lambda: queue.get(False), lambda: queue.get(timeout=0)):
        assert empty(call) == empty(call) == "queue 'jobs' is empty"
    assert empty(queue.get, timeout=0.01) == "queue 'jobs' was empty for 0.01 s"
    assert empty(queue.get_many, 3, timeout=0.01) == "queue 'jobs' was empty for 0.01 s"
    assert empty(queue.get_message, timeout=0.01) == "queue 'jobs' was empty for 0.01 s"
    assert empty(pool.queue().get_nowait) == "the queue is empty"


def test_a_full_queue(pool):
    queue = pool.queue("jobs", maxsize=2)
    queue.put_many([1, 2])
    assert full(queue.put_nowait, 3) == "queue 'jobs' is full: it has room for 2 messages"
    assert full(queue.put, 3, timeout=0.01).startswith("queue 'jobs' was full for 0.01 s")
    queue.get()
    assert full(queue.put_many, "abc", timeout=0.01).endswith("1 objects were put before that")


def test_a_queue_that_redelivers_counts_what_is_in_hand(pool):
    queue = pool.queue("jobs", maxsize=1, redeliver=True)
    queue.put(1)
    queue.get()
    assert "taken and is not finished" in full(queue.put_nowait, 2)
    queue.task_done()


def test_a_stream(pool):
    stream = pool.stream("camera", depth=2, policy="lossless")
    assert empty(stream.latest) == "stream 'camera' is empty: nothing was published yet"
    subscription = stream.subscribe()
    assert empty(subscription.get, 0) == "no new message in stream 'camera'"
    assert empty(subscription.get, timeout=0.01).endswith("in stream 'camera' within 0.01 s")
    stream.publish(1)
    stream.publish(2)
    text = full(stream.publish, 3, timeout=0.01)
    assert "stream 'camera' was full for 0.01 s" in text
    assert "a subscriber of this process has not read the last 2 messages" in text
    subscription.close()


def _subscribe_and_wait(stream, ready, go):
    subscription = stream.subscribe()
    ready.put(os.getpid())
    go.get()
    subscription.close()


def test_the_subscriber_that_is_behind_is_named(pool, method, start):
    stream, ready, go = pool.stream(depth=1, policy="lossless"), pool.queue(), pool.queue()
    child = start(method, _subscribe_and_wait, stream, ready, go)
    pid = ready.get()
    stream.publish(1)
    assert f"a subscriber of process {pid} has not read" in full(stream.publish, 2, timeout=0)
    go.put(None)
    assert child.wait() == 0


def _keep_a_frame(frames, ready, go):
    frame = frames.acquire()
    ready.put(os.getpid())
    go.get()
    del frame


def test_frames_name_those_that_have_them(pool, method, start):
    frames, ready, go = pool.frames("cam0", (10,), "u1", 4), pool.queue(), pool.queue()
    child = start(method, _keep_a_frame, frames, ready, go)
    pid = ready.get()
    mine = [frames.acquire(), frames.acquire()]
    sent = pool.queue()
    sent.put(frames.acquire())
    text = empty(frames.acquire, timeout=0.01)
    assert "no frame of the frames 'cam0' became free within 0.01 s" in text
    assert "4 of 4 frames are out" in text
    assert "this process (2)" in text
    assert f"process {pid} (1)" in text
    assert "a queue, a stream, a container or a name (1)" in text
    assert "is free: 4 of 4" in empty(frames.acquire, 0)
    go.put(None)
    assert child.wait() == 0
    mine.clear()
    sent.get()


@pytest.mark.parametrize(
    "keep",
    [
        lambda pool, frame: pool.stream("s").publish(frame),
        lambda pool, frame: pool.queue("q").put(frame),
        lambda pool, frame: pool.list(name="l").append(frame),
        lambda pool, frame: pool.dict(name="d").update(frame=frame),
        lambda pool, frame: pool.__setitem__("x", frame),
    ],
)
def test_frames_that_no_process_has(pool, keep):
    frames = pool.frames("cam0", (10,), "u1", 1)
    keep(pool, frames.acquire())
    text = empty(frames.acquire, 0)
    assert "1 of 1 frames are out, held by a queue, a stream, a container or a name (1)." in text
