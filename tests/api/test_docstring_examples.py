"""The examples of docstrings: each public function and method has one, and all of them run."""

import builtins
import doctest
import gc
import inspect

import numpy as np
import pytest

import onecopy as oc

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# What examples need beyond numpy. Without it they do not run.
NEEDS = {
    "open_table": "pyarrow",
    "serve": "pyarrow.flight",
    "fetch": "pyarrow.flight",
    "FlightServer": "pyarrow.flight",
    "writable_copy": "pandas",
    "open_recording": "mcap",
    "Recording": "mcap",
    "RecordingWriter": "mcap",
    "record": "mcap",
    "replay": "mcap",
}
# Made by other calls, in whose examples they are; they have no methods.
MADE_BY_OTHERS = {"RecordedChannel", "RecordedMessage", "RecordingReport"}
# `Pool.of` is for the package itself.
INTERNAL = {"Pool.of"}

PUBLIC = {
    name: thing
    for name in oc.__all__
    if callable(thing := getattr(oc, name))
    and not (inspect.isclass(thing) and issubclass(thing, BaseException))
}


def own_methods(cls):
    """Name the public methods that are of onecopy, and not of numpy or the standard library."""
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        if name.startswith("_") or not callable(getattr(cls, name)):
            continue
        if issubclass(cls, np.ndarray) and hasattr(np.ndarray, name):
            continue
        owner = next(each for each in cls.__mro__ if name in vars(each))
        is_ours = owner.__module__.startswith("onecopy")
        # `Elsewhere` only names the method of another class.
        if is_ours and type(method).__name__ != "Elsewhere":
            yield name


def examples(thing):
    return doctest.DocTestParser().get_examples(inspect.getdoc(thing) or "")


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - MADE_BY_OTHERS))
def test_each_public_method_is_in_an_example(name):
    thing = PUBLIC[name]
    assert examples(thing), f"{name} has no example"
    methods = list(own_methods(thing)) if inspect.isclass(thing) else []
    documented = [thing, *(getattr(thing, method) for method in methods)]
    text = "".join(each.source for one in documented for each in examples(one))
    missing = [
        method
        for method in methods
        if f".{method}(" not in text and f"{name}.{method}" not in INTERNAL
    ]
    assert not missing, f"no example of {name} shows {missing}"


def documented():
    for name, thing in PUBLIC.items():
        yield name, thing
        if inspect.isclass(thing):
            for method in own_methods(thing):
                yield f"{name}.{method}", getattr(thing, method)


DOCUMENTED = {name: thing for name, thing in documented() if examples(thing)}


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_an_example_runs(name, tmp_path, monkeypatch):
    pytest.importorskip(NEEDS.get(name.partition(".")[0], "numpy"))
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTest(examples(DOCUMENTED[name]), {"oc": oc, "np": np}, name, None, None, None)
    problems = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=problems.append, clear_globs=False)
    for each in test.globs.values():
        if isinstance(each, oc.Pool):
            each.close()
    test.globs.clear()
    builtins._ = None  # what doctest printed last
    gc.collect()
    assert not problems, "".join(problems)
