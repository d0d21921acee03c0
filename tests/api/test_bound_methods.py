"""Bound methods of every class pickle, copy and run elsewhere, like those of Python's classes."""

import copy
import functools
import inspect
import pickle
import queue as standard
import threading

import numpy as np
import pytest
from children import LIMIT

import onecopy as oc
from onecopy import multiprocessing as mp

MAKE = {
    "Queue": lambda pool: pool.queue("q"),
    "Stream": lambda pool: pool.stream("s"),
    "Frames": lambda pool: pool.frames("f", (4,), "u1", 2),
    "Lock": lambda pool: pool.lock("l"),
    "RLock": lambda pool: pool.rlock("rl"),
    "RWLock": lambda pool: pool.rwlock("rw"),
    "RWSide": lambda pool: pool.rwlock("rw").write(),
    "Semaphore": lambda pool: pool.semaphore("se", 1),
    "BoundedSemaphore": lambda pool: pool.bounded_semaphore("bs", 1),
    "Event": lambda pool: pool.event("e"),
    "Condition": lambda pool: pool.condition("c"),
    "Barrier": lambda pool: pool.barrier("b", 2),
    "Value": lambda pool: pool.value("i", 3, name="v"),
    "List": lambda pool: pool.list([1], name="li"),
    "Dict": lambda pool: pool.dict({"a": 1}, name="d"),
    "lock of a list": lambda pool: pool.list([1]).lock(),
    "lock of a dict": lambda pool: pool.dict({"a": 1}).lock(),
    "Ref": lambda pool: pool.put([1, 2]),
    "Pool": lambda pool: pool,
}


def methods(thing):
    for name in dir(type(thing)):
        if not name.startswith("_") and inspect.isroutine(getattr(type(thing), name)):
            yield name


@pytest.mark.parametrize("kind", MAKE)
def test_every_method_pickles_and_copies(pool, kind):
    thing = MAKE[kind](pool)
    names = list(methods(thing))
    assert names
    for name in names:
        method = getattr(thing, name)
        for again in (pickle.loads(pickle.dumps(method)), copy.copy(method)):
            assert again.__name__ == name
            assert type(again) is type(method)
        if kind not in {"List", "Dict"}:  # a deep copy of these is a plain list or dict
            assert copy.deepcopy(method).__name__ == name


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_side_of_a_rwlock_keeps_its_lock_side_and_time(pool, again):
    lock = pool.rwlock("rw")
    with again(lock.read()):
        assert lock.readers == 1
        with pytest.raises(RuntimeError, match="a reader cannot become a writer"):
            again(lock.write(0)).acquire()
    held = []
    with again(lock.write()):
        assert lock.owner is not None
        thread = threading.Thread(target=in_vain, args=(again(lock.read(0)), held))
        thread.start()
        thread.join()
    assert held == ["not at once"]


def in_vain(side, told):
    try:
        side.__enter__()
    except TimeoutError:
        told.append("not at once")


@pytest.mark.parametrize("kind", ["list", "dict"])
@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_the_lock_of_a_container_stays_the_same(pool, kind, again):
    container = getattr(pool, kind)()
    lock = container.lock()
    twin = again({"lock": lock})["lock"] if again is copy.deepcopy else again(lock)
    assert type(twin) is type(lock)
    assert twin.handle == lock.handle
    with twin:
        assert lock.owner is not None
    assert lock.owner is None


# A subscription belongs to its process. If it cannot be sent, the error says what to do.


@pytest.mark.parametrize(
    "take", [pickle.dumps, copy.copy, copy.deepcopy, lambda sub: pickle.dumps(sub.get)]
)
def test_a_subscription_stays_where_it_is(pool, take):
    stream = pool.stream()
    with pytest.raises(TypeError, match=r"belongs to the process that made it.*call its subscribe"):
        take(stream.subscribe())


def test_a_subscription_as_an_argument(pool):
    child = mp.get_context("spawn").Process(target=print, args=(pool.stream().subscribe(),))
    with pytest.raises(TypeError, match="call its subscribe"):
        child.start()


def test_they_do_the_same_thing(pool):
    queue, event, ref = pool.queue(), pool.event(), pool.put(np.arange(5000))
    pickle.loads(pickle.dumps(queue.put))("a")
    assert copy.copy(queue.get)() == "a"
    pickle.loads(pickle.dumps(functools.partial(queue.put, "b")))()
    assert queue.get() == "b"
    pickle.loads(pickle.dumps(event.set))()
    assert event.is_set()
    assert pickle.loads(pickle.dumps(ref.get))()[-1] == 4999


def test_functions_of_the_classes(pool):
    queue = pool.queue()
    pickle.loads(pickle.dumps(oc.Queue.put))(queue, 1)
    assert copy.deepcopy(oc.Queue.get)(queue) == 1


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_as_targets_of_children(pool, method):
    context = mp.get_context(method)
    queue, event = context.Queue(), context.Event()
    names = pool.queue()
    for target, arguments in (
        (queue.put, ("x",)),
        (functools.partial(names.put, "y"), ()),
        (event.set, ()),
    ):
        child = context.Process(target=target, args=arguments)
        child.start()
        child.join(LIMIT)
        assert child.exitcode == 0
    assert queue.get(timeout=LIMIT) == "x"
    assert names.get(timeout=LIMIT) == "y"
    assert event.wait(LIMIT)


def test_as_calls_of_an_executor(pool):
    queue, ref = pool.queue(), pool.put({"a": np.arange(5000)})
    with oc.Executor(1) as executor:
        executor.submit(queue.put, "z").result(LIMIT)
        assert queue.get(timeout=LIMIT) == "z"
        assert executor.submit(ref.get).result(LIMIT)["a"][7] == 7
        with pytest.raises(standard.Empty):
            executor.submit(queue.get_nowait).result(LIMIT)
