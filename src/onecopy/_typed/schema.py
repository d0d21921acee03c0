"""Schemas: what a type of messages is in the pool, and how two of them are compared.

A schema is made of what JSON knows::

    "none" "bool" "int" "float" "complex" "str" "bytes"
    {"scalar": "float32"}
    {"array": DTYPE, "shape": [480, null, "width", "..."]}      the shape may be left out
    {"optional": S}  {"list": S}  {"tuple": [S, …]}  {"tuple_of": S}  {"dict": [K, V]}
    {"record": "Frame", "fields": [["id", S], ["note", S, "may be absent"]]}

DTYPE is the name of a number's dtype, a name in `KINDS`, or ``{"dtype": text}``. The names of
records are for people: they are not compared.
"""

from __future__ import annotations

import ast
import json
from typing import Any, Final

import numpy as np

__all__ = [
    "ABSENT",
    "DEEPEST",
    "KINDS",
    "NUMBERS",
    "PLAIN",
    "Schema",
    "differences",
    "dtype_of",
    "dump",
    "fields_of",
    "is_same",
    "load",
    "spell",
    "spell_dtype",
]

Schema = Any  # as above; mypy has no recursive JSON that is pleasant to use

DEEPEST: Final = 32  # levels of a type
ABSENT: Final = "may be absent"
PLAIN: Final = ("none", "bool", "int", "float", "complex", "str", "bytes")
# Numbers by the name of their dtype. `np.longlong` and `np.int64` have the same one.
NUMBERS: Final[dict[str, type[np.generic]]] = {
    np.dtype(code).name: np.dtype(np.dtype(code).name).type for code in "?bhilqBHILQefdgFDG"
}
# numpy's abstract types, and those of no fixed size: the letters of dtype.kind.
KINDS: Final = {
    "any": "biufcmMSUV",
    "number": "iufc",
    "integer": "iu",
    "signedinteger": "i",
    "unsignedinteger": "u",
    "inexact": "fc",
    "floating": "f",
    "complexfloating": "c",
    "flexible": "SUV",
    "character": "SU",
    "bytes_": "S",
    "str_": "U",
    "void": "V",
    "datetime64": "M",
    "timedelta64": "m",
}
_MOST_FIELDS = 4096


def dump(schema: Schema) -> bytes:
    """Return the text of a schema."""
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode()


def load(text: bytes) -> Schema:
    """Read a schema that another process wrote.

    Raises
    ------
    ValueError
        The text is no schema.
    """
    try:
        schema = json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    _check(schema, 0)
    return schema


def _check(schema: Schema, depth: int) -> None:
    """Check that a schema has one of the forms above; nothing else is trusted either."""
    if depth > DEEPEST:
        raise ValueError("it nests too deep")
    match schema:
        case str():
            sound = schema in PLAIN
        case {"scalar": str(name), **rest}:
            sound = not rest and (name in NUMBERS or name in {"datetime64", "timedelta64"})
        case {"array": dtype, "shape": [*dimensions], **rest}:
            sound = not rest and len(dimensions) <= 64 and dimensions.count("...") <= 1
            sound = sound and all(map(_is_dimension, dimensions)) and _is_dtype(dtype)
        case {"array": dtype, **rest}:
            sound = not rest and _is_dtype(dtype)
        case {"optional": inner, **rest} | {"list": inner, **rest} | {"tuple_of": inner, **rest}:
            sound = not rest
            _check(inner, depth + 1)
        case {"tuple": [*inners], **rest}:
            sound = not rest and len(inners) <= _MOST_FIELDS
            for inner in inners:
                _check(inner, depth + 1)
        case {"dict": [key, value], **rest}:
            sound = not rest
            _check(key, depth + 1)
            _check(value, depth + 1)
        case {"record": str(), "fields": [*fields], **rest}:
            sound = not rest and len(fields) <= _MOST_FIELDS
            names = set()
            for field in fields:
                match field:
                    case [str(name), inner] | [str(name), inner, "may be absent"]:
                        names.add(name)
                        _check(inner, depth + 1)
                    case _:
                        raise ValueError("a field makes no sense")
            sound = sound and len(names) == len(fields)
        case _:
            sound = False
    if not sound:
        raise ValueError(f"{schema!r:.100} is no type")


def _is_dimension(one: object) -> bool:
    if isinstance(one, str):
        return one == "..." or one.isidentifier()
    return one is None or (type(one) is int and 0 <= one < 1 << 62)


def _is_dtype(dtype: object) -> bool:
    match dtype:
        case str():
            return dtype in NUMBERS or dtype in KINDS
        case {"dtype": str(text), **rest}:
            return not rest and not dtype_of(text).hasobject
    return False


# ------------------------------------------------------------------------------------------ dtypes


