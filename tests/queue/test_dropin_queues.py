"""Queues of `onecopy.multiprocessing`, beyond what CPython's own tests ask."""

import gc
import os
import pickle
import select
import threading
from queue import Empty, Full
from unittest import mock

import numpy as np
import pytest
from children import LIMIT, METHODS, descriptors, eventually, start

import onecopy as oc
from onecopy import multiprocessing
from onecopy._codec.backing import lease_of
from onecopy.multiprocessing.connection import wait

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
    """Something that somebody has told multiprocessing how to pickle."""


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


# ------------------------------------------------------------------------- waiting for descriptors


def test_wait_for_several(queue):
    other = multiprocessing.Queue()
    readers = [queue._reader, other._reader]
    assert wait(readers, 0) == []
    other.put("b")
    assert wait(readers, LIMIT) == [other._reader]
    queue.put("a")
    eventually(lambda: wait(readers, 0) == readers, "both to be ready")
    assert queue.get() == "a"
    assert other._reader.recv() == "b"
    eventually(lambda: wait(readers, 0) == [], "both to be silent")
    other.close()
    with pytest.raises(OSError, match="closed"):
        other._reader.fileno()


def test_the_bell_rings_until_the_queue_is_empty(queue):
    for number in range(100):
        queue._writer.send(number)
    for number in range(100):
        assert wait([queue._reader], LIMIT) == [queue._reader]
        assert queue._reader.poll()
        assert queue.get() == number
    assert not queue._reader.poll()
    assert not queue._reader.poll(0.001)


def test_the_bell_costs_nothing_when_it_is_gone():
    queue = multiprocessing.Queue()
    before, threads = descriptors(), threading.active_count()
    queue._reader.fileno()
    assert descriptors() == before + 1
    del queue
    gc.collect()
    assert descriptors() == before
    eventually(lambda: threading.active_count() == threads, "the bell's thread to end")


def _takes(data, count):
    queue = pickle.loads(data)
    for _ in range(count):
        queue.get()


@pytest.mark.parametrize("method", METHODS)
def test_the_bell_is_silent_after_others_took_everything(queue, start, method):
    queue.put("a")
    assert wait([queue._reader], LIMIT)
    queue.put("b")
    child = start(method, _takes, pickle.dumps(queue), 2)
    assert child.wait() == 0
    poller = select.poll()
    poller.register(queue._reader, select.POLLIN)
    eventually(lambda: not poller.poll(0), "the bell to be silent")
    queue.put("c")
    assert wait([queue._reader], LIMIT)


def test_the_bell_is_silent_after_the_next_look(queue, monkeypatch):
    """The thread looks again while the bell rings, and a look finds what others took."""
    other = pickle.loads(pickle.dumps(queue))
    queue._reader.fileno()
    bell, looks = queue._reader._bell, []
    sleep = bell.hushed
    monkeypatch.setattr(bell, "hushed", lambda timeout: looks.append(timeout) or sleep(timeout))
    for number in range(10):
        queue.put(number)
        assert wait([queue._reader], LIMIT)
        assert other.get() == number
        looks.clear()
        eventually(lambda: not wait([queue._reader], 0), "the bell to be silent")
        assert len(looks) <= 1  # one, if it had looked right before the last message was taken


@pytest.mark.parametrize("look", ["poll", "empty"])
def test_who_finds_nothing_hushes_the_bell(queue, look, monkeypatch):
    monkeypatch.setattr("onecopy.multiprocessing._ends._LOOK_AGAIN", LIMIT)
    other = pickle.loads(pickle.dumps(queue))
    queue.put(1)
    assert wait([queue._reader], LIMIT)
    other.get()
    assert wait([queue._reader], 0)
    assert queue._reader.poll() is False if look == "poll" else queue.empty()
    assert not wait([queue._reader], 0)
    queue.put(2)
    assert wait([queue._reader], LIMIT)


def test_the_bell_stays_rung_while_there_is_more(queue):
    for number in range(5):
        queue.put(number)
    assert wait([queue._reader], LIMIT)
    got = []
    while wait([queue._reader], 0):
        got.append(queue.get())
    assert got == [0, 1, 2, 3, 4]


def test_the_bell_does_not_keep_wakes_from_consumers(queue):
    queue._reader.fileno()
    consumers = [pickle.loads(pickle.dumps(queue)) for _ in range(2)]
    got = []
    for round_ in range(20):
        threads = [threading.Thread(target=lambda q=q: got.append(q.get())) for q in consumers]
        for thread in threads:
            thread.start()
        for number in range(2):
            queue.put((round_, number))
        for thread in threads:
            thread.join(LIMIT)
    assert len(got) == 40


def test_two_threads_get_one_bell(queue):
    before = threading.active_count()
    together = threading.Barrier(4)
    fds = []

    def ask():
        together.wait(LIMIT)
        fds.append(queue._reader.fileno())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert len(set(fds)) == 1
    assert threading.active_count() == before + 1


