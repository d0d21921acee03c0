"""The structure that ARCHITECTURE.md draws, for the rules that `lint-imports` cannot check."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "onecopy"
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
