"""`onecopy top`: a live table of pools, channels and processes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from onecopy.cli.output import PROBLEM, one_line
from onecopy.cli.pools import pool_names
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from onecopy.observer.several import Watch
    from onecopy.top.app import Kind

__all__ = ["top"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_WIDE = 120  # characters of a line that no terminal limits


def top(
    pool: Annotated[
        str | None,
        typer.Argument(
            metavar="[POOL]",
            help="The name of a pool, or the path of its file. Default: all pools of this user.",
            autocompletion=pool_names,
        ),
    ] = None,
    interval: Annotated[
        float,
        typer.Option("--interval", "-i", min=0.1, help="Seconds between two looks."),
    ] = 1.0,
    batch: Annotated[
        bool,
        typer.Option("--batch", "-b", help="Print plain tables, one after each interval."),
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", "-n", min=1, help="With --batch: end after so many.", show_default=False
        ),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            "--sort", metavar="COLUMN", help="With --batch: sort by a column, as its title says."
        ),
    ] = "",
    match: Annotated[
        str,
        typer.Option("--filter", metavar="TEXT", help="With --batch: only rows with these words."),
    ] = "",
) -> None:
    """Watch pools, their channels and their processes in a live table, without joining them.

    Enter opens a row: the channels and processes of a pool, or the processes that hold a channel or
    wait for it, and why. Escape goes back, Tab shows the next table, / filters, < and > choose the
    column that sorts, r turns the order round, space pauses, q ends. The last line shows the keys.

    If the output or the input is not a terminal, or the terminal cannot move its cursor
    (TERM=dumb), it prints one plain table and ends, as with --batch --count 1.

    With plain tables it exits with 1 if POOL cannot be read at first or at last.
    """
    from onecopy.observer import observe
    from onecopy.observer.several import Watch

    with one_line():
        if pool is not None:
            observe(pool)  # a wrong name is an error now, not a row that stays empty
        watch = Watch(None if pool is None else [pool])
        if batch or count is not None or sort or match:
            _print(watch, interval, count, sort, match, alone=pool is not None)
        elif not _is_terminal():
            _print(watch, interval, 1, sort, match, alone=pool is not None)
        else:
            _run(watch, interval, "pools" if pool is None else "channels")


def _is_terminal() -> bool:
    ends = (sys.stdin, sys.stdout)  # None: it was closed before the start
    is_screen = os.environ.get("TERM", "") not in {"", "dumb"}
    return is_screen and all(end is not None and end.isatty() for end in ends)


def _run(watch: Watch, interval: float, start: Kind) -> None:
    if importlib.util.find_spec("textual") is None:
        print(
            "onecopy: top needs textual, which is not installed. Run: pip install 'onecopy[top]'. "
            "`onecopy top --batch` works without it",
            file=sys.stderr,
        )
        raise typer.Exit(PROBLEM)
    from onecopy.top.app import Top

    code = Top(watch, interval, start, ascii_only=_ascii_only()).run()
    if code:
        raise typer.Exit(code)


def _ascii_only() -> bool:
    try:
        "█░▼…".encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return True
    return False


def _print(
    watch: Watch, interval: float, count: int | None, sort: str, match: str, *, alone: bool
) -> None:
    from onecopy.top.arrange import Sorting
    from onecopy.top.plain import keys, lines

    known = keys()
    if sort and sort.casefold() not in known:
        raise ValueError(f"there is no column {sort!r}: there are {', '.join(sorted(known))}")
    sorting = Sorting(known.get(sort.casefold(), ""))
    columns = shutil.get_terminal_size((_WIDE, 24)).columns  # COLUMNS, or the terminal's width
    try:
        watch.look()  # rates need two
        number, unread = 0, False
        while count is None or number < count:
            time.sleep(interval)
            looks = watch.look()
            unread = alone and looks[0].snapshot is None
            if unread and not number:
                raise OneCopyError(looks[0].problem)
            if number:
                print()
            for line in lines(looks, columns, sorting, match, ascii_only=_ascii_only()):
                print(line)
            sys.stdout.flush()
            number += 1
        if unread:  # since one of the later looks
            raise typer.Exit(PROBLEM)
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
