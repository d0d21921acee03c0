"""Sorting, filtering, and fitting a table to a width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onecopy._core.lines import cut, width
from onecopy.top.cells import BAR, bar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onecopy.top.cells import Cell, Column, Row, Table

__all__ = ["Sorting", "drawn", "filtered", "fitted", "ordered"]

GAP = 2
"""Empty characters that belong to each column."""


@dataclass(frozen=True, slots=True)
class Sorting:
    """By what a table is sorted.

    Attributes
    ----------
    key : str
        The column; "": the natural order.
    backwards : bool
        Whether the order of this column is turned round.
    """

    key: str = ""
    backwards: bool = False

    def moved(self, columns: Sequence[Column], by: int) -> Sorting:
        """Return the sorting by the column `by` columns to the right; beyond the ends: by none."""
        keys = ["", *(column.key for column in columns)]
        here = keys.index(self.key) if self.key in keys else 0
        return Sorting(keys[(here + by) % len(keys)])

    def turned(self) -> Sorting:
        """Return the opposite order."""
        return Sorting(self.key, not self.backwards)


def ordered(table: Table, sorting: Sorting) -> list[Row]:
    """Return the rows of a table in an order.

    Columns of numbers begin with the largest, others with the first letter. Rows that have nothing
    in the column come last in either order.
    """
    column = next((each for each in table.columns if each.key == sorting.key), None)
    if column is None:
        return table.rows[::-1] if sorting.backwards else list(table.rows)
    key = column.key
    known = [row for row in table.rows if row.cells[key].order is not None]
    unknown = [row for row in table.rows if row.cells[key].order is None]
    known.sort(key=lambda row: _order(row.cells[key]), reverse=column.right != sorting.backwards)
    return known + unknown


def _order(cell: Cell) -> tuple[float, str]:
    if isinstance(cell.order, str):
        return 0.0, cell.order
    return cell.order or 0.0, ""


def filtered(rows: Sequence[Row], text: str) -> list[Row]:
    """Return the rows in which each word of a text occurs, in any cell; case does not count."""
    wanted = text.casefold().split()
    if not wanted:
        return list(rows)
    return [row for row in rows if _has(row, wanted)]


def _has(row: Row, wanted: Sequence[str]) -> bool:
    text = "\n".join([*(cell.text for cell in row.cells.values()), row.about]).casefold()
    return all(word in text for word in wanted)


def fitted(
    table: Table, rows: Sequence[Row], columns: int, least: Mapping[str, int] | None = None
) -> list[tuple[Column, int]]:
    """Choose the columns that fit, and their widths.

    Parameters
    ----------
    table : Table
        Its columns are in their order.
    rows : sequence of Row
        The rows that are shown.
    columns : int
        The width of the screen in characters.
    least : mapping of str to int, optional
        Columns that are to be at least so wide, if there is room: so that they do not jump when
        numbers change.

    Returns
    -------
    list of (Column, int)
        At least one. With `GAP` for each they are not wider than the screen, if it has room for the
        narrowest form of one column.
    """
    wide = {column.key: _natural(column, rows) for column in table.columns}
    for key, before in (least or {}).items():
        if key in wide:
            wide[key] = max(wide[key], before)
    chosen = list(table.columns)
    while True:
        narrow = {each.key: _narrow(each, wide[each.key], columns) for each in chosen}
        spare = columns - sum(narrow.values()) - GAP * len(chosen)
        if spare >= 0 or len(chosen) == 1:
            break
        chosen.remove(min(reversed(chosen), key=lambda column: column.weight))
    if spare < 0:
        return [(chosen[0], max(columns - GAP, 1))]
    widths = {}
    for column in sorted(chosen, key=lambda each: -each.weight):
        widths[column.key] = narrow[column.key] + min(spare, wide[column.key] - narrow[column.key])
        spare -= widths[column.key] - narrow[column.key]
    return [(column, widths[column.key]) for column in chosen]


def _narrow(column: Column, wide: int, columns: int) -> int:
    """Return how narrow a column may become: on a wide screen, others are left out before."""
    return min(wide, max(column.least, columns // 6)) if column.least else wide


def _natural(column: Column, rows: Sequence[Row]) -> int:
    widest = width(column.title) + 1  # with the mark of the sorted column
    for row in rows:
        cell = row.cells[column.key]
        widest = max(widest, width(cell.text) if cell.share is None else BAR)
    return min(widest, column.most)


def drawn(cell: Cell, column: Column, columns: int, *, ascii_only: bool = False) -> str:
    """Return the text of a cell, exactly so wide."""
    if cell.share is not None:
        return bar(cell.share, columns, ascii_only=ascii_only)
    text = cut(cell.text, columns, "~" if ascii_only else "…")
    spaces = " " * (columns - width(text))
    return spaces + text if column.right else text + spaces
