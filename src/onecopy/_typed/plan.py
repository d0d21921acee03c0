"""The type of a channel: the schema in the pool, this process's classes, and the core's plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from onecopy._core.arguments import called
from onecopy._native import MessageType
from onecopy._typed.annotations import UnfitError, schema_of
from onecopy._typed.schema import (
    KINDS,
    NUMBERS,
    PLAIN,
    Schema,
    differences,
    dtype_of,
    dump,
    is_same,
    load,
    spell,
)
from onecopy.errors import OneCopyError, PoolCorrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Typed", "bind", "described"]

_LONGEST = 64 * 1024  # bytes; as in native/body/schema.hpp

# As in native/bindings/codec_typed.hpp.
_KIND = {name: number for number, name in enumerate(PLAIN)}
_SCALAR, _ARRAY, _LIST, _RUN, _TUPLE, _DICT, _RECORD = range(7, 14)
_OBJECT, _NAMED, _MAPPING, _PARTIAL = range(4)
_ANY, _FIRST_NAME = -1, -2


class Channel(Protocol):
    """A queue or a stream, as far as this module needs it."""

    @property
    def _schema(self) -> bytes | None: ...
    def _set_type(self, made: MessageType) -> None: ...


class Typed:
    """A type of messages that was passed by a call.

    Parameters
    ----------
    annotation : type or annotation
        The type.

    Raises
    ------
    TypeError
        It cannot be the type of messages.
    """

    def __init__(self, annotation: Any) -> None:
        try:
            self.schema, self.classes = schema_of(annotation)
        except UnfitError as error:
            raise TypeError(f"{called()} argument 'type': {error}") from error.__cause__
        self.annotation = annotation
        self.text = dump(self.schema)
        if len(self.text) > _LONGEST:
            raise TypeError(
                f"{called()} argument 'type': its schema has {len(self.text)} bytes, and a pool "
                f"takes {_LONGEST} at most"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the annotation: the receiver makes the rest of it."""
        return Typed, (self.annotation,)


def bind(what: str, name: str | None, channel: Channel, typed: Typed | None) -> None:
    """Give a channel the plan of its type, if it has one.

    Parameters
    ----------
    what, name : str
        The channel, for example ``"queue"`` and ``"frames"``.
    channel : Channel
        It was just made or opened.
    typed : Typed or None
        The type of the call. None: records are dicts.

    Raises
    ------
    OneCopyError
        The channel has another type, or none.
    PoolCorrupted
        The schema in the pool makes no sense.
    """
    text = channel._schema
    if text is None:
        if typed is not None:
            raise OneCopyError(
                f"{what} {name!r} exists without a type, so it may contain messages of any type; "
                "leave type out to use the existing one, delete its name (Pool.delete), or use "
                "another name"
            )
        return
    if typed is not None and text == typed.text:
        channel._set_type(_message_type(typed.schema, typed.classes))
        return
    try:
        schema = load(text)
    except ValueError as error:
        raise PoolCorrupted(
            f"{what} {name!r}: the schema in the pool makes no sense: {error}. Something outside "
            "onecopy has written into its memory; make a new pool."
        ) from None
    if typed is not None and not is_same(schema, typed.schema):
        raise OneCopyError(
            f"{what} {name!r} exists with messages of another type:\n"
            f"{differences(schema, typed.schema)}\n"
            "Use the same fields in the same order, leave type out to get dicts, delete its name "
            "(Pool.delete), or use another name"
        )
    channel._set_type(_message_type(schema, None if typed is None else typed.classes))


def described(channel: Channel) -> str | None:
    """Return the type of a channel's messages in one line, or None."""
    text = channel._schema
    try:
        return None if text is None else spell(load(text))
    except ValueError:
        raise PoolCorrupted("the schema in the pool makes no sense") from None


# ----------------------------------------------------------------------- descriptions for the core


def _message_type(schema: Schema, classes: list[type[Any]] | None) -> MessageType:
    return MessageType(_node(schema, None if classes is None else iter(classes), {}))


def _node(
    schema: Schema, classes: Iterator[type[Any]] | None, names: dict[str, int]
) -> tuple[int, bool, str, Any]:
    """Describe a node; `names`: of dimensions, with their numbers."""
    nullable = isinstance(schema, dict) and "optional" in schema
    if nullable:
        schema = schema["optional"]
        if isinstance(schema, dict) and "optional" in schema:
            return _node(schema, classes, names)
    text = spell(schema, False)
    more: Any = None
    match schema:
        case str():
            kind = _KIND[schema]
        case {"scalar": str(name)}:
            kind = _SCALAR
            more = NUMBERS[name] if name in NUMBERS else dtype_of(name).type
        case {"array": dtype, **rest}:
            kind, more = _ARRAY, (*_elements(dtype), *_shape(rest.get("shape"), names))
        case {"list": inner}:
            kind, more = _LIST, _node(inner, classes, names)
        case {"tuple_of": inner}:
            kind, more = _RUN, _node(inner, classes, names)
        case {"tuple": inners}:
            kind, more = _TUPLE, tuple(_node(one, classes, names) for one in inners)
        case {"dict": [key, value]}:
            kind, more = _DICT, (_node(key, classes, names), _node(value, classes, names))
        case _:
            kind, more = _RECORD, _record(schema["fields"], classes, names)
    return kind, nullable, text, more


def _elements(dtype: Any) -> tuple[str, int, Any]:
    if isinstance(dtype, dict):
        return "", 0, dtype_of(dtype["dtype"])
    if dtype in KINDS:
        return KINDS[dtype], 0, None
    exact = dtype_of(dtype)
    return exact.kind, exact.itemsize, None


def _shape(shape: Any, names: dict[str, int]) -> tuple[tuple[int, ...] | None, int]:
    if shape is None:
        return None, -1
    rest = shape.index("...") if "..." in shape else -1
    sizes = []
    for one in shape:
        if one is None:
            sizes.append(_ANY)
        elif isinstance(one, str):
            if one != "...":
                sizes.append(_FIRST_NAME - names.setdefault(one, len(names)))
        else:
            sizes.append(one)
    return tuple(sizes), rest


def _record(
    fields: list[Any], classes: Iterator[type[Any]] | None, names: dict[str, int]
) -> tuple[int, type[Any] | None, tuple[tuple[str, bool, Any], ...]]:
    cls = None if classes is None else next(classes)
    form = _MAPPING
    if any(len(field) > 2 for field in fields):
        form = _PARTIAL
    elif cls is not None and not issubclass(cls, dict):
        form = _NAMED if issubclass(cls, tuple) else _OBJECT
    members = tuple(
        (name, not absent, _node(inner, classes, names)) for name, inner, *absent in fields
    )
    return form, cls if form in {_OBJECT, _NAMED} else None, members
