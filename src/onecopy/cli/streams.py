"""Streams on the command line: how they are named, and found without being made.

The commands that use them join the pool. A pool whose processes are all dead is left alone: to join
it would be to remove it, with what a user may still want to look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from onecopy._core import membership, paths, stale
from onecopy._core.kinds import Kind
from onecopy.cli.output import shown
from onecopy.errors import OneCopyError, PoolNotFound
from onecopy.pool import Pool

if TYPE_CHECKING:
    from onecopy.stream import Stream

__all__ = ["STREAM_HELP", "PoolOption", "find_stream", "join", "split"]

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


def join(name: str) -> Pool:
    """Join a pool that exists. If all its processes are dead, it stays as it is.

    Raises
    ------
    OneCopyError
        All its processes are dead.
    PoolNotFound, PoolVersionError, PoolCorrupted, PermissionError
        As `Pool.open`.
    """
    directory, filename = paths.locate(name)
    try:
        member = membership.open_file(directory, filename, only_looks=True)
    except PoolNotFound:
        if stale.state_of(f"{directory}/{filename}") != "stale":
            raise
        raise OneCopyError(
            f"all processes of pool {name!r} are dead: nobody publishes in it, and to join it "
            "would remove it. `onecopy show`, `why` and `peek` show what is in it, and "
            "`onecopy gc` removes it"
        ) from None
    member.collect()  # as each new member does
    return Pool.of(member)


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
