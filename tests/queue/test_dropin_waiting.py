"""Queues of `onecopy.multiprocessing` that are waited for through their descriptor."""

import gc
import pickle
import select
import threading
from unittest import mock

import pytest
from children import LIMIT, METHODS, descriptors, eventually, start

from onecopy import multiprocessing
from onecopy.multiprocessing.connection import wait

pytestmark = [pytest.mark.one_in(2), pytest.mark.usefixtures("the_last_have_left")]

STARTS = ["fork", "spawn", "forkserver"]
LARGE = 10_000


@pytest.fixture(params=["Queue", "JoinableQueue", "SimpleQueue"])
def queue(request):
    queue = getattr(multiprocessing, request.param)()
    yield queue
    queue.close()


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


def test_the_event_is_set_until_the_queue_is_empty(queue):
    for number in range(100):
        queue._writer.send(number)
    for number in range(100):
        assert wait([queue._reader], LIMIT) == [queue._reader]
        assert queue._reader.poll()
        assert queue.get() == number
    assert not queue._reader.poll()
    assert not queue._reader.poll(0.001)


def test_the_event_costs_nothing_when_it_is_gone():
    queue = multiprocessing.Queue()
    before, threads = descriptors(), threading.active_count()
    queue._reader.fileno()
    assert descriptors() == before + 1
    del queue
    gc.collect()
    assert descriptors() == before
    eventually(lambda: threading.active_count() == threads, "the readiness thread to end")


def _takes(data, count):
    queue = pickle.loads(data)
    for _ in range(count):
        queue.get()


@pytest.mark.parametrize("method", METHODS)
def test_the_event_is_cleared_after_others_took_everything(queue, start, method):
    queue.put("a")
    assert wait([queue._reader], LIMIT)
    queue.put("b")
    child = start(method, _takes, pickle.dumps(queue), 2)
    assert child.wait() == 0
    poller = select.poll()
    poller.register(queue._reader, select.POLLIN)
    eventually(lambda: not poller.poll(0), "the event to be cleared")
    queue.put("c")
    assert wait([queue._reader], LIMIT)


def test_the_event_is_cleared_after_the_next_look(queue, monkeypatch):
    """The thread looks again while it is notified; then it may find that others took messages."""
    other = pickle.loads(pickle.dumps(queue))
    queue._reader.fileno()
    readiness, looks = queue._reader._readiness, []
    sleep = readiness.wait_until_cleared
    monkeypatch.setattr(
        readiness,
        "wait_until_cleared",
        lambda timeout: looks.append(timeout) or sleep(timeout),
    )
    for number in range(10):
        queue.put(number)
        assert wait([queue._reader], LIMIT)
        assert other.get() == number
        looks.clear()
        eventually(lambda: not wait([queue._reader], 0), "the event to be cleared")
        assert len(looks) <= 1  # one, if it had looked directly before the last message was taken


@pytest.mark.parametrize("look", ["poll", "empty"])
def test_a_look_that_finds_nothing_clears_the_event(queue, look, monkeypatch):
    monkeypatch.setattr("onecopy.multiprocessing._ends._CHECK_AGAIN", LIMIT)
    other = pickle.loads(pickle.dumps(queue))
    queue.put(1)
    assert wait([queue._reader], LIMIT)
    other.get()
    assert wait([queue._reader], 0)
    assert queue._reader.poll() is False if look == "poll" else queue.empty()
    assert not wait([queue._reader], 0)
    queue.put(2)
    assert wait([queue._reader], LIMIT)


def test_the_event_stays_set_while_there_is_more(queue):
    for number in range(5):
        queue.put(number)
    assert wait([queue._reader], LIMIT)
    got = []
    while wait([queue._reader], 0):
        got.append(queue.get())
    assert got == [0, 1, 2, 3, 4]


def test_the_event_does_not_keep_wakes_from_consumers(queue):
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


def test_two_threads_get_one_event(queue):
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


def test_a_readiness_event_hides_nothing_of_the_class(queue):
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
    """A class that implements everything itself."""

    derived = 0

    def __init_subclass__(cls):
        Derived.derived += 1

    def get(self, block=True, timeout=None):
        return "got", super().get(block, timeout)

    def put(self, obj, block=True, timeout=None):
        super().put(("put", obj), block, timeout)


def test_a_derived_class_with_a_readiness_event():
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
def test_a_child_has_an_event_of_its_own(queue, method):
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
    """A hook and methods of a class that is not a queue."""

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


@pytest.mark.parametrize("readiness", [False, True])
def test_the_feeder_hook_and_a_put_of_ones_own(readiness):
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
        if readiness:
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
