"""The names, contexts and start methods of `onecopy.multiprocessing`."""

import importlib
import multiprocessing as standard
import pkgutil
import sys

import numpy as np
import pytest
from children import LIMIT

import onecopy as oc
from onecopy import _native
from onecopy import multiprocessing as ours

# Modules from which people import names.
MODULES = ("connection", "managers", "pool", "process", "queues", "reduction", "shared_memory",
           "sharedctypes", "synchronize", "util", "context", "dummy")  # fmt: skip


def test_every_public_name_is_there():
    assert set(ours.__all__) == set(standard.__all__)
    for name in standard.__all__:
        assert hasattr(ours, name)


def test_every_module_is_there():
    windows = {"popen_spawn_win32"}
    for module in pkgutil.iter_modules(standard.__path__):
        if module.name not in windows:
            assert (
                getattr(ours, module.name) is sys.modules[f"onecopy.multiprocessing.{module.name}"]
            )


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_of_a_module_is_there(name):
    theirs = importlib.import_module(f"multiprocessing.{name}")
    mine = importlib.import_module(f"onecopy.multiprocessing.{name}")
    missing = [public for public in getattr(theirs, "__all__", ()) if not hasattr(mine, public)]
    assert missing == []


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("", "SUBDEBUG SUBWARNING"),
        ("context", "BaseContext ForkProcess SpawnProcess ForkServerProcess"),
        ("context", "assert_spawning get_spawning_popen set_spawning_popen"),
        ("queues", "Empty Full"),
        ("synchronize", "SemLock SEM_VALUE_MAX"),
        ("sharedctypes", "reduce_ctype rebuild_ctype"),
        ("managers", "dispatch listener_client"),
    ],
)
def test_what_has_no_counterpart_is_the_standard_librarys(module, names):
    theirs = importlib.import_module(f"multiprocessing.{module}".rstrip("."))
    mine = importlib.import_module(f"onecopy.multiprocessing.{module}".rstrip("."))
    for name in names.split():
        assert getattr(mine, name) is getattr(theirs, name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mine.nonsense  # noqa: B018 - asking is the test


def test_what_is_not_about_sharing_is_the_standard_librarys():
    for name in ("Process", "ProcessError", "TimeoutError", "current_process", "Pipe"):
        mine, theirs = getattr(ours, name), getattr(standard, name)
        assert getattr(mine, "__func__", mine) is getattr(theirs, "__func__", theirs)
    assert ours.connection is standard.connection
    assert importlib.import_module("onecopy.multiprocessing.util") is standard.util
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ours.nonsense  # noqa: B018 - asking is the test


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_contexts(method):
    context = ours.get_context(method)
    assert context.get_start_method() == method
    assert context.get_context() is context
    assert context.get_context("fork") is ours.get_context("fork")
    assert context.Process is standard.get_context(method).Process
    with pytest.raises(ValueError, match="cannot set start method of concrete"):
        context.set_start_method("fork")
    with pytest.raises(ValueError, match="cannot find context for 'nonsense'"):
        context.get_context("nonsense")


def test_the_start_method_is_one_setting(monkeypatch):
    monkeypatch.setattr(standard.context._default_context, "_actual_context", None)
    assert ours.get_start_method(allow_none=True) is None
    ours.set_start_method("spawn")
    assert standard.get_start_method() == "spawn"
    assert ours.get_context().get_start_method() == "spawn"
    with pytest.raises(RuntimeError, match="already been set"):
        ours.set_start_method("fork")
    standard.set_start_method("fork", force=True)
    assert ours.get_context() is ours.get_context("fork")
    assert ours.get_all_start_methods() == standard.get_all_start_methods()


# ------------------------------------------------------------------------ the errors of both worlds


def _raised(call, *kinds):
    with pytest.raises(kinds[0]) as caught:
        call()
    for kind in kinds:
        assert isinstance(caught.value, kind)
    return str(caught.value)


def test_an_rlock_that_is_not_held():
    lock = ours.RLock()
    assert "does not hold" in _raised(lock.release, RuntimeError, AssertionError)
    with lock:
        pass
    with pytest.raises(RuntimeError) as plain:
        oc.RLock().release()
    assert not isinstance(plain.value, AssertionError)
    with pytest.raises(ValueError, match="nobody holds"):
        ours.Lock().release()


@pytest.mark.parametrize("lock", [None, ours.Lock, ours.RLock])
def test_a_condition_that_is_not_held(lock):
    condition = ours.Condition(lock and lock())
    for call in (condition.wait, condition.notify, condition.notify_all):
        assert "not held" in _raised(call, RuntimeError, AssertionError)
    if lock is not ours.Lock:
        _raised(condition.release, RuntimeError, AssertionError)
    with condition:
        condition.notify()
        assert not condition.wait(0)
    with pytest.raises(RuntimeError) as plain:
        oc.Condition().notify()
    assert not isinstance(plain.value, AssertionError)


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])
@pytest.mark.parametrize("value", [-1, 2**31])
def test_values_that_no_semaphore_has(kind, value):
    assert f"value={value}" in _raised(lambda: getattr(ours, kind)(value), ValueError, OSError)


def _takes_a_token(semaphore):
    semaphore.acquire()


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])
@pytest.mark.parametrize("recover", [True, False])
def test_tokens_of_a_process_that_has_ended(start, kind, recover):
    semaphore = getattr(ours.get_context("spawn"), kind)(2, recover=recover)
    child = start("spawn", _takes_a_token, semaphore)
    assert child.wait() == 0
    if recover:
        for _ in range(2):
            assert semaphore.acquire(timeout=LIMIT)
    else:
        assert semaphore.get_value() == 1
        semaphore.release()
        assert semaphore.get_value() == 2


def test_a_type_code_that_is_none():
    with pytest.raises(ValueError, match="no array of type code 'x' is filled here"):
        _native.fill_array(np.zeros(3), "x", [1, 2, 3])
