"""`onecopy tail`: the new messages of a stream, one line each."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onecopy._core.lines import escaped
from onecopy._core.pictures import find
from onecopy._core.showing import described
from onecopy.cli.drawing import INDENT, Pictures, are_wanted, drawn
from onecopy.cli.output import one_line
from onecopy.cli.streams import STREAM_HELP, PoolOption, find_stream, join, split
from onecopy.errors import Closed, PoolCorrupted, ShutDown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onecopy.stream import Subscription

__all__ = ["tail"]


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
    pictures: Pictures = None,
) -> None:
    """Show the new messages of a stream, one line each, until it is shut down.

    An array is shown by its dtype, its shape, and its smallest and largest element. Another value
    is shown as Python would print it, shortened. An array that may be a picture is drawn below its
    line if the output is a terminal. The command is a subscriber: a lossless stream waits for it.
    Ctrl-C ends it. A pool whose processes are all dead stays as it is: the command says so and
    ends.
    """
    with one_line():
        where, name = split(stream, pool)
        with join(where) as opened:
            subscription = find_stream(opened, name).subscribe(history)
            try:
                for line in _lines(subscription, count, are_wanted(pictures)):
                    print(line, flush=True)
            except KeyboardInterrupt:
                raise typer.Exit(130) from None  # 128 + SIGINT, as shells report it
            finally:
                subscription.close()


def _lines(subscription: Subscription[Any], count: int | None, pictures: bool) -> Iterator[str]:
    number = missed = 0
    while count is None or number < count:
        try:
            text, picture = _shown(subscription.get(), pictures)
        except (ShutDown, Closed):
            return
        except PoolCorrupted:
            raise
        except Exception as error:  # noqa: BLE001 - unpickling runs code of others
            text, picture = f"cannot be shown: {error}", []
        number += 1
        if subscription.missed != missed:
            yield f"  ({subscription.missed - missed:,} missed)"
            missed = subscription.missed
        now = datetime.now().astimezone()
        yield f"{now:%H:%M:%S}.{now.microsecond // 1000:03}  {escaped(text)}"
        yield from picture


# The message is released when it returns: a frame in it must not wait for the next message.
def _shown(message: object, pictures: bool) -> tuple[str, list[str]]:
    array = find(message) if pictures else None
    lines = [] if array is None else [f"{INDENT}{line}" for line in drawn(array)]
    return described(message), lines
