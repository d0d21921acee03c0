"""`inspect` and `help` show the parameters of every public method, on the class and bound."""

import inspect
import pydoc
import re

import numpy as np
import pytest

import onecopy as oc

CLASSES = sorted(
    (value for name in oc.__all__ if isinstance(value := getattr(oc, name), type)),
    key=lambda cls: cls.__name__,
)


def methods():
    for cls in CLASSES:
        if issubclass(cls, (BaseException, tuple, np.ndarray)):
            continue  # methods of other classes
        for name in dir(cls):
            if not name.startswith("_") and inspect.isroutine(getattr(cls, name)):
                yield pytest.param(cls, name, id=f"{cls.__name__}.{name}")


@pytest.mark.parametrize("cls", CLASSES)
def test_the_class_itself(cls):
    if not issubclass(cls, BaseException):  # CPython's own methods have none
        inspect.signature(cls)
    text = pydoc.plain(pydoc.render_doc(cls))
    assert f"class {cls.__name__} in module onecopy." in text
    assert "Base in module" not in text


@pytest.mark.parametrize(("cls", "name"), list(methods()))
def test_of_the_class(cls, name):
    function = getattr(cls, name)
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        # nanobind gives such names to parameters without a name
        assert not re.fullmatch(r"arg\d+", parameter.name)
    text = pydoc.plain(pydoc.render_doc(function))
    assert f"{name}(" in text
    assert inspect.getdoc(function), "a public method has a docstring"


@pytest.fixture
def things(pool):
    stream = pool.stream("s")
    made = [
        pool,
        pool.queue("q"),
        stream,
        stream.subscribe(),
        pool.frames("f", (4,), "u1", 2),
        pool.lock("l"),
        pool.rlock("rl"),
        pool.rwlock("rw"),
        pool.rwlock("rw").read(),
        pool.semaphore("se", 1),
        pool.event("e"),
        pool.condition("c"),
        pool.barrier("b", 2),
        pool.value("i", 3),
        pool.list([1]),
        pool.dict({"a": 1}),
        pool.put([1]),
    ]
    yield made
    made.clear()  # pytest keeps the list longer than the pool must live


def test_of_objects(things):
    for thing in things:
        for name in dir(type(thing)):
            if name.startswith("_") or not inspect.isroutine(getattr(type(thing), name)):
                continue
            method = getattr(thing, name)
            parameters = inspect.signature(method).parameters
            assert "self" not in parameters
            assert f"{name}(" in pydoc.plain(pydoc.render_doc(method))


def test_context_managers_and_operators_too(things):
    for thing in things:
        for name in ("__enter__", "__exit__", "__iter__", "__next__"):
            if name in dir(type(thing)):
                inspect.signature(getattr(thing, name))
