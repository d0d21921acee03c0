"""Tables of weak references, from which callbacks remove entries at any moment."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["remove_if"]

_K = TypeVar("_K")
_V = TypeVar("_V")


def remove_if(table: dict[_K, _V], key: _K, value: _V) -> None:
    """Remove an entry, if its value is this one.

    A callback of a weak reference runs in the middle of any operation, so it cannot take a lock. A
    signal handler, another thread or another callback may replace or remove the entry between any
    two steps of this function. Each step is atomic in the interpreter.

    Parameters
    ----------
    table : dict
        From which the entry is removed.
    key, value : object
        The entry.
    """
    if table.get(key) is not value:
        return
    removed = table.pop(key, None)
    if removed is not None and removed is not value:
        table.setdefault(key, removed)  # it was replaced after the first step
