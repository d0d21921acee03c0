"""The structure that ARCHITECTURE.md draws, for the rules that `lint-imports` cannot check."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "onecopy"
MODULES = sorted(SOURCE.rglob("*.py"))

# These use the package as its users do.
FACES = {"cli", "demo"}


def _names_from_the_package(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "onecopy":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ("(all of it)" for alias in node.names if alias.name == "onecopy")


def _is_module(name):
    return (SOURCE / name).is_dir() or (SOURCE / f"{name}.py").exists() or name == "_native"


def test_there_is_something_to_look_at():
    assert len(MODULES) > 100


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_the_faces_use_the_package_itself(path):
    """Other code names the module it needs: `lint-imports` cannot follow names of the package."""
    if path.relative_to(SOURCE).parts[0] in FACES:
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [name for name in _names_from_the_package(tree) if not _is_module(name)] == []


def _height_of_layers():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [layers] = [
        contract["layers"]
        for contract in tomllib.loads(text)["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and contract["containers"] == ["onecopy"]
    ]
    return {
        name.strip(): height
        for height, layer in enumerate(reversed(layers))
        for name in layer.split("|")
    }


def _strings(tree):
    """Yield the strings of a module that are not docstrings."""
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            yield node.value


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_string_names_a_module_of_a_higher_layer(path):
    """A module that is imported by its name is not seen by `lint-imports`."""
    heights = _height_of_layers()
    own = path.relative_to(SOURCE).with_suffix("").parts[0]
    if own == "__init__":
        return  # it puts the package together
    named = [
        name
        for text in _strings(ast.parse(path.read_text(encoding="utf-8")))
        if (name := re.fullmatch(r"onecopy\.(\w+)(\.\w+)*", text))
    ]
    assert [name[0] for name in named if heights.get(name[1], 0) > heights[own]] == []
