"""From annotations to a schema, and the classes that this process has for its records."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from typing import Any

import numpy as np

from onecopy._typed.schema import ABSENT, DEEPEST, KINDS, NUMBERS, spell_dtype
from onecopy._typed.shape import Shape

if typing.TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from onecopy._typed.schema import Schema

__all__ = ["UnfitError", "schema_of"]

_SCALARS: dict[Any, str] = {
    bool: "bool",
    int: "int",
    float: "float",
    complex: "complex",
    str: "str",
    bytes: "bytes",
    type(None): "none",
    None: "none",
}
_BY_TYPE: dict[Any, str] = {kind: name for name, kind in NUMBERS.items()} | {
    np.dtype(code).type: np.dtype(code).name for code in "lqLQ"
}
_SUPPORTED = (
    "use bool, int, float, complex, str, bytes, None, numpy's scalars, npt.NDArray, list, tuple, "
    "dict, X | None, and dataclasses, NamedTuples, TypedDicts or msgspec.Structs of them"
)
_KEYS = {"bool", "int", "float", "str", "bytes"}
_HEAP_TYPE, _ABSTRACT = 1 << 9, 1 << 20  # in `__flags__`


class UnfitError(TypeError):
    """An annotation that no message can have. `path` names the field."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"field {path!r}: {reason}" if path else reason)


def schema_of(annotation: Any) -> tuple[Schema, list[type[Any]]]:
    """Make a schema of a type.

    Parameters
    ----------
    annotation : type or annotation
        The type of the messages.

    Returns
    -------
    schema : Schema
        What goes into the pool.
    classes : list of type
        The class of each record, in the order in which the records begin in the schema.

    Raises
    ------
    UnfitError
        A part of it cannot be in a message.
    """
    reader = _Reader()
    return reader.read(annotation, "", ()), reader.classes


class _Reader:
    def __init__(self) -> None:
        self.classes: list[type[Any]] = []
        self.open: list[type[Any]] = []  # records whose fields are being read

    def read(self, annotation: Any, path: str, metadata: tuple[Any, ...], depth: int = 0) -> Schema:
        """Return the schema of an annotation; `metadata`: of an `Annotated` around it."""
        if depth > DEEPEST:
            raise UnfitError(path, f"the type has more than {DEEPEST} levels")
        annotation, metadata = _unwrapped(annotation, metadata)
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin in {typing.Union, types.UnionType}:
            inner = [one for one in arguments if one not in {None, type(None)}]
            if len(inner) != 1 or len(inner) == len(arguments):
                raise UnfitError(
                    path, f"{_name(annotation)} is a union of several types; {_SUPPORTED}"
                )
            inside = self.read(inner[0], path, metadata, depth + 1)
            return inside if "optional" in inside or inside == "none" else {"optional": inside}
        if annotation is np.ndarray or origin is np.ndarray:
            return _array(arguments, path, metadata)
        if any(isinstance(one, Shape | np.dtype) for one in metadata):
            raise UnfitError(
                path, f"{_name(annotation)} is no array, and has neither shape nor dtype"
            )
        try:
            known = _SCALARS.get(annotation)
        except TypeError:  # not hashable
            known = None
        if known is not None:
            return known
        if origin in {list, tuple, dict} and (arguments or annotation == tuple[()]):
            return self._container(origin, arguments, path, depth)
        if isinstance(annotation, type) and origin is None:
            return self._class(annotation, path, depth)
        raise UnfitError(path, f"{_name(annotation)} cannot be the type of a message; {_SUPPORTED}")

    def _container(self, origin: Any, arguments: tuple[Any, ...], path: str, depth: int) -> Schema:
        if origin is list:
            return {"list": self.read(arguments[0], f"{path}[]", (), depth + 1)}
        if origin is dict:
            key = self.read(arguments[0], f"{path}[]", (), depth + 1)
            if not (key in _KEYS if isinstance(key, str) else "scalar" in key):
                raise UnfitError(path, f"{_name(arguments[0])} is no key of a dict in a message")
            return {"dict": [key, self.read(arguments[1], f"{path}[]", (), depth + 1)]}
        if len(arguments) == 2 and arguments[1] is ...:
            return {"tuple_of": self.read(arguments[0], f"{path}[]", (), depth + 1)}
        inner = enumerate(arguments)
        return {"tuple": [self.read(one, f"{path}[{i}]", (), depth + 1) for i, one in inner]}

    def _class(self, cls: type[Any], path: str, depth: int) -> Schema:
        if cls in _BY_TYPE:
            return {"scalar": _BY_TYPE[cls]}
        if cls in {np.datetime64, np.timedelta64}:
            return {"scalar": cls.__name__}
        if cls in {list, tuple, dict}:
            raise UnfitError(
                path, f"{cls.__name__} needs the type of its elements: {cls.__name__}[…]"
            )
        if issubclass(cls, np.ndarray):
            raise UnfitError(path, f"{cls.__name__}: messages have plain arrays, npt.NDArray")
        if cls in self.open:
            raise UnfitError(path, f"{cls.__name__} contains itself, and messages are finite")
        names, required = _fields(cls, path)
        hints = _hints(cls, path)
        self.classes.append(cls)
        self.open.append(cls)
        fields = []
        for name in names:
            inside = f"{path}.{name}" if path else name
            if name not in hints:
                raise UnfitError(inside, f"{cls.__name__} has no annotation for it")
            annotation, absent = _presence(hints[name], name not in required)
            schema = self.read(annotation, inside, (), depth + 1)
            fields.append([name, schema, ABSENT] if absent else [name, schema])
        self.open.pop()
        return {"record": cls.__name__, "fields": fields}


