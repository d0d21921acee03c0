"""Streams on the command line: how they are named, and found without being made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from onecopy._core.kinds import Kind
from onecopy.cli.output import shown
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from onecopy.pool import Pool
    from onecopy.stream import Stream

__all__ = ["STREAM_HELP", "PoolOption", "find_stream", "split"]

STREAM_HELP = (
    "POOL/STREAM, for example camera/frames. With --pool it is only the name of the stream."
)
PoolOption = Annotated[
    str | None,
    typer.Option(
        "--pool",
        "-p",
        metavar="POOL",
        help="The pool: its name, or the path of its file.",
        show_default=False,
    ),
]


def split(stream: str, pool: str | None, what: str = "STREAM") -> tuple[str, str]:
    """Return the names of the pool and of the stream, or the queue, that an argument says.

    Raises
    ------
    ValueError
        It does not name a pool.
    """
    if pool is not None:
        return pool, stream
    name, slash, rest = stream.partition("/")
    if not slash or not name or not rest:
        raise ValueError(
            f"{stream!r} does not say which pool: write POOL/{what}, or --pool POOL {what}"
        )
    return name, rest


def find_stream(pool: Pool, name: str) -> Stream[Any]:
    """Open a stream that exists.

    Raises
    ------
    OneCopyError
        The pool has no such stream.
    """
    names = pool.member.name_list(Kind.STREAM)
    if name not in names:
        there = ", ".join(map(shown, sorted(names))) or "none"
        raise OneCopyError(
            f"pool {pool.name!r} has no stream {name!r}. Its streams: {there}. Start the publisher "
            "first"
        )
    return pool.stream(name)
