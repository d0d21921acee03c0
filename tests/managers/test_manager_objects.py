"""`onecopy.multiprocessing.managers`: every kind of object, as in the standard library."""

from __future__ import annotations

import threading
from multiprocessing import managers as standard

import children
import numpy as np
import pytest
from serving import KEY, START_METHODS, by_reference, numbers, remember, started, use_queue

import onecopy as oc
from onecopy.multiprocessing import managers
from onecopy.multiprocessing.managers import BaseManager, SyncManager

pytestmark = pytest.mark.one_in(2)


# --------------------------------------------------------------------------------- kinds of objects


def use_list(manager):
    items = manager.list([3, 1])
    items.append(2)
    items += [5]
    items *= 2
    items.sort()
    assert items[:] == [1, 1, 2, 2, 3, 3, 5, 5]
    assert len(items) == 8
    assert 2 in items
    assert items.pop() == 5


def use_dict(manager):
    table = manager.dict(a=1)
    table["b"] = 2
    table.update({"c": 3})
    assert sorted(table) == ["a", "b", "c"]
    assert sorted(table.items()) == [("a", 1), ("b", 2), ("c", 3)]
    assert table.copy() == {"a": 1, "b": 2, "c": 3}
    assert list(table.values()) == [1, 2, 3]
    with pytest.raises(KeyError):
        table["d"]


def use_set(manager):
    things = manager.set({1, 2})
    things.add(3)
    things |= {4}
    assert len(things) == 4
    assert sorted(things - {1}) == [2, 3, 4]
    assert things.copy() == {1, 2, 3, 4}
    with pytest.raises(KeyError):
        things.remove(5)


def use_namespace(manager):
    names = manager.Namespace(x=1)
    names.y = 2
    del names.x
    assert str(names) == "Namespace(y=2)"
    with pytest.raises(AttributeError):
        names.x  # noqa: B018 - for its error


def use_value(manager):
    value = manager.Value("i", 3)
    value.value += 1
    assert value.get() == 4


def use_array(manager):
    array = manager.Array("d", [1, 2, 3])
    array[1] = 5
    assert list(array) == [1.0, 5.0, 3.0]
    assert len(array) == 3


def use_joinable_queue(manager):
    jobs = manager.JoinableQueue()
    jobs.put(1)
    jobs.get()
    jobs.task_done()
    jobs.join()


def use_event(manager):
    event = manager.Event()
    assert not event.wait(0)
    event.set()
    assert event.is_set()
    assert event.wait()
    event.clear()
    assert not event.is_set()


def use_lock(manager):
    lock = manager.Lock()
    with lock:
        assert not lock.acquire(False)
    assert lock.acquire()
    lock.release()


def use_rlock(manager):
    lock = manager.RLock()
    with lock, lock:
        pass
    with pytest.raises(RuntimeError):
        lock.release()


def use_semaphore(manager):
    semaphore = manager.Semaphore(1)
    semaphore.release()
    assert semaphore.acquire()
    assert semaphore.acquire()
    assert not semaphore.acquire(False)


def use_bounded_semaphore(manager):
    semaphore = manager.BoundedSemaphore(1)
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()


def use_condition(manager):
    condition, done = manager.Condition(), []

    def wait():
        with condition:
            condition.notify_all()
            done.append(condition.wait(children.LIMIT))

    with condition:
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert condition.wait(children.LIMIT)
        condition.notify()
    waiter.join()
    assert done == [True]


def use_barrier(manager):
    barrier = manager.Barrier(2)
    waiter = threading.Thread(target=barrier.wait)
    waiter.start()
    barrier.wait()
    waiter.join()
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (2, 0, False)


def use_pool(manager):
    with manager.Pool(2) as workers:
        assert workers.map(abs, [-1, 2, -3]) == [1, 2, 3]
        assert workers.apply_async(abs, (-4,)).get() == 4
        assert sorted(workers.imap_unordered(abs, [-1, -2])) == [1, 2]
    with manager.Pool(1, remember, ("told",)) as workers:
        assert workers.apply(abs, (-1,)) == 1
    with pytest.raises(managers.RemoteError, match="initializer must be a callable"):
        manager.Pool(1, "no function")


KINDS = {
    "list": use_list,
    "dict": use_dict,
    "Namespace": use_namespace,
    "Value": use_value,
    "Array": use_array,
    "Queue": use_queue,
    "JoinableQueue": use_joinable_queue,
    "Event": use_event,
    "Lock": use_lock,
    "RLock": use_rlock,
    "Semaphore": use_semaphore,
    "BoundedSemaphore": use_bounded_semaphore,
    "Condition": use_condition,
    "Barrier": use_barrier,
    "Pool": use_pool,
}
if hasattr(standard.SyncManager, "set"):  # since Python 3.14
    KINDS["set"] = use_set


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_object_works(manager, kind):
    KINDS[kind](manager)


