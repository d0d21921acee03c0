"""The classes that the core takes apart and builds by itself: pickle does nothing else for them.

The core asks once for each class, and again when the class was changed. At each use it looks at
what can change without the class: what its name stands for, and what `copyreg` has.
"""

from __future__ import annotations

import collections
import copyreg
import enum
import inspect
import sys
import types
from typing import TYPE_CHECKING, Any, TypeAlias

from onecopy._codec import built
from onecopy._codec.registry import registry

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BUILT",
    "CALLED",
    "CALLED_BY_NAME",
    "FROZEN",
    "MEMBER",
    "NAMED",
    "PLAIN",
    "SLOTTED",
    "plan_of",
]

# As in native/bindings/codec_classes.cpp.
PLAIN = 1  # `object.__new__`, and then its attributes
NAMED = 2  # a named tuple without anything else
MEMBER = 3  # of an enum, by its value
SLOTTED = 4  # `object.__new__`, and then its slots
FROZEN = 5  # the same, of a frozen dataclass
CALLED = 6  # the class is called with the fields of the object: a struct of msgspec
CALLED_BY_NAME = 7  # the same, with the names of the fields
BUILT = 8  # `_codec.built` takes it apart

_HEAP_TYPE = 1 << 9  # in `__flags__`: made by a class statement
Plan: TypeAlias = "tuple[int, str, str, int, tuple[Any, ...]]"
_getnewargs = vars(collections.namedtuple("_named", "one"))["__getnewargs__"].__code__


def plan_of(cls: type[Any]) -> Plan | None:
    """Tell how the core takes objects of a class apart.

    Parameters
    ----------
    cls : type
        The exact class.

    Returns
    -------
    tuple or None
        How; the module and the name by which others find it; the number of elements of a named
        tuple, or of fields; and the member descriptors of its fields. None: they are pickled.
    """
    try:
        return _plan_of(cls)
    except Exception:  # noqa: BLE001 - a class that is not as others are: pickle knows what to do
        return None


def _plan_of(cls: Any) -> Plan | None:
    module, name = cls.__module__, cls.__qualname__
    if type(module) is not str or type(name) is not str or "." in name:
        return None
    metaclass: Any = type(cls)
    # The core looks the class up in tables, and no code may run then.
    if metaclass.__hash__ is not type.__hash__:
        return None
    registry.refresh()
    if built.takes(cls):
        return BUILT, module, name, 0, ()
    if issubclass(cls, registry.kinds):
        return None
    if isinstance(cls, enum.EnumMeta):
        return (MEMBER, module, name, 0, ()) if _goes_by_value(cls) else None
    kind, slots = _kind_of(cls)
    if not kind:
        return None
    return kind, module, name, len(cls._fields) if kind == NAMED else len(slots), slots


def _kind_of(cls: Any) -> tuple[int, tuple[Any, ...]]:
    if issubclass(cls, tuple):
        named = not copyreg._slotnames(cls) and _says_nothing(cls) and _is_named(cls)  # type: ignore[attr-defined]
        return (NAMED if named else 0), ()
    struct = getattr(sys.modules.get("msgspec"), "Struct", None)
    if isinstance(struct, type) and issubclass(cls, struct):
        return _struct_of(cls, struct)
    # This changes the class when it is called first, so the look-ups come after it: they give the
    # class the version tag by which the core knows it.
    slots = copyreg._slotnames(cls)  # type: ignore[attr-defined]
    if not _says_nothing(cls, state=False) or not _is_made_by_object(cls):
        return 0, ()
    says_nothing = _says_nothing(cls)
    if _has_dict(cls):
        return (PLAIN if says_nothing and not slots else 0), ()
    if says_nothing:
        if cls.__setattr__ is not object.__setattr__:
            return 0, ()  # pickle would call it
        return SLOTTED, _members(cls, slots)
    if _has_state_of_dataclass(cls):
        fields = sys.modules["dataclasses"].fields(cls)
        return FROZEN, _members(cls, [field.name for field in fields])
    return 0, ()


def _goes_by_value(cls: Any) -> bool:
    return cls.__reduce_ex__ is enum.Enum.__reduce_ex__


def _says_nothing(cls: Any, *, state: bool = True) -> bool:
    """Tell whether a class leaves it to `object` how it is pickled, with or without its state."""
    return (
        cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
        and not hasattr(cls, "__getnewargs_ex__")
        and not hasattr(cls, "__getattr__")
        and (
            not state
            or (cls.__getstate__ is object.__getstate__ and not hasattr(cls, "__setstate__"))
        )
    )


def _has_state_of_dataclass(cls: Any) -> bool:
    """Tell whether a class has the state that `dataclass` gives to frozen classes with slots."""
    # Code that has made a dataclass has loaded the module. `import onecopy` does not.
    dataclasses: Any = sys.modules.get("dataclasses")
    return (
        dataclasses is not None
        and dataclasses.is_dataclass(cls)
        and cls.__getstate__ is dataclasses._dataclass_getstate
        and cls.__setstate__ is dataclasses._dataclass_setstate
    )


def _members(cls: Any, names: Iterable[str]) -> tuple[Any, ...]:
    """Return the member descriptors of these fields.

    Raises
    ------
    TypeError
        If one is something else, for example a property of a derived class.
    """
    members = tuple(inspect.getattr_static(cls, name) for name in names)
    if not all(isinstance(member, types.MemberDescriptorType) for member in members):
        raise TypeError(f"a field of {cls} has no place of its own")
    if [member.__name__ for member in members] != list(names):
        raise TypeError(f"a field of {cls} has another name")
    return members


def _struct_of(cls: Any, struct: Any) -> tuple[int, tuple[Any, ...]]:
    """Return how structs of msgspec are taken apart: by the arguments of their class."""
    if (
        cls.__reduce_ex__ is not object.__reduce_ex__
        or cls.__reduce__ is not struct.__reduce__
        or cls.__getattribute__ is not object.__getattribute__
        or hasattr(cls, "__getattr__")
        or type(cls).__call__ is not type(struct).__call__
    ):
        return 0, ()
    kinds = {parameter.kind for parameter in inspect.signature(cls).parameters.values()}
    kind = CALLED_BY_NAME if inspect.Parameter.KEYWORD_ONLY in kinds else CALLED
    return kind, _members(cls, cls.__struct_fields__)


def _is_made_by_object(cls: Any) -> bool:
    bases = cls.__mro__[:-1]
    return (
        cls.__new__ is object.__new__
        and cls.__getattribute__ is object.__getattribute__
        and not hasattr(cls, "__getnewargs__")
        and all(base.__flags__ & _HEAP_TYPE and "__class__" not in vars(base) for base in bases)
        and all(
            isinstance(vars(base)["__dict__"], types.GetSetDescriptorType)
            for base in bases
            if "__dict__" in vars(base)
        )
    )


def _has_dict(cls: Any) -> bool:
    return any("__dict__" in vars(base) for base in cls.__mro__[:-1])


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
