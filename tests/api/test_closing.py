"""`close` means the same for queues, streams and frames: this process releases them."""

import pytest
from children import LIMIT

import onecopy as oc

MAKE = {
    "queue": lambda pool: pool.queue("q"),
    "stream": lambda pool: pool.stream("s"),
    "frames": lambda pool: pool.frames("f", (4,), "u1", 2),
}
USES = {
    "queue": {
        "put": lambda q: q.put(1),
        "get": lambda q: q.get(timeout=0),
        "put_many": lambda q: q.put_many([1]),
        "get_many": lambda q: q.get_many(1),
        "get_message": lambda q: q.get_message(timeout=0),
        "qsize": lambda q: q.qsize(),
        "task_done": lambda q: q.task_done(),
        "join": lambda q: q.join(),
        "shutdown": lambda q: q.shutdown(),
        "iteration": next,
        "maxsize": lambda q: q.maxsize,
    },
    "stream": {
        "publish": lambda s: s.publish(1),
        "subscribe": lambda s: s.subscribe(),
        "latest": lambda s: s.latest(),
        "shutdown": lambda s: s.shutdown(),
        "policy": lambda s: s.policy,
        "published": lambda s: s.published,
    },
    "frames": {
        "acquire": lambda f: f.acquire(timeout=0),
        "lend": lambda f: f.lend(timeout=0).__enter__(),
        "available": lambda f: f.available,
        "count": lambda f: f.count,
    },
}


@pytest.mark.parametrize("kind", MAKE)
def test_after_it_every_operation_raises_closed(pool, kind):
    thing = MAKE[kind](pool)
    thing.close()
    thing.close()  # does nothing
    assert "closed" in repr(thing)
    for name, use in USES[kind].items():
        with pytest.raises(oc.Closed, match="closed in this process"):
            use(thing)
        assert name


@pytest.mark.parametrize("kind", MAKE)
def test_others_go_on(pool, kind):
    mine, other = MAKE[kind](pool), MAKE[kind](pool)
    mine.close()
    if kind == "queue":
        other.put(1)
        assert other.get() == 1
    elif kind == "stream":
        subscription = other.subscribe()
        other.publish(1)
        assert subscription.get(timeout=LIMIT) == 1
        subscription.close()
    else:
        assert other.acquire().shape == (4,)


@pytest.mark.parametrize("kind", MAKE)
def test_with_closes(pool, kind):
    with MAKE[kind](pool) as thing:
        assert thing.name
    with pytest.raises(oc.Closed):
        next(iter(USES[kind].values()))(thing)


@pytest.mark.parametrize("kind", MAKE)
def test_with_closes_after_an_exception(pool, kind):
    with pytest.raises(LookupError), MAKE[kind](pool) as thing:
        raise LookupError
    with pytest.raises(oc.Closed):
        next(iter(USES[kind].values()))(thing)


def test_a_publisher_that_closes_ends_the_stream(pool):
    stream, reader = pool.stream("s"), pool.stream("s")
    subscription = reader.subscribe()
    stream.publish(1)
    stream.close()
    assert list(subscription) == [1]
    with pytest.raises(oc.ShutDown):
        reader.publish(2)
    subscription.close()


def _close_its_copy(stream):
    stream.close()


def test_a_child_that_closes_its_copy_ends_nothing(pool, start):
    stream = pool.stream("s")
    subscription = stream.subscribe()
    stream.publish(1)
    assert start("fork", _close_its_copy, stream).wait() == 0
    stream.publish(2)
    assert [subscription.get(timeout=LIMIT) for _ in range(2)] == [1, 2]
    subscription.close()


def test_shutdown_ends_it_for_everybody_and_closes_nothing(pool):
    stream = pool.stream("s")
    subscription = stream.subscribe()
    stream.publish(1)
    stream.shutdown()
    stream.shutdown()
    assert stream.latest() == 1
    assert list(subscription) == [1]
    with pytest.raises(oc.ShutDown):
        stream.publish(2)
    subscription.close()