def spell_dtype(dtype: np.dtype[Any]) -> str | dict[str, str]:
    """Return the DTYPE of exactly one dtype.

    Raises
    ------
    TypeError
        Only pickle can describe it, or it has Python objects.
    """
    if dtype.hasobject:
        raise TypeError(f"{dtype!r} has Python objects, which cannot be in shared memory")
    if dtype.name in NUMBERS and dtype == np.dtype(dtype.name) and not dtype.metadata:
        return dtype.name
    text = dtype.str if dtype.fields is None and dtype.subdtype is None else repr(dtype.descr)
    try:
        again = dtype_of(text)
    except ValueError:
        again = None
    same = again == dtype and getattr(again, "isalignedstruct", None) == dtype.isalignedstruct
    if not same or dtype.metadata or dtype.subdtype is not None:
        raise TypeError(f"only pickle can describe {dtype!r}")
    return {"dtype": text}


def dtype_of(text: str) -> np.dtype[Any]:
    """Return the dtype of a text of `spell_dtype`.

    Raises
    ------
    ValueError
        It is none.
    """
    try:
        return np.dtype(ast.literal_eval(text) if text.startswith("[") else text)
    except (TypeError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r:.100} is no dtype") from error


# ------------------------------------------------------------------------------------- for people


def spell(schema: Schema, records: bool = True) -> str:
    """Return a schema in one line, as people write types.

    Parameters
    ----------
    schema : Schema
        A schema.
    records : bool, optional
        Whether to list the fields of the outermost record.
    """
    match schema:
        case str():
            return "None" if schema == "none" else schema
        case {"scalar": str(name)}:
            return f"numpy.{name}"
        case {"array": dtype, **rest}:
            name = dtype if isinstance(dtype, str) else dtype["dtype"]
            if name == "any":
                name = "ndarray"
            shape: Any = rest.get("shape", ["..."])
            return f"{name}[{', '.join('None' if one is None else str(one) for one in shape)}]"
        case {"optional": inner}:
            return f"{spell(inner, False)} | None"
        case {"list": inner}:
            return f"list[{spell(inner, False)}]"
        case {"tuple_of": inner}:
            return f"tuple[{spell(inner, False)}, ...]"
        case {"tuple": inners}:
            return f"tuple[{', '.join(spell(one, False) for one in inners) or '()'}]"
        case {"dict": [key, value]}:
            return f"dict[{spell(key, False)}, {spell(value, False)}]"
        case {"record": name, "fields": fields} if records:
            inside = (f"{f[0]}{'?' if len(f) > 2 else ''}: {spell(f[1], False)}" for f in fields)
            return f"{name}({', '.join(inside)})"
    return str(schema["record"])


def is_same(one: Schema, other: Schema) -> bool:
    """Tell whether two schemas describe the same messages."""
    return bool(_nameless(one) == _nameless(other))


def _nameless(schema: Schema) -> Schema:
    """Return a schema without the names of its records."""
    if isinstance(schema, list):
        return [_nameless(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: "" if key == "record" else _nameless(schema[key]) for key in schema}


def _rows(schema: Schema, path: str, out: dict[str, str]) -> dict[str, str]:
    """Collect the fields of a type, those of records in it too: path -> type."""
    inner = schema
    wrapped = path
    while isinstance(inner, dict) and inner.keys() & {"optional", "list", "tuple_of"}:
        (how, inner), *_ = inner.items()
        wrapped += "" if how == "optional" else "[]"
    is_record = isinstance(inner, dict) and "record" in inner
    if not is_record or inner is not schema:
        out[path or "(message)"] = spell(schema, False)
    if is_record:
        for name, kind, *absent in inner["fields"]:
            _rows(kind, f"{wrapped}.{name}" if wrapped else name, out)
            if absent:
                out[f"{wrapped}.{name}" if wrapped else name] += f" ({ABSENT})"
    return out


def fields_of(schema: Schema) -> dict[str, str]:
    """Return the types of all fields, also of records in records, by their paths.

    Parameters
    ----------
    schema : Schema
        A schema.

    Returns
    -------
    dict of str to str
        ``{"pose.x": "float"}``. A message that is no record has the path ``"(message)"``.
    """
    return _rows(schema, "", {})


def differences(there: Schema, here: Schema) -> str:
    """Return a table of two schemas, field by field.

    Parameters
    ----------
    there, here : Schema
        The schema in the pool, and the one of the call.
    """
    theirs, ours = _rows(there, "", {}), _rows(here, "", {})
    names = [*theirs, *(name for name in ours if name not in theirs)]
    rows = [("field", "in the pool", "in this call", "")]
    for name in names:
        one, other = theirs.get(name, "—"), ours.get(name, "—")
        rows.append((name, one, other, "" if one == other else "differs"))
    if theirs.items() == ours.items():
        common = zip(theirs, ours, strict=True)
        moved = next((one for one, other in common if one != other), None)
        rows.append(
            ("", "", "", f"another order, from {moved!r} on" if moved else "differs inside")
        )
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        "  "
        + "  ".join(
            [*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]
        ).rstrip()
        for row in rows
    )
