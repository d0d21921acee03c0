"""`onecopy peek`: the next messages of a queue, which stay in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from onecopy._core.lines import escaped
from onecopy.cli.drawing import INDENT, Pictures, are_wanted, drawn
from onecopy.cli.output import one_line, print_json, shown
from onecopy.cli.pools import Json  # noqa: TC001 - typer reads it
from onecopy.cli.streams import PoolOption, split
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from onecopy.observer import Peek, PoolSnapshot, QueueView

__all__ = ["peek"]


def peek(
    queue: Annotated[
        str,
        typer.Argument(
            metavar="QUEUE",
            help="POOL/QUEUE, for example camera/jobs. With --pool it is only the name of the "
            "queue.",
            show_default=False,
        ),
    ],
    pool: PoolOption = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=1000, help="Show at most so many messages.")
    ] = 10,
    pictures: Pictures = None,
    as_json: Json = False,
) -> None:
    """Show the next messages of a queue, one line each, without taking them.

    An array is shown by its dtype, its shape, and its smallest and largest element. Nothing is
    unpickled: what only pickle could rebuild is shown by the name of its class, or as "pickled, N
    bytes". The command does not join the pool, takes no lock and changes nothing. Messages that
    are taken while it looks are only counted.
    """
    from onecopy.observer import observe

    with one_line():
        where, name = split(queue, pool, "QUEUE")
        with observe(where) as observer:
            found = _find(observer.snapshot(), name)
        seen = found.peek(count)
        if as_json:
            print_json(_plain(found, seen))
            return
        _print(found, seen, are_wanted(pictures))


def _find(seen: PoolSnapshot, name: str) -> QueueView:
    for queue in seen.queues:
        if queue.name == name:
            return queue
    there = ", ".join(shown(each.name) for each in seen.queues if each.name is not None) or "none"
    raise OneCopyError(f"pool {seen.name!r} has no queue {name!r}. Its queues: {there}")


def _plain(queue: QueueView, seen: Peek) -> dict[str, Any]:
    return {
        "queue": queue.name,
        "taken": seen.taken,
        "messages": [
            {key: value for key, value in each._asdict().items() if key != "picture"}
            for each in seen.messages
        ],
    }


def _print(queue: QueueView, seen: Peek, pictures: bool) -> None:
    for message in seen.messages:
        text = message.text if message.problem is None else f"cannot be shown: {message.problem}"
        again = f"  (given out {message.redeliveries} before)" if message.redeliveries else ""
        print(f"{message.position:>6}  {escaped(text)}{again}")
        if pictures and message.picture is not None:
            for line in drawn(message.picture):
                print(f"{INDENT}{line}")
    if seen.taken:
        print(f"{seen.taken:,} taken while we looked")
    if not seen.messages and not seen.taken:
        print(f"The queue {shown(queue.name or '')} is empty.")
