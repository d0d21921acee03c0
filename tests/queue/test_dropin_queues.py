"""Queues of `onecopy.multiprocessing`, beyond CPython's own tests."""

import gc
import os
import pickle
from queue import Empty, Full

import numpy as np
import pytest
from children import LIMIT, METHODS, start

import onecopy as oc
from onecopy import multiprocessing
from onecopy._codec.backing import lease_of

pytestmark = [pytest.mark.one_in(2), pytest.mark.usefixtures("the_last_have_left")]

STARTS = ["fork", "spawn", "forkserver"]
LARGE = 10_000


@pytest.fixture(params=["Queue", "JoinableQueue", "SimpleQueue"])
def queue(request):
    queue = getattr(multiprocessing, request.param)()
    yield queue
    queue.close()


# ------------------------------------------------------------------------------ whose memory it is


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: {"image": a}, lambda a: [a, a + 1, "x"]])
@pytest.mark.parametrize("size", [3, 100, LARGE])
def test_what_arrives_may_be_written(queue, wrap, size):
    sent = np.arange(size)
    queue.put(wrap(sent))
    got = queue.get()
    got = got["image"] if type(got) is dict else got[0] if type(got) is list else got
    got += 1
    assert np.array_equal(got, np.arange(size) + 1)
    assert np.array_equal(sent, np.arange(size))
    assert sent.flags.writeable


