"""The parts of a table: columns, rows and cells, and how numbers become text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from onecopy._core.lines import escaped
from onecopy._core.sizes import format_size
from onecopy.observer.words import duration

__all__ = [
    "Cell",
    "Column",
    "Row",
    "Table",
    "Tone",
    "age",
    "bar",
    "number",
    "rate",
    "share",
    "size",
    "words",
]

Tone: TypeAlias = Literal["", "dim", "good", "warn", "bad"]


class Cell(NamedTuple):
    """One cell.

    Attributes
    ----------
    text : str
        One line without unprintable characters. It is cut to its column only when it is drawn.
    order : float, str or None
        What it is sorted by. None: it comes last.
    tone : str
        What it means: a screen with colours shows it, and others lose nothing.
    share : float or None
        If it is a number, the cell is a bar, which is filled by this share, from 0 to 1.
    """

    text: str
    order: float | str | None = None
    tone: Tone = ""
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    key, title : str
        What it is called in the program, and on the screen.
    weight : int
        If not all columns fit, those with the least weight are left out.
    right : bool
        Whether it is aligned to the right. Such columns have numbers, and sort the largest first.
    least, most : int
        Between how many characters its width is. If they are equal, or the contents are narrower,
        it does not shrink.
    """

    key: str
    title: str
    weight: int
    right: bool = False
    least: int = 0
    most: int = 200


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes
    ----------
    key : tuple
        It identifies the pool, channel or process in all looks.
    cells : dict of str to Cell
        By the keys of the columns.
    about : str
        All that is to be said of it in a line of its own: full names, problems.
    """

    key: tuple[object, ...]
    cells: dict[str, Cell]
    about: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes
    ----------
    columns : tuple of Column
        All of them, also those that will not fit.
    rows : list of Row
        In their natural order.
    nothing : str
        What is shown if there are no rows.
    """

    columns: tuple[Column, ...]
    rows: list[Row] = field(default_factory=list)
    nothing: str = ""


def words(text: str, tone: Tone = "", nothing: str = "-") -> Cell:
    """Make a cell of a text of any characters."""
    text = escaped(text)
    return Cell(text or nothing, text.casefold() or None, tone)


def number(value: int | None, tone: Tone = "") -> Cell:
    """Make a cell of a count."""
    return Cell("-", None, "dim") if value is None else Cell(f"{value:,}", value, tone)


def size(nbytes: int) -> Cell:
    """Make a cell of a number of bytes."""
    return Cell(format_size(nbytes), nbytes)


def rate(per_second: float | None) -> Cell:
    """Make a cell of a number per second."""
    if per_second is None:
        return Cell("-", None, "dim")
    if per_second >= 999_500:
        text = f"{per_second / 1e6:,.1f}M"
    elif per_second >= 9.95 or per_second == 0:
        text = f"{per_second:,.0f}"
    else:
        text = f"{per_second:.1f}"
    return Cell(text, per_second)


def age(seconds: float | None, tone: Tone = "") -> Cell:
    """Make a cell of a duration."""
    return Cell("-", None, "dim") if seconds is None else Cell(duration(seconds), seconds, tone)


def share(part: float, whole: float, *, full_is: Tone = "bad") -> Cell:
    """Make a cell that is a bar.

    Parameters
    ----------
    part, whole : float
        How much of how much.
    full_is : str, optional
        What it means if nearly nothing is left.
    """
    if whole <= 0:
        return Cell("-", None, "dim")
    filled = min(max(part / whole, 0.0), 1.0)
    tone: Tone = full_is if filled >= 0.9 else "warn" if filled >= 0.7 and full_is else "good"
    return Cell(f"{filled:.0%}", filled, tone, filled)


BAR = 15
"""How wide a bar with its number is, if there is room."""


def bar(filled: float, columns: int, *, ascii_only: bool = False) -> str:
    """Draw a bar, and a number behind it.

    Parameters
    ----------
    filled : float
        From 0 to 1.
    columns : int
        How wide it may be. Too narrow for a bar, it is the number alone.
    ascii_only : bool, optional
        Whether the terminal has only ASCII.

    Returns
    -------
    str
        As many characters as `columns`.
    """
    text = f"{filled:4.0%}"
    length = columns - len(text) - 1
    if length < 2:
        return text.strip().rjust(columns)[:columns]
    full = round(filled * length)
    if filled > 0 and full == 0:
        full = 1  # something is more than nothing
    solid, empty = "#." if ascii_only else "█░"
    return f"{solid * full}{empty * (length - full)} {text}"
