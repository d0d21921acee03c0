"""Objects of libraries that are taken apart into arrays and plain values, which the core packs.

A builder puts such an object together again from what it was taken apart into. The registry has
the modules that know the objects (`registry.register`), and the builders by their numbers.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from onecopy._codec.packing import is_being_loaded
from onecopy._codec.registry import codecs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Apart", "builder_of", "take_apart", "takes"]

# The number of the builder, and its arguments. None: the object is pickled.
Apart: TypeAlias = "tuple[int, tuple[Any, ...]] | None"

# With how their classes were pickled when they were looked at: a program may change that.
_known: dict[type[Any], tuple[Callable[[Any], Apart], tuple[Any, Any]]] = {}
_loaded: set[str] = set()


def takes(cls: type[Any]) -> bool:
    """Tell whether objects of exactly this class are taken apart here."""
    library = cls.__module__.partition(".")[0]
    codec = codecs.get(library)
    if codec is not None and codec.built is not None and library not in _loaded:
        loaded = getattr(sys.modules.get(library), "__spec__", None) is not None
        if loaded and not is_being_loaded(library):
            _load(library, codec.built)
    return cls in _known


def _load(library: str, module: str) -> None:
    try:
        types = importlib.import_module(module).types_of()
    except Exception:  # noqa: BLE001 - a version that this onecopy does not know: pickle does it
        types = {}
    for kind, function in types.items():
        _known[kind] = function, (kind.__reduce_ex__, kind.__reduce__)
    _loaded.add(library)


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
    for codec in codecs.values():
        if codec.built is not None and number in codec.builders:
            module = importlib.import_module(codec.built)
            found: Callable[..., object] = getattr(module, codec.builders[number])
            return found
    return None
