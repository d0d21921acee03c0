"""Schemas of channels for people who look at a pool: the text may be damaged or made up."""

from __future__ import annotations

from onecopy._core.schema_view import SchemaView
from onecopy._typed.schema import fields_of, load, spell

__all__ = ["view_of"]


def view_of(text: bytes, sound: bool) -> SchemaView:
    """Return what people see of a schema.

    Parameters
    ----------
    text : bytes
        As it was in the pool. Nothing in it is trusted.
    sound : bool
        Whether it has the hash that it must have.

    Returns
    -------
    SchemaView
        If the text is no schema, only `problem` is set, and has one line.
    """
    if not sound:
        return SchemaView(None, {}, "its schema is damaged")
    try:
        schema = load(text)
        return SchemaView(spell(schema), fields_of(schema), None)
    except Exception as error:  # noqa: BLE001 - numpy may raise or warn of anything for such a text
        return SchemaView(None, {}, f"its schema makes no sense: {error}")