def test_all_kinds_of_the_standard_library_are_there_and_their_proxies_are_ours():
    assert SyncManager._registry.keys() == standard.SyncManager._registry.keys()
    for typeid, (_, _, _, proxytype) in SyncManager._registry.items():
        assert proxytype.__module__ == "onecopy.multiprocessing.managers", typeid
        assert hasattr(SyncManager, typeid) == hasattr(standard.SyncManager, typeid)
    assert {*KINDS, "Iterator", "AsyncResult"} == SyncManager._registry.keys()


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_manager_starts_by_every_method(start_method):
    with started(start_method=start_method) as manager:
        items = manager.list([1])
        items.append(numbers())
        assert by_reference(items[1])
        assert np.array_equal(items[1], numbers())


def test_what_is_ours_is_also_the_standard_librarys(manager):
    items = manager.list()
    assert isinstance(manager, standard.SyncManager)
    assert isinstance(items, standard.ListProxy)
    assert isinstance(items, managers.BaseProxy)
    assert managers.Token is standard.Token
    assert managers.RemoteError is standard.RemoteError
    assert set(standard.__all__) <= set(managers.__all__)
    assert managers.SharedMemoryManager is not standard.SharedMemoryManager


def test_proxies_may_be_nested(manager):
    inner = manager.dict(a=1)
    outer = manager.list([inner, [inner]])
    outer[0]["b"] = numbers()
    del inner
    assert type(outer[0]) is managers.DictProxy
    assert outer[1][0]["a"] == 1
    assert by_reference(outer[1][0]["b"])
    assert manager._number_of_objects() == 1  # the server itself keeps the dict
    del outer[:]
    assert manager._number_of_objects() == 1


class Counter:
    def __init__(self, start=0):
        self._value = start

    def up(self, by=1):
        self._value += by
        return self._value

    def steps(self, count):
        return iter(range(self._value, self._value + count))

    def fail(self):
        raise LookupError(self._value)

    def unpicklable(self):
        return threading.Lock()


class Sieve(managers.BaseProxy):
    _exposed_ = ("__next__",)

    def __iter__(self):
        return self

    def __next__(self):
        return self._callmethod("__next__")


class Theirs(standard.BaseProxy):
    """A class that a program has derived from the standard library's."""

    _exposed_ = ("up",)

    def up(self):
        return self._callmethod("up")


class Counters(BaseManager):
    pass


Counters.register("Theirs", Counter, Theirs)


Counters.register("Counter", Counter)
Counters.register(
    "Stepper",
    Counter,
    exposed=("steps", "up"),
    method_to_typeid={"steps": "Sieve"},
)
Counters.register("Sieve", proxytype=Sieve, create_method=False)


def test_types_may_be_registered():
    with started(kind=Counters) as manager:
        counter = manager.Counter(start=5)
        assert (counter.up(), counter.up(by=2)) == (6, 8)
        with pytest.raises(LookupError, match="8"):
            counter.fail()
        with pytest.raises(managers.RemoteError, match="pickle"):
            counter.unpicklable()
        assert counter.up() == 9
        stepper = manager.Stepper(2)
        assert list(stepper.steps(3)) == [2, 3, 4]
        assert not hasattr(stepper, "fail")
        twin = managers.AutoProxy(counter._token, "pickle", authkey=KEY)
        assert twin.up() == 10
        assert not hasattr(manager, "Sieve")


def count_up(proxy):
    assert proxy.up() == 1


def test_proxies_derived_from_the_standard_librarys_work_and_travel(start):
    with started(kind=Counters) as manager:
        theirs = manager.Theirs()
        for method in START_METHODS:  # in a process that has not imported ours before
            child = start(method, count_up, theirs)
            assert child.wait() == 0
            theirs = manager.Theirs()


def test_objects_go_when_no_proxy_is_left(manager):
    first = manager.list([numbers()])
    assert manager._number_of_objects() == 1
    assert str(first).startswith("[array(")
    del first
    assert manager._number_of_objects() == 0
    children.eventually(lambda: children.used(oc.default_pool()) == 0, "its memory to be free")


def test_xmlrpclib_is_another_way_to_talk():
    with started(("127.0.0.1", 0), kind=Counters, serializer="xmlrpclib") as manager:
        assert manager.Counter().up() == 1
