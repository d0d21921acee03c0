"""Details of the interface: subscripts, `blocking`, arrays of references, texts of bases."""

import threading
import types

import numpy as np
import pytest

import onecopy as oc
from onecopy.multiprocessing import managers, queues

GENERIC = [
    oc.Queue,
    oc.Stream,
    oc.Subscription,
    oc.Message,
    oc.Frames,
    oc.Ref,
    oc.List,
    queues.Queue,
    queues.JoinableQueue,
    queues.SimpleQueue,
    managers.ListProxy,
]


@pytest.mark.parametrize("cls", GENERIC)
def test_generic_classes_are_subscripted(cls):
    alias = cls[int]
    assert alias.__origin__ is cls
    assert alias.__args__ == (int,)
    assert oc.Dict[str, int].__args__ == (str, int)
    assert managers.DictProxy[str, int].__origin__ is managers.DictProxy


def test_an_alias_makes_objects_and_is_a_base():
    class Mine(oc.Queue[int]):
        pass

    assert isinstance(oc.Queue[int], types.GenericAlias)
    assert type(oc.Queue[int](3)) is oc.Queue
    assert Mine(3).maxsize == 3


LOCKS = {
    "Lock": lambda pool: pool.lock(),
    "RLock": lambda pool: pool.rlock(),
    "Semaphore": lambda pool: pool.semaphore(value=1),
    "BoundedSemaphore": lambda pool: pool.bounded_semaphore(value=1),
    "Condition": lambda pool: pool.condition(lock=pool.lock()),
    "reading": lambda pool: pool.rwlock().read(),
    "writing": lambda pool: pool.rwlock().write(),
    "list": lambda pool: pool.list().lock(),
    "value": lambda pool: pool.value("i", lock=pool.lock()),
}


@pytest.mark.parametrize("kind", LOCKS)
def test_blocking_is_another_name_of_block(pool, kind):
    lock = LOCKS[kind](pool)
    assert lock.acquire(blocking=False) is True
    outcome = []
    if kind not in {"RLock", "list", "reading", "writing"}:
        for named in ({"blocking": False}, {"block": False}, {"block": False, "blocking": False}):
            assert lock.acquire(**named) is False
    elif kind in {"RLock", "list"}:  # another thread
        other = threading.Thread(target=lambda: outcome.append(lock.acquire(blocking=False)))
        other.start()
        other.join()
        assert outcome == [False]
    lock.release()
    assert lock.acquire(blocking=True, timeout=0) is True
    lock.release()


@pytest.mark.parametrize("kind", LOCKS)
def test_block_and_blocking_must_not_contradict(pool, kind):
    lock = LOCKS[kind](pool)
    for block in (True, False):
        with pytest.raises(TypeError, match="two names of the same argument"):
            lock.acquire(block=block, blocking=not block)
    with pytest.raises(TypeError, match="two names"):
        lock.acquire(True, blocking=False)


def test_a_reference_to_an_array_is_one(pool):
    array = np.arange(5000, dtype="i8")
    ref = pool.put(array)
    seen = np.asarray(ref)
    assert (seen == array).all()
    assert not seen.flags.writeable
    again = ref.get()
    assert np.shares_memory(seen, again)
    assert np.asarray(ref, dtype="i8") is not array
    assert np.asarray(ref, dtype="f4").dtype == np.float32
    copy = np.array(ref)
    assert copy.flags.writeable
    assert not np.shares_memory(copy, again)
    assert np.add(ref, 1)[0] == 1


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="numpy 2 asks for it")
def test_copy_as_in_numpy_2(pool):
    ref = pool.put(np.arange(5000))
    assert np.shares_memory(np.asarray(ref, copy=False), ref.get())
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(ref, dtype="f4", copy=False)


@pytest.mark.parametrize("obj", [{"a": 1}, [1, 2], 3, "text", None])
def test_a_reference_to_something_else_is_no_array(pool, obj):
    with pytest.raises(TypeError, match=f"reference to a {type(obj).__name__} is not an array"):
        np.asarray(pool.put(obj))


def test_the_base_of_an_array_that_arrived_leads_to_writable_copy(pool):
    queue = pool.queue()
    queue.put(np.arange(5000))
    array = queue.get()
    assert "onecopy.writable_copy(array)" in repr(array.base)
    assert "writable_copy" in type(array.base).__doc__
    assert "writable" in repr(pool.empty(5000, "u1").base)
    for method in (oc.Queue.get, oc.Ref.get, oc.Subscription.get):
        assert "writable_copy" in method.__doc__
    assert oc.writable_copy(array).flags.writeable
