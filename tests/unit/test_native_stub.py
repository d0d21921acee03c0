"""The native core's stub, typed by hand: it has what the module has, with the same parameters."""

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


def parameters(node: ast.FunctionDef) -> list[str]:
    arguments = node.args
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def functions():
    for node in TREE.body:
        if isinstance(node, FUNCTIONS):
            yield pytest.param(node, getattr(_native, node.name, None), id=node.name)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                found = vars(getattr(_native, node.name, object)).get(getattr(inner, "name", ""))
                if isinstance(inner, FUNCTIONS) and hasattr(found, "__nb_signature__"):
                    yield pytest.param(inner, found, id=f"{node.name}.{inner.name}")


@pytest.mark.parametrize(("node", "function"), list(functions()))
def test_parameters(node, function):
    """As far as the core knows their names; those that go by position only have numbers there."""
    assert function is not None, "the module has no such function"
    [(signature, *_)] = function.__nb_signature__ or [("",)]
    tree = ast.parse(re.sub(r"\\\d+", "None", signature) + ": ...").body[0]
    known = parameters(tree)
    told = parameters(node)
    assert len(known) == len(told)
    assert [n for n in known if not re.fullmatch(r"arg\d*", n)] == [
        t for k, t in zip(known, told, strict=True) if not re.fullmatch(r"arg\d*", k)
    ]
