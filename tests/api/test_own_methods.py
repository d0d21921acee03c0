"""Public classes have the core's methods as their own, so that CPython calls them fast."""

from __future__ import annotations

import pickle
import types

import pytest

import onecopy as oc
import onecopy.multiprocessing as omp
from onecopy import _native

CLASSES = [
    oc.Queue,
    oc.Stream,
    oc.Frames,
    oc.Lock,
    oc.RLock,
    oc.RWLock,
    oc.Semaphore,
    oc.BoundedSemaphore,
    oc.Event,
    oc.Condition,
    oc.Barrier,
    oc.List,
    oc.Dict,
    omp.queues.Queue,
    omp.queues.JoinableQueue,
    omp.queues.SimpleQueue,
    omp.synchronize.Lock,
    omp.synchronize.RLock,
    omp.synchronize.Semaphore,
    omp.synchronize.BoundedSemaphore,
    omp.synchronize.Condition,
    omp.synchronize.Event,
    omp.synchronize.Barrier,
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_no_method_is_only_inherited(cls):
    inherited = [
        name
        for name in dir(cls)
        if not (name.startswith("__") and name not in ("__enter__", "__exit__"))
        and isinstance(method := getattr(cls, name), types.MethodDescriptorType)
        and method.__objclass__ is not cls
    ]
    assert not inherited


def test_what_a_class_defines_itself_stays():
    calls = []

    class Loud:
        def put(self, obj):
            calls.append(obj)
            super().put(obj)

    @_native.own_methods
    class LoudQueue(Loud, oc.Queue):
        def qsize(self):
            return 7

    assert LoudQueue.put is Loud.put
    assert LoudQueue.get.__objclass__ is LoudQueue
    queue = oc.Pool.create(size="4MiB").queue()
    with pytest.raises(TypeError, match="descriptor 'get' for 'LoudQueue' objects"):
        LoudQueue.get(queue)
    loud = LoudQueue()
    loud.put(3)
    assert (calls, loud.get(), loud.qsize()) == ([3], 3, 7)


def test_a_derived_class_needs_none(pool):
    class Mine(oc.Queue):
        pass

    mine = Mine()
    mine.put(1)
    assert mine.get(timeout=1.0) == 1
    assert Mine.get is oc.Queue.get


@pytest.mark.parametrize("cls", [int, object, _native.Ref, 3])
def test_other_classes_are_refused(cls):
    if cls is _native.Ref:
        assert _native.own_methods(cls) is cls  # nothing to inherit
        return
    with pytest.raises(TypeError, match="derived from a bound one"):
        _native.own_methods(cls)


@pytest.mark.parametrize("kind", [oc.Lock, oc.RLock])
def test_a_guarded_value_knows_whose_acquire_it_calls(pool, kind):
    taken = []

    class Counting(kind):
        def acquire(self, *args, **kwargs):
            taken.append(self)
            return super().acquire(*args, **kwargs)

    for lock, calls in ((kind(), 0), (Counting(), 1)):
        value = omp.Value("i", 1, lock=lock)
        value.value = 2
        assert (value.value, len(taken)) == (2, 2 * calls)


def test_bound_methods_travel(pool):
    queue = pool.queue()
    pickle.loads(pickle.dumps(queue.put))(5)
    assert queue.get() == 5
