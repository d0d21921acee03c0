"""Versions of other packages: whether one is in a tested range, and which names it lacks.

An integration may use names that a package does not promise to keep. It looks for each of them
before it changes the first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["in_range", "lacking"]


def in_range(version: str, first: str, last: str) -> bool:
    """Tell whether a version is not older than `first`, and not newer than `last`."""
    return _number(first) <= _number(version) <= _number(last)


def _number(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split("+", maxsplit=1)[0].split(".")[:3]:
        digits = "".join(letter for letter in part if letter.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


def lacking(names: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return what cannot be found.

    Parameters
    ----------
    names : mapping
        By module: attributes, and attributes of classes ("Class.method").

    Returns
    -------
    list of str
        Modules, and names with their modules.
    """
    missing = []
    for module, wanted in names.items():
        try:
            loaded: object = import_module(module)
        except ImportError:
            missing.append(module)
            continue
        for name in wanted:
            found: object = loaded
            for part in name.split("."):
                found = getattr(found, part, None)
            if found is None:
                missing.append(f"{module}.{name}")
    return missing
