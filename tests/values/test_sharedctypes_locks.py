"""Values and arrays with a lock: each access acquires it, also when the owner dies."""

import ctypes
import multiprocessing
import signal
import threading
import warnings
from contextlib import suppress

import pytest
from children import LIMIT, asleep, eventually
from structures import Number, Point, Point3, add

import onecopy as oc
from onecopy.multiprocessing.sharedctypes import Array, Value
from onecopy.values import SynchronizedBase, synchronized

pytestmark = pytest.mark.one_in(2)


# ----------------------------------------------------------------------------------- with a lock


def test_which_lock():
    assert isinstance(Value("i").get_lock(), oc.RLock)
    assert isinstance(Array("i", 3, lock=None).get_lock(), oc.RLock)
    for lock in (oc.Lock(), threading.Lock(), multiprocessing.get_context("fork").RLock()):
        assert Value("i", lock=lock).get_lock() is lock
        assert Array("i", 3, lock=lock).get_lock() is lock
    assert type(Value("i", lock=False)) is ctypes.c_int
    assert type(Array("i", 3, lock=False)) is ctypes.c_int * 3
    context = multiprocessing.get_context("fork")
    assert isinstance(Value("i", ctx=context).get_lock(), multiprocessing.synchronize.RLock)
    for make in (lambda lock: Value("i", lock=lock), lambda lock: Array("i", 1, lock=lock)):
        with pytest.raises(AttributeError, match="has no method 'acquire'"):
            make("notalock")
    with pytest.raises(AttributeError, match="has no method 'acquire'"):
        synchronized(ctypes.c_int(), 5)
    with pytest.raises(AssertionError):
        synchronized(Value("i"))


LOCKS = [oc.RLock, oc.Lock, threading.RLock, threading.Lock, None]


class Counting:
    """A lock of another class, which records its calls."""

    def __init__(self):
        self.said = []

    def acquire(self):
        self.said.append("acquire")

    def release(self):
        self.said.append("release")

    def __enter__(self):
        self.said.append("enter")
        return "entered"

    def __exit__(self, *error):
        self.said.append(error[0])


class Derived(oc.RLock):
    def acquire(self, *args):
        said.append("acquire")
        return super().acquire(*args)


said = []


def test_each_access_takes_the_lock_of_whoever_it_is():
    lock = Counting()
    number = Value("i", 3, lock=lock)
    pair = ["acquire", "release"]
    assert number.value == 3
    number.value = 4
    with pytest.raises(TypeError):
        number.value = "x"
    assert lock.said == pair * 3
    with suppress(KeyError), number as entered:
        assert entered == "entered"
        raise KeyError
    assert lock.said[6:] == ["enter", KeyError]
    row = Array("i", [1, 2, 3], lock=lock)
    lock.said.clear()
    assert row[1] == 2
    assert row[1:] == [2, 3]
    row[0] = 7
    row[1:] = [8, 9]
    with pytest.raises(IndexError):
        row[3]
    assert lock.said == pair * 5
    assert len(row) == 3
    assert list(row) == [7, 8, 9]
    text = Array("c", b"ab", lock=lock)
    lock.said.clear()
    text.value = b"x"
    assert (text.value, text.raw) == (b"x", b"x\0")
    assert lock.said == pair * 3
    derived = Value("i", lock=Derived())
    derived.value = 5
    assert said == ["acquire"]


def test_errors_between_leave_the_lock_free():
    for lock in (oc.RLock(), oc.Lock(), Counting()):
        number = Value("i", lock=lock)
        with pytest.raises(TypeError, match="str"):
            number.value = "x"
        with pytest.raises(AttributeError):
            synchronized(Point(), lock).value  # noqa: B018 - structures have no value
        with pytest.raises(AttributeError):
            del number.value
        if not isinstance(lock, Counting):
            assert not lock.locked()


def test_an_error_of_both_has_a_context():
    class Fails(Counting):
        def release(self):
            raise RuntimeError("not released")

    number = Value("i", lock=Fails())
    with pytest.raises(RuntimeError, match="not released") as caught:
        number.value = "x"
    assert isinstance(caught.value.__context__, TypeError)
    with pytest.raises(RuntimeError, match="not released"):
        number.value = 1


def test_fields_of_structures_and_unions_are_attributes():
    point = Value(Point3, 1, 2.5, 3)
    assert (point.x, point.y, point.z) == (1, 2.5, 3)
    point.y = 7
    assert point.get_obj().y == 7
    assert type(point) is type(Value(Point3))
    assert type(point).__name__ == "SynchronizedPoint3"
    number = Value(Number)
    number.d = 1.0
    assert number.i == 0x3FF0000000000000


def test_held_it_is_held_for_all():
    number = Value("i", 5)
    with number as got:
        assert got is True
        assert number.get_lock()._mine
        assert number.value == 5  # the same thread may acquire it again
        seen = []
        thread = threading.Thread(target=lambda: seen.append(number.acquire(False)))
        thread.start()
        thread.join(LIMIT)
        assert seen == [False]
    assert number.acquire(True, 1.0) is True
    number.release()
    with pytest.raises(RuntimeError):
        number.release()


def test_without_a_lock_it_says_so():
    with pytest.raises(TypeError, match="__init__"):
        SynchronizedBase.__new__(SynchronizedBase).get_lock()


def hold(number, ready):
    number.get_lock().acquire()
    number.value = 1
    ready.put(None)
    threading.Event().wait()


def read(number, ready):
    ready.put(None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = number.value
    ready.put((value, [warning.category is oc.OwnerDiedWarning for warning in caught]))


def test_a_holder_that_is_killed(start, method):
    number, ready = Value("i"), oc.default_pool().queue()
    holder = start(method, hold, number, ready)
    ready.get(timeout=LIMIT)
    reader = start(method, read, number, ready)
    ready.get(timeout=LIMIT)
    eventually(lambda: asleep(reader.pid), "the child to wait")
    holder.kill()
    assert ready.get(timeout=LIMIT) == (1, [True])
    assert reader.wait() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert number.value == 1  # reported once


@pytest.mark.parametrize(
    "use", [lambda n: n.value, lambda n: setattr(n, "value", 3), lambda n: n.__enter__()]
)
def test_a_dead_holder_is_told_as_the_lock_was_told_to(use, start):
    ready = oc.default_pool().queue()
    number = Value("i", lock=oc.RLock(on_owner_death="raise"))
    child = start("fork", hold, number, ready)
    ready.get(timeout=LIMIT)
    child.kill()
    with pytest.raises(oc.OwnerDied):
        use(number)
    assert number.get_lock()._mine  # to repair
    number.release()
    assert number.value == 1


def test_a_signal_ends_a_wait(start):
    number, ready = Value("i"), oc.default_pool().queue()
    child = start("fork", hold, number, ready)
    ready.get(timeout=LIMIT)

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        with pytest.raises(KeyboardInterrupt):
            number.value  # noqa: B018 - it waits
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    child.kill()


def test_threads_lose_no_update():
    number = Value("i")
    threads = [threading.Thread(target=add, args=(number, number, 500)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert number.value == 2000
