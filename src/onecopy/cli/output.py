"""The output of commands: tables with uncut lines, JSON, names of any characters, short errors.

At least two spaces separate the cells of a table. A line is as long as it needs to be, on a
terminal and in a pipe.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import typer

from onecopy._core.lines import error_text, escaped, shown, width
from onecopy.errors import OneCopyError, PoolNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "EXIT_CODES",
    "PROBLEM",
    "UNCHECKED",
    "escaped",
    "one_line",
    "plain",
    "print_json",
    "print_table",
    "shown",
]

PROBLEM, USAGE, UNCHECKED = 1, 2, 3
EXIT_CODES = (
    "0 if there is no problem, 1 if a problem was found or the command could not be done, 2 "
    "for wrong usage, and 3 if something could not be checked"
)
"""The exit codes of commands, as their help describes them."""


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Print an error of the block as one line, and exit. A ValueError means a wrong name."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OneCopyError, OSError) as error:
        print(f"onecopy: {_message(error)}", file=sys.stderr)
        raise typer.Exit(PROBLEM) from None
    except ValueError as error:
        print(f"onecopy: {_message(error)}", file=sys.stderr)
        raise typer.Exit(USAGE) from None


def _message(error: Exception) -> str:
    text = error_text(error)
    if isinstance(error, PoolNotFound):
        text += ". `onecopy ls` lists the existing pools"
    return escaped(text)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: str = "") -> None:
    """Print columns.

    Parameters
    ----------
    head : sequence of str
        The columns' titles.
    rows : sequence of sequences of str
        Their cells.
    numbers : str, optional
        The titles of the right-aligned columns, separated by spaces.
    """
    lines = [list(head), *map(list, rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    right = set(numbers.split())
    for line in lines:
        padded = []
        for title, cell, wide in zip(head, line, widths, strict=True):
            spaces = " " * (wide - width(cell))
            padded.append(spaces + cell if title in right else cell + spaces)
        print("  ".join(padded).rstrip())


def plain(value: Any) -> Any:
    """Convert named tuples and records to dicts, at all levels. Private fields are left out."""
    if hasattr(value, "_asdict"):
        return {key: plain(part) for key, part in value._asdict().items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not field.name.startswith("_")
        }
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return value


def print_json(value: Any) -> None:
    """Print JSON. Characters beyond ASCII are escaped, so it works on any terminal."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
