"""The names, contexts and start methods of `onecopy.multiprocessing`."""

import importlib
import multiprocessing as standard
import pkgutil
import sys

import pytest

from onecopy import multiprocessing as ours

# Modules that people import things from.
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