def test_what_arrived_is_copied_when_it_is_sent_on(queue):
    queue.put({"a": np.zeros(LARGE), "b": np.ones(LARGE)})
    first = queue.get()
    for again in (first, first["a"], [first["b"][::2], first["a"]]):
        queue.put(again)
    second, third, fourth = queue.get(), queue.get(), queue.get()
    first["a"][:] = first["b"][:] = 7
    assert not second["a"].any()
    assert second["b"].all()
    assert not third.any()
    assert np.array_equal(fourth[0], np.ones(LARGE // 2))
    for array in (second["a"], second["b"], third, fourth[0], fourth[1]):
        array[0] = 5


def test_it_is_copied_into_other_queues_and_pools_too(queue, pool):
    queue.put(np.zeros(LARGE))
    mine = queue.get()
    other = oc.Queue()
    other.put(mine)
    ref = oc.put({"x": mine})
    elsewhere = pool.put(mine)
    mine[:] = 1
    assert not other.get().any()
    assert not ref.get()["x"].any()
    assert not elsewhere.get().any()


def test_arrays_of_a_pool_go_by_reference(queue):
    array = oc.empty(LARGE)
    array[:] = 3
    queue.put({"x": array})
    queue.put(array)
    for got in (queue.get()["x"], queue.get()):
        assert lease_of(got).handle == lease_of(array).handle
        assert not got.flags.writeable
        assert got.all()
    assert not array.flags.writeable


def test_what_arrived_takes_no_room_in_the_pool(queue):
    pool = oc.default_pool()
    for wrapped in ({"a": np.zeros(LARGE), "b": np.ones(LARGE)}, np.zeros((LARGE, 2), order="F")):
        queue.put(wrapped)
        assert pool.stats().used > 8 * LARGE
        got = queue.get()
        assert pool.stats().used == 0
        assert np.array_equal(
            np.asarray(got["a"] if type(got) is dict else got).ravel()[:9], [0] * 9
        )


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("size", [10, LARGE])
def test_a_read_only_array_arrives_writable(queue, nested, size):
    array = np.arange(size)
    array.flags.writeable = False
    queue.put([array] if nested else array)
    got = queue.get()
    got = got[0] if nested else got
    got += 1
    assert np.array_equal(got, np.arange(size) + 1)


def _changes_what_it_inherited(array, back):
    array[:] = 7
    back.put("done")


def test_a_forked_child_has_its_own_of_what_arrived(queue):
    back = multiprocessing.SimpleQueue()
    queue.put({"x": np.zeros(LARGE)})
    got = queue.get()["x"]
    child = multiprocessing.get_context("fork").Process(
        target=_changes_what_it_inherited, args=(got, back)
    )
    child.start()
    assert back.get() == "done"
    child.join()
    child.close()
    assert not got.any()


# ------------------------------------------------------------- what multiprocessing can pickle


def _answers(queue):
    connection, number = queue.get()
    connection.send(number + 1)
    connection.close()


@pytest.mark.parametrize("method", STARTS)
def test_connections_travel(queue, method):
    mine, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context(method).Process(target=_answers, args=(queue,))
    child.start()
    queue.put((theirs, 1))
    assert mine.recv() == 2
    child.join()
    child.close()
    mine.close()
    theirs.close()
    multiprocessing.resource_sharer.stop()


class Special:
    """An object for which a program has told multiprocessing how to pickle it."""


def test_what_was_registered_with_the_forking_pickler(queue):
    pickler = multiprocessing.reduction.ForkingPickler
    pickler.register(Special, lambda _: (str, ("special",)))
    try:
        queue.put([Special()])
        assert queue.get() == ["special"]
    finally:
        del pickler._extra_reducers[Special]


def test_a_negative_timeout_does_not_wait(queue):
    with pytest.raises(Empty):
        queue.get(timeout=-1)
    with pytest.raises(Empty):
        queue.get_message(timeout=-0.5)
    assert not queue._reader.poll(-1)
    queue.put(1, timeout=-1)
    assert queue.get(True, -3) == 1
    full = multiprocessing.Queue(1)
    full.put(1)
    with pytest.raises(Full):
        full.put(2, timeout=-1)
    full.close()


def _changes(queue, back):
    image = queue.get()
    image[0] = 1
    back.put(image)


@pytest.mark.parametrize("method", STARTS)
def test_arguments_that_only_the_child_has(method):
    context = multiprocessing.get_context(method)
    back = context.Queue()
    queue = context.Queue()
    queue.put(np.zeros(LARGE))
    child = context.Process(target=_changes, args=(queue, back))
    child.start()
    del queue  # `start` has forgotten it too
    gc.collect()
    assert back.get(timeout=LIMIT).sum() == 1
    child.join()
    child.close()


def _echo(data):
    there, back = pickle.loads(data)
    back.put(there.get())


@pytest.mark.parametrize("method", METHODS)
def test_pickled_at_any_time(method):
    there, back = multiprocessing.Queue(), multiprocessing.SimpleQueue()
    child = start(method, _echo, pickle.dumps((there, back)))
    there.put("hello")
    assert back.get(timeout=LIMIT) == "hello"
    assert child.wait() == 0
    child.end()


# ----------------------------------------------------------------------------------------- closing


def test_closed(queue):
    queue.put(1)
    queue.close()
    queue.close()
    for call in (queue.get, lambda: queue.put(1), queue.empty, queue.qsize):
        with pytest.raises(ValueError, match="is closed"):
            call()
        with pytest.raises(OSError, match="is closed"):
            call()
        with pytest.raises(oc.OneCopyError):
            call()
    assert queue._reader.closed
    assert queue._writer.closed


def test_what_cannot_be_pickled_raises_in_put(queue):
    with pytest.raises((AttributeError, pickle.PicklingError)):
        queue.put(lambda: None)
    assert queue.empty()


def test_nothing_is_lost_when_the_producer_ends_at_once():
    queue = multiprocessing.Queue()
    child = start("fork", _put_and_die, queue)
    assert child.wait() == -9
    assert [queue.get(timeout=LIMIT) for _ in range(100)] == list(range(100))
    child.end()
    queue.join_thread()
    queue.cancel_join_thread()


def _put_and_die(queue):
    for number in range(100):
        queue.put(number)
    os.kill(os.getpid(), 9)


# -------------------------------------------------------------------- what a subclass adds to state


class Counting(multiprocessing.queues.Queue):
    """The well-known recipe for a `qsize` that works everywhere."""

    def __init__(self, maxsize=0):
        super().__init__(maxsize, ctx=multiprocessing.get_context())
        self.size = multiprocessing.Value("i", 0)
        self.forgotten = True

    def __getstate__(self):
        return {"parent": super().__getstate__(), "size": self.size}

    def __setstate__(self, state):
        super().__setstate__(state["parent"])
        self.size = state["size"]

    def put(self, *args, **kwargs):
        super().put(*args, **kwargs)
        with self.size.get_lock():
            self.size.value += 1

    def get(self, *args, **kwargs):
        got = super().get(*args, **kwargs)
        with self.size.get_lock():
            self.size.value -= 1
        return got


def _counts(queue, back):
    image = queue.get()
    image[0] = 1  # the receiver owns it
    queue.put_nowait(image.sum())
    back.put((type(queue) is Counting, queue.size.value))


@pytest.mark.parametrize("bell", [False, True])
@pytest.mark.parametrize("method", STARTS)
def test_the_state_of_a_subclass(method, bell):
    context = multiprocessing.get_context(method)
    queue, back = Counting(), context.SimpleQueue()
    if bell:
        queue._reader.fileno()
    queue.put(np.zeros(LARGE))
    queue.put("x")
    child = context.Process(target=_counts, args=(queue, back))
    child.start()
    assert back.get() == (not (bell and method == "fork"), 2)
    child.join()
    child.close()
    assert queue.size.value == 2
    assert queue.get() == "x"
    assert queue.get_nowait() == 1
    again = pickle.loads(pickle.dumps(queue))
    assert again.size.value == 0
    assert not hasattr(again, "forgotten")
    again.close()
    queue.close()


def test_a_child_being_started_keeps_the_queue_of_a_subclass():
    context = multiprocessing.get_context("spawn")
    back = context.SimpleQueue()
    queue = Counting()
    queue.put(np.zeros(LARGE))
    child = context.Process(target=_counts, args=(queue, back))
    child.start()
    del queue
    gc.collect()
    assert back.get() == (True, 1)
    child.join()
    child.close()


def test_attributes_stay_behind_unless_the_class_sees_to_them(queue):
    queue.note = "mine"
    again = pickle.loads(pickle.dumps(queue))
    assert type(again) is type(queue)
    assert not hasattr(again, "note")
    again.put(np.zeros(LARGE))
    queue.get()[0] = 1
