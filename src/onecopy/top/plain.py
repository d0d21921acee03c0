"""The tables as plain text, for pipes and for terminals that cannot move a cursor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from onecopy._core.lines import cut
from onecopy.observer.words import several
from onecopy.top.arrange import drawn, filtered, fitted, ordered
from onecopy.top.tables import channels, pools, processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from onecopy.observer.several import PoolLook
    from onecopy.top.arrange import Sorting
    from onecopy.top.cells import Table

__all__ = ["keys", "lines"]


def keys() -> dict[str, str]:
    """Return the keys of all columns, by their titles in small letters."""
    tables = (pools([]), channels([], with_pool=True), processes([], with_pool=True))
    return {each.title.casefold(): each.key for table in tables for each in table.columns}


def lines(
    looks: Sequence[PoolLook],
    columns: int,
    sorting: Sorting,
    text: str = "",
    *,
    ascii_only: bool = False,
) -> Iterator[str]:
    """Print the three tables; only the first one, if the only pool cannot be read.

    Parameters
    ----------
    looks : sequence of PoolLook
        What was seen.
    columns : int
        The width of a line in characters. Columns that do not fit are left out.
    sorting : Sorting
        The order of each table that has this column.
    text : str, optional
        Only rows in which its words occur.
    ascii_only : bool, optional
        Whether bars are drawn in ASCII.

    Yields
    ------
    str
        A line without its end.
    """
    many = len(looks) != 1
    head = f"onecopy top  {time.strftime('%H:%M:%S')}  {several(len(looks), 'pool')}"
    yield cut(head, columns)
    tables = [pools(looks)]
    if many or looks[0].snapshot is not None:  # else the first table has the reason
        tables += [channels(looks, with_pool=many), processes(looks, with_pool=many)]
    for table in tables:
        yield from _lines(table, columns, sorting, text, ascii_only=ascii_only)


def _lines(
    table: Table, columns: int, sorting: Sorting, text: str, *, ascii_only: bool
) -> Iterator[str]:
    rows = filtered(ordered(table, sorting), text)
    yield ""
    if not rows:
        yield cut("No row has this text." if table.rows else table.nothing, columns)
        return
    chosen = fitted(table, rows, columns)
    titles = [
        column.title.rjust(wide) if column.right else column.title.ljust(wide)
        for column, wide in chosen
    ]
    yield "  ".join(titles).rstrip()
    for row in rows:
        cells = [
            drawn(row.cells[column.key], column, wide, ascii_only=ascii_only)
            for column, wide in chosen
        ]
        yield "  ".join(cells).rstrip()
