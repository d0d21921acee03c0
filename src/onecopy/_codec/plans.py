"""Which classes the core takes apart and builds by itself: those for which pickle does only this.

The core asks once for each class, and again when the class was changed. What can change without the
class (a name that stands for another class now, what was told to `copyreg`) it looks at each time.
"""

from __future__ import annotations

import collections
import copyreg
import enum
import types
from typing import Any

from onecopy._codec.registry import registry

__all__ = ["MEMBER", "NAMED", "PLAIN", "plan_of"]

# As in native/bindings/codec_classes.cpp.
PLAIN = 1  # `object.__new__`, and then its attributes
NAMED = 2  # a named tuple without anything else
MEMBER = 3  # of an enum, by its value

_HEAP_TYPE = 1 << 9  # in `__flags__`: made by a class statement
_getnewargs = vars(collections.namedtuple("_named", "one"))["__getnewargs__"].__code__


def plan_of(cls: type[Any]) -> tuple[int, str, str, int] | None:
    """Tell how the core takes objects of a class apart.

    Parameters
    ----------
    cls : type
        The exact class.

    Returns
    -------
    tuple or None
        How, the module and the name by which others find it, and the number of elements of a named
        tuple. None: they are pickled.
    """
    try:
        return _plan_of(cls)
    except Exception:  # noqa: BLE001 - a class that is not as others are: pickle knows what to do
        return None


def _plan_of(cls: Any) -> tuple[int, str, str, int] | None:
    module, name = cls.__module__, cls.__qualname__
    if type(module) is not str or type(name) is not str or "." in name:
        return None
    metaclass: Any = type(cls)
    # The core looks the class up in tables, and no code may run then.
    if metaclass.__hash__ is not type.__hash__ or issubclass(cls, registry.kinds):
        return None
    if isinstance(cls, enum.EnumMeta):
        return (MEMBER, module, name, 0) if _goes_by_value(cls) else None
    if not _says_nothing(cls):
        return None
    if issubclass(cls, tuple):
        return (NAMED, module, name, len(cls._fields)) if _is_named(cls) else None
    return (PLAIN, module, name, 0) if _is_plain(cls) else None


def _goes_by_value(cls: Any) -> bool:
    return cls.__reduce_ex__ is enum.Enum.__reduce_ex__


def _says_nothing(cls: Any) -> bool:
    """Tell whether a class leaves it to `object` how it is pickled, and has no slots."""
    return (
        cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
        and cls.__getstate__ is object.__getstate__
        and not hasattr(cls, "__setstate__")
        and not hasattr(cls, "__getnewargs_ex__")
        and not hasattr(cls, "__getattr__")
        and not copyreg._slotnames(cls)  # type: ignore[attr-defined]
    )


def _is_plain(cls: Any) -> bool:
    bases = cls.__mro__[:-1]
    with_dict = [vars(base)["__dict__"] for base in bases if "__dict__" in vars(base)]
    return (
        cls.__new__ is object.__new__
        and cls.__getattribute__ is object.__getattribute__
        and not hasattr(cls, "__getnewargs__")
        and all(base.__flags__ & _HEAP_TYPE and "__class__" not in vars(base) for base in bases)
        and bool(with_dict)
        and all(isinstance(how, types.GetSetDescriptorType) for how in with_dict)
    )


def _is_named(cls: Any) -> bool:
    new, arguments = cls.__new__, getattr(cls, "__getnewargs__", None)
    return (
        cls.__getattribute__ is tuple.__getattribute__
        and cls.__dictoffset__ == 0
        and isinstance(new, types.FunctionType)
        and str(new.__globals__.get("__name__")).startswith("namedtuple_")
        and isinstance(arguments, types.FunctionType)
        and arguments.__code__ is _getnewargs
        and type(getattr(cls, "_fields", None)) is tuple
        and new.__code__.co_argcount == len(cls._fields) + 1
        and all("__class__" not in vars(base) for base in cls.__mro__[:-2])
    )
