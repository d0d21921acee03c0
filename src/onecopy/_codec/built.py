"""Objects of libraries that are taken apart into arrays and plain values, which the core packs.

A builder puts such an object together again from what it was taken apart into. Its number is part
of the message, so it never gets another meaning.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from onecopy._codec.packing import is_being_loaded

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Apart", "builder_of", "take_apart", "takes"]

# The number of the builder, and its arguments. None: the object is pickled.
Apart: TypeAlias = "tuple[int, tuple[Any, ...]] | None"

# The library, and the module that knows it: `types_of()` gives a function for each type.
_MODULES = {"pandas": "onecopy.tables.pandas_frames"}
# By the number of the builder: its module, its name.
_BUILDERS = {
    1: ("onecopy.tables.pandas_frames", "frame_of"),
    2: ("onecopy.tables.pandas_frames", "range_of"),
    3: ("onecopy.tables.pandas_frames", "index_of"),
    4: ("onecopy.tables.pandas_frames", "text_index_of"),
}
# With how their classes were pickled when they were looked at: a program may change that.
_known: dict[type[Any], tuple[Callable[[Any], Apart], tuple[Any, Any]]] = {}
_loaded: set[str] = set()


def takes(cls: type[Any]) -> bool:
    """Tell whether objects of exactly this class are taken apart here."""
    for library, module in _MODULES.items():
        if library in _loaded or getattr(sys.modules.get(library), "__spec__", None) is None:
            continue
        if cls.__module__.partition(".")[0] != library or is_being_loaded(library):
            continue
        try:
            types = importlib.import_module(module).types_of()
        except Exception:  # noqa: BLE001 - a version that this onecopy does not know: pickle does it
            types = {}
        for kind, function in types.items():
            _known[kind] = function, (kind.__reduce_ex__, kind.__reduce__)
        _loaded.add(library)
    return cls in _known


def take_apart(obj: Any) -> Apart:
    """Take an object apart.

    Parameters
    ----------
    obj : object
        Of a class that `takes` accepts.

    Returns
    -------
    tuple or None
        The number of the builder, and its arguments. None: the object is pickled.
    """
    known = _known.get(type(obj))
    if known is None or (type(obj).__reduce_ex__, type(obj).__reduce__) != known[1]:
        return None
    try:
        return known[0](obj)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - it is not as others are: pickle knows what to do
        return None


def builder_of(number: int) -> Callable[..., object] | None:
    """Return the builder of that number; None if there is none.

    Raises
    ------
    ModuleNotFoundError
        If this process does not have the library.
    """
    if number not in _BUILDERS:
        return None
    module, name = _BUILDERS[number]
    found: Callable[..., object] = getattr(importlib.import_module(module), name)
    return found
