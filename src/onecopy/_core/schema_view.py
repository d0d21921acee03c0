"""What people see of the schema of a typed channel."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["SchemaView"]


class SchemaView(NamedTuple):
    """The schema of a typed queue or stream, as text.

    Attributes
    ----------
    type : str or None
        In one line, as `Queue.schema`: ``"Pose(x: float, y: float)"``. It may be long. None: see
        `problem`.
    fields : dict of str to str
        The type of each field, also of records in records: ``{"pose.x": "float"}``. A message that
        is no record has one entry, ``"(message)"``.
    problem : str or None
        Why the schema cannot be shown; None: it can.
    """

    type: str | None
    fields: dict[str, str]
    problem: str | None
