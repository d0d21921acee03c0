"""The native core's stub, typed by hand: it has the module's functions and parameters."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from onecopy import _native

STUB = Path(inspect.getfile(_native)).with_name("_native.pyi")
TREE = ast.parse(STUB.read_text(encoding="utf-8"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
CLASSES = {node.name: node for node in TREE.body if isinstance(node, ast.ClassDef)}


def written(body: list[ast.stmt]) -> set[str]:
    names = {node.name for node in body if isinstance(node, (*FUNCTIONS, ast.ClassDef))}
    return names | {node.target.id for node in body if isinstance(node, ast.AnnAssign)}


def public(names: set[str]) -> set[str]:
    return {name for name in names if not name.startswith("__")}


def test_the_module():
    aliases = {node.targets[0].id for node in TREE.body if isinstance(node, ast.Assign)}
    aliases |= {node.name.id for node in TREE.body if node.__class__.__name__ == "TypeAlias"}
    kinds = {name for name in written(TREE.body) if name.startswith("_")}  # for the stub alone
    assert public(written(TREE.body)) - kinds - aliases == public(set(vars(_native)))


def test_every_class_is_there():
    types = {name for name, value in vars(_native).items() if isinstance(value, type)}
    assert {name for name in CLASSES if not name.startswith("_")} == types


@pytest.mark.parametrize("name", [name for name in CLASSES if not name.startswith("_")])
def test_a_class(name):
    assert public(written(CLASSES[name].body)) == public(set(vars(getattr(_native, name))))


def parameters(node: ast.FunctionDef) -> list[tuple[str, str]]:
    """Names and defaults; `self` is left out."""
    spec = node.args
    positional = [*spec.posonlyargs, *spec.args]
    defaults = [None] * (len(positional) - len(spec.defaults)) + list(spec.defaults)
    named = zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
    return [
        (argument.arg, "" if default is None else ast.unparse(default))
        for argument, default in (*zip(positional, defaults, strict=True), *named)
        if argument.arg not in {"self", "cls"}
    ]


def told(function) -> list[tuple[str, str]]:
    return [
        (name, "" if parameter.default is parameter.empty else repr(parameter.default))
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in {"self", "type"}
    ]


def methods():
    for name, node in CLASSES.items():
        for inner in node.body:
            if is_method(inner):
                cls = getattr(_native, name)
                found = inspect.getattr_static(cls, inner.name, None)  # __buffer__: 3.12 and later
                if not isinstance(found, (type(object.__init__), type(None))):  # slots lack it
                    yield pytest.param(inner, getattr(cls, inner.name), id=f"{name}.{inner.name}")


def is_method(node):
    decorators = {
        getattr(each, "id", getattr(each, "attr", ""))
        for each in getattr(node, "decorator_list", ())
    }
    return isinstance(node, FUNCTIONS) and not decorators & {"property", "setter", "overload"}


@pytest.mark.parametrize(("node", "function"), list(methods()))
def test_parameters_of_methods(node, function):
    """`inspect.signature` knows every method, with the names and defaults that the stub has."""
    assert told(function) == parameters(node)


def functions():
    for node in TREE.body:
        if isinstance(node, FUNCTIONS):
            yield pytest.param(node, getattr(_native, node.name, None), id=node.name)


@pytest.mark.parametrize(("node", "function"), list(functions()))
def test_parameters_of_functions(node, function):
    """For parameters whose names the core knows; positional ones have only numbers there."""
    assert function is not None, "the module has no such function"
    [(signature, *_)] = function.__nb_signature__ or [("",)]
    tree = ast.parse(re.sub(r"\\\d+", "None", signature) + ": ...").body[0]
    known = [name for name, _ in parameters(tree)]
    names = [name for name, _ in parameters(node)]
    assert len(known) == len(names)
    assert [n for n in known if not re.fullmatch(r"arg\d*", n)] == [
        t for k, t in zip(known, names, strict=True) if not re.fullmatch(r"arg\d*", k)
    ]
