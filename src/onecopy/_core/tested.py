"""Versions of other packages: whether one was tested, and has what an integration uses.

An integration may use names that a package does not promise to keep. It looks for each of them
before it changes the first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["objection"]


def objection(
    package: str, version: str, tested: tuple[str, str], names: Mapping[str, tuple[str, ...]]
) -> str:
    """Tell why a version of a package cannot be used; "" if it can.

    Parameters
    ----------
    package : str
        Its name, for the text.
    version : str
        What is installed.
    tested : tuple of str
        The first and the last version that can be used.
    names : mapping
        What is used of it, by module: attributes, and attributes of classes ("Class.method").
    """
    if not _number(tested[0]) <= _number(version) <= _number(tested[1]):
        return f"onecopy was tested with {package} {tested[0]} to {tested[1]}"
    missing = _lacking(names)
    return f"it does not have {', '.join(missing)}" if missing else ""


def _number(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split("+", maxsplit=1)[0].split(".")[:3]:
        digits = "".join(letter for letter in part if letter.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


def _lacking(names: Mapping[str, tuple[str, ...]]) -> list[str]:
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