def test_a_method_outlives_the_name_of_its_queue():
    queue = multiprocessing.Queue()
    queue.put(1)
    queue.put(2)
    before = queue.get
    queue._reader.fileno()
    after = queue.get
    del queue
    gc.collect()
    assert before() == 1
    assert after() == 2


def test_a_bell_hides_nothing_of_the_class(queue):
    cls = type(queue)
    queue._reader.fileno()
    assert isinstance(queue, cls)
    assert type(queue).__name__ == cls.__name__
    assert type(queue).__qualname__ == cls.__qualname__
    assert type(queue).__module__ == cls.__module__
    with mock.patch.object(cls, "get", return_value="patched"):
        assert queue.get() == "patched"
    assert type(pickle.loads(pickle.dumps(queue))) is cls
    other = cls()
    other._reader.fileno()
    assert type(other) is type(queue)
    other.close()


class Derived(multiprocessing.queues.Queue):
    """One that sees to everything itself."""

    derived = 0

    def __init_subclass__(cls):
        Derived.derived += 1

    def get(self, block=True, timeout=None):
        return "got", super().get(block, timeout)

    def put(self, obj, block=True, timeout=None):
        super().put(("put", obj), block, timeout)


def test_a_derived_class_with_a_bell():
    queue = Derived()
    queue._reader.fileno()
    assert Derived.derived == 0
    queue.put(1)
    assert wait([queue._reader], LIMIT)
    assert queue.get_nowait() == ("got", ("put", 1))
    assert not wait([queue._reader], 0)
    queue.put_nowait(2)
    assert wait([queue._reader], LIMIT)
    assert type(pickle.loads(pickle.dumps(queue))) is Derived
    assert queue.get(timeout=LIMIT) == ("got", ("put", 2))
    queue.close()


def _waits(queue, back):
    back.put("ready")
    back.put(bool(wait([queue._reader], LIMIT)) and queue.get())


@pytest.mark.parametrize("method", STARTS)
def test_a_child_has_a_bell_of_its_own(queue, method):
    back = multiprocessing.SimpleQueue()
    queue._reader.fileno()
    child = start(method, _waits, queue, back)
    assert back.get() == "ready"
    queue.put("x")
    assert back.get() == "x"
    assert child.wait() == 0
    child.end()


def test_the_feeder_hook_of_a_subclass():
    heard = []

    class Safe(multiprocessing.queues.Queue):
        @staticmethod
        def _on_queue_feeder_error(error, obj):
            heard.append((type(error), obj))

    queue = Safe(ctx=multiprocessing.get_context())
    function = lambda: None  # noqa: E731 - what cannot be pickled
    queue.put(function)
    queue.put(1)
    assert queue.get() == 1
    assert heard[0][1] is function
    queue.close()
    with pytest.raises(ValueError, match="is closed"):
        queue.put(1)


class Mixed:
    """A hook and methods of a class that is no queue."""

    def put(self, obj, block=True, timeout=None):
        super().put(obj if callable(obj) else ("mixed", obj), block, timeout)

    def get_nowait(self):
        return "its own"


def test_put_and_get_of_a_subclass_are_what_the_others_call():
    class Mine(Mixed, multiprocessing.queues.JoinableQueue):
        def get(self, *args, **kwargs):
            return "got", super().get(*args, **kwargs)

    class Later(Mine):
        def put_nowait(self, obj):
            super().put(("later", obj), False)

    for cls, first in ((Mine, "mixed"), (Later, "mixed")):
        queue = cls()
        queue.put_nowait(1)
        expected = (first, 1) if cls is Mine else (first, ("later", 1))
        assert queue.get() == ("got", expected)
        assert queue.get_nowait() == "its own"
        queue.close()


@pytest.mark.parametrize("bell", [False, True])
def test_the_feeder_hook_and_a_put_of_ones_own(bell):
    heard = []

    class Safe(multiprocessing.queues.JoinableQueue):
        def put(self, obj, block=True, timeout=None):
            if obj == "refused":
                raise ValueError("no")
            super().put(("mine", obj), block, timeout)

        def _on_queue_feeder_error(self, error, obj):
            heard.append((self, obj[1]))

    class Safer(Safe):
        def put(self, obj, block=True, timeout=None):
            super().put(obj, block, timeout)

    function = lambda: None  # noqa: E731 - what cannot be pickled
    for cls in (Safe, Safer):
        queue = cls(1)
        if bell:
            queue._reader.fileno()
        heard.clear()
        queue.put(function)
        queue.put_nowait(function)
        assert heard == [(queue, function)] * 2
        with pytest.raises(ValueError, match="no"):
            queue.put("refused")
        queue.put(1)
        with pytest.raises(multiprocessing.queues.Full):
            queue.put_nowait(2)
        assert queue.get_nowait() == ("mine", 1)
        queue.close()


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
    image[0] = 1  # it is the receiver's own
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