# -------------------------------------------------------------------------------------- one by one


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else f"{annotation!r:.100}"


def _unwrapped(annotation: Any, metadata: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """Take away what says nothing about the bytes: Annotated, Final, NewType, an alias."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation, metadata = annotation.__origin__, (*annotation.__metadata__, *metadata)
        elif origin is typing.Final:
            (annotation,) = typing.get_args(annotation)
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif _is_alias(annotation):
            annotation = annotation.__value__
        elif _is_alias(origin):  # with arguments: `NDArray[np.uint8]` since numpy 2.5
            annotation = _with_arguments(origin, typing.get_args(annotation))
        else:
            return annotation, metadata


def _is_alias(annotation: Any) -> bool:
    return type(annotation).__name__ == "TypeAliasType"  # Python 3.12


def _with_arguments(alias: Any, arguments: tuple[Any, ...]) -> Any:
    """Return what an alias stands for, with arguments in the place of its type variables."""
    given = dict(zip(alias.__type_params__, arguments, strict=False))
    value = alias.__value__
    if isinstance(value, typing.TypeVar):  # type Alias[T] = T
        return given.get(value, value)
    # The value has its own order of the variables.
    inside = getattr(value, "__parameters__", ())
    return value[tuple(given.get(one, one) for one in inside)] if inside else value


def _array(arguments: tuple[Any, ...], path: str, metadata: tuple[Any, ...]) -> Schema:
    shape, dtype = (*arguments, Any, Any)[:2]
    schema: dict[str, Any] = {"array": _dtype(dtype, path)}
    dimensions = _dimensions(shape)
    for one in metadata:
        if isinstance(one, np.dtype):
            try:
                schema["array"] = spell_dtype(one)
            except TypeError as error:
                raise UnfitError(path, str(error)) from None
        elif isinstance(one, Shape):
            dimensions = list(one.dimensions)
    if dimensions is not None:
        schema["shape"] = ["..." if one is ... else one for one in dimensions]
    return schema


def _dtype(annotation: Any, path: str) -> str:
    """Return the DTYPE of ``np.dtype[np.uint8]``; also of Any, and of a type variable."""
    if typing.get_origin(annotation) is np.dtype:
        (annotation,) = typing.get_args(annotation)
    if annotation is Any or isinstance(annotation, typing.TypeVar) or annotation is np.dtype:
        return "any"
    kind: Any = typing.get_origin(annotation) or annotation  # np.floating[Any]
    if isinstance(kind, type) and issubclass(kind, np.generic):
        if kind in _BY_TYPE:
            return _BY_TYPE[kind]
        if kind is np.generic:
            return "any"
        name: str = kind.__name__
        if name in KINDS and getattr(np, name, None) is kind:
            return name
    raise UnfitError(path, f"{_name(annotation)} is no dtype of an array in a message")


def _dimensions(annotation: Any) -> list[Any] | None:
    """Return the dimensions of ``tuple[int, int]``, the first parameter of np.ndarray."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is not tuple or (len(arguments) == 2 and arguments[1] is ...):
        return None
    sizes = []
    for one in arguments:
        values = typing.get_args(one) if typing.get_origin(one) is typing.Literal else ()
        sizes.append(values[0] if len(values) == 1 and type(values[0]) is int else None)
    return sizes


def _presence(annotation: Any, absent: bool) -> tuple[Any, bool]:
    """Take `Required`, `NotRequired`, `ReadOnly` away; tell whether the key may be absent."""
    while True:
        origin = typing.get_origin(annotation)
        name = getattr(origin, "_name", None) or getattr(origin, "__name__", None)
        if name not in {"Required", "NotRequired", "ReadOnly"}:
            return annotation, absent
        (annotation,) = typing.get_args(annotation)
        if name != "ReadOnly":
            absent = name == "NotRequired"


def _hints(cls: type[Any], path: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise UnfitError(
            path,
            f"the annotations of {cls.__name__} cannot be resolved ({error}). Names in them must "
            "be found in its module; a class that is defined in a function is not",
        ) from error


def _fields(cls: type[Any], path: str) -> tuple[tuple[str, ...], AbstractSet[str]]:
    """Return the names of a record's fields, and those that are always there."""
    if typing.is_typeddict(cls) or hasattr(cls, "__required_keys__"):
        keys: Any = cls
        return tuple(_hints(cls, path)), keys.__required_keys__
    fields: Any = getattr(cls, "_fields", None)
    if issubclass(cls, tuple) and type(fields) is tuple:
        if cls.__dictoffset__ != 0 or cls.__basicsize__ != tuple.__basicsize__:
            raise UnfitError(path, f"{cls.__name__} has attributes beside its fields")
        return fields, set(fields)
    msgspec = sys.modules.get("msgspec")
    is_struct = msgspec is not None and issubclass(cls, msgspec.Struct)
    if is_struct:
        names = tuple(cls.__struct_fields__)
    elif dataclasses.is_dataclass(cls):
        names = tuple(field.name for field in dataclasses.fields(cls))
    else:
        raise UnfitError(path, f"{cls.__name__} cannot be the type of a message; {_SUPPORTED}")
    _check_made_without_code(cls, names, path, is_struct)
    return names, set(names)


def _check_made_without_code(
    cls: type[Any], names: tuple[str, ...], path: str, is_struct: bool
) -> None:
    """Check that `object.__new__` and `object.__setattr__` make an object of a class."""
    for base in cls.__mro__[:-1]:
        ours = base.__flags__ & _HEAP_TYPE or (is_struct and base.__module__.startswith("msgspec"))
        if not ours:
            raise UnfitError(
                path,
                f"{cls.__name__} is derived from {base.__name__}, which is no class "
                "written in Python",
            )
    if cls.__flags__ & _ABSTRACT:
        raise UnfitError(path, f"{cls.__name__} is abstract")
    for name in names:
        found = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
        slot = isinstance(found, types.MemberDescriptorType)
        if not slot and hasattr(type(found), "__set__"):
            raise UnfitError(
                f"{path}.{name}" if path else name,
                f"in {cls.__name__} it is a {type(found).__name__}, which runs code",
            )
