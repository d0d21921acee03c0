"""The schemas of typed channels on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onecopy._core.lines import cut, escaped, width

if TYPE_CHECKING:
    from onecopy._core.schema_view import SchemaView

__all__ = ["print_schema", "schema_word"]

_MOST_FIELDS = 20
_WIDTH = 100  # columns of a line
_NAME, _TYPE = 30, 32  # of a field's name, and of a type in a table


def print_schema(channel: str, schema: SchemaView) -> None:
    """Print the fields of a channel's messages, one a line.

    Parameters
    ----------
    channel : str
        The kind and name of the channel, as text for a terminal.
    schema : SchemaView
        Its schema. One line says why it cannot be shown, if so.
    """
    print()
    if schema.type is None:
        print(cut(f"{channel}: {escaped(schema.problem or '')}", _WIDTH))
        return
    word = schema.type.partition("(")[0]
    if "(message)" in schema.fields:
        print(cut(f"{channel} has messages of the type {escaped(schema.type)}", _WIDTH))
        return
    print(cut(f"{channel} has messages of the type {escaped(word)}:", _WIDTH))
    fields = list(schema.fields.items())[:_MOST_FIELDS]
    names = [cut(escaped(name), _NAME) for name, _ in fields]
    wide = max(map(width, names), default=0)
    for name, (_, kind) in zip(names, fields, strict=True):
        print(cut(f"  {name}{' ' * (wide - width(name))}  {escaped(kind)}", _WIDTH))
    if len(schema.fields) > len(fields):
        print(f"  … and {len(schema.fields) - len(fields):,} more")


def schema_word(schema: SchemaView | None) -> str:
    """Return a schema as a cell of a table.

    Parameters
    ----------
    schema : SchemaView or None
        None: the channel takes any message.

    Returns
    -------
    str
        At most 32 columns wide.
    """
    if schema is None:
        return "-"
    return cut(escaped(schema.type or schema.problem or ""), _TYPE)
