"""`onecopy tail`: the new messages of a stream, one line each."""

from __future__ import annotations

import reprlib
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from onecopy.cli.output import escaped, one_line
from onecopy.cli.streams import STREAM_HELP, PoolOption, find_stream, split
from onecopy.errors import Closed, PoolCorrupted, ShutDown
from onecopy.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onecopy.stream import Subscription

__all__ = ["described", "tail"]

_WIDTH = 100  # characters of a value that is not an array
_WITH_RANGE = "biufmM"  # kinds of dtypes that have a smallest and a largest element


def tail(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help=STREAM_HELP, show_default=False)],
    pool: PoolOption = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", "-n", min=1, help="End after so many messages.", show_default=False
        ),
    ] = None,
    history: Annotated[
        int, typer.Option("--history", min=0, help="Show so many earlier messages first.")
    ] = 0,
) -> None:
    """Show the new messages of a stream, one line each, until it is shut down.

    An array is shown by its dtype, its shape, and its smallest and largest element. Another value
    is shown as Python would print it, shortened. The command is a subscriber: a lossless stream
    waits for it. Ctrl-C ends it.
    """
    with one_line():
        where, name = split(stream, pool)
        with Pool.open(where) as opened:
            subscription = find_stream(opened, name).subscribe(history)
            try:
                for line in _lines(subscription, count):
                    print(line, flush=True)
            except KeyboardInterrupt:
                raise typer.Exit(130) from None  # 128 + SIGINT, as shells report it
            finally:
                subscription.close()


def _lines(subscription: Subscription[Any], count: int | None) -> Iterator[str]:
    number = missed = 0
    while count is None or number < count:
        try:
            text = described(subscription.get())
        except (ShutDown, Closed):
            return
        except PoolCorrupted:
            raise
        except Exception as error:  # noqa: BLE001 - unpickling runs code of others
            text = f"cannot be shown: {error}"
        number += 1
        if subscription.missed != missed:
            yield f"  ({subscription.missed - missed:,} missed)"
            missed = subscription.missed
        now = datetime.now().astimezone()
        yield f"{now:%H:%M:%S}.{now.microsecond // 1000:03}  {escaped(text)}"


class _Shortened(reprlib.Repr):
    """Represents values by few characters, and arrays by their description."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 6
        self.maxstring = self.maxother = self.maxlong = 60

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, np.ndarray):
            return f"<{_of_array(x)}>"
        return super().repr1(x, level)


_shortened = _Shortened()


def described(value: Any) -> str:
    """Describe a message in one line.

    Parameters
    ----------
    value : object
        Any message.

    Returns
    -------
    str
        About 100 characters at most.
    """
    if isinstance(value, np.ndarray):
        return _of_array(value)
    try:
        text = _shortened.repr(value)
    except Exception as error:  # noqa: BLE001 - a __repr__ may raise anything
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _of_array(array: np.ndarray[Any, Any]) -> str:
    dtype = array.dtype.name if array.dtype.names is None else f"record{array.dtype.names}"
    text = f"{type(array).__name__} " if type(array) is not np.ndarray else ""
    text += f"{dtype} {array.shape}"
    if array.dtype.kind in _WITH_RANGE and array.size:
        text += f", {array.min()} to {array.max()}"
    return text
