"""The contents of a pool: named things and structures, and how much memory each keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from onecopy._core.kinds import Kind
from onecopy._core.sizes import format_size
from onecopy.errors import PoolCorrupted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onecopy._core.schema_view import SchemaView
    from onecopy._native import Member

__all__ = ["Thing", "describe", "things_in"]


class Thing(NamedTuple):
    """A thing in a pool: it has a name, or it is a structure (a queue, a lock and so on).

    Attributes
    ----------
    kind : str
        The kind, in the words of `Pool.delete`: "object", "queue", "frames", "lock" and so on. If
        the thing has no name, a "lock" may be recursive, and a "semaphore" may be bounded.
    name : str or None
        None: the thing has no name.
    bytes, blocks : int
        The memory that it keeps, including itself: the messages of a queue, a set of frames, the
        items of a list. If two things refer to a block, the block counts for both.
    processes : int or None
        How many processes have it open. Dead processes count until they are cleaned up. If 0, only
        its name, or another thing that refers to it, keeps it. None: it is not known; only of a
        value without a lock of its own in `onecopy.inspect.PoolView`.
    block : int
        The number of its block. Another thing may get the number later.
    schema : SchemaView or None
        The type of its messages, if it is a typed queue or stream; only in
        `onecopy.inspect.PoolView`.
    """

    kind: str
    name: str | None
    bytes: int
    blocks: int
    processes: int | None
    block: int = 0
    schema: SchemaView | None = None


def things_in(member: Member) -> list[Thing]:
    """List the things in a pool, the largest first.

    Parameters
    ----------
    member : Member
        The process's membership.

    Returns
    -------
    list of Thing
        Each thing as it was at some moment during the call. A part of another thing, for example
        the lock of a list, is counted there and not listed. The lock of a value is left out. The
        call visits every block that one of the things keeps.
    """
    return [
        Thing(_kind_name(kind), name, nbytes, blocks, processes, block)
        for kind, name, nbytes, blocks, processes, block in member.things()
        if kind != Kind.VALUE_LOCK
    ]


def _kind_name(kind: int) -> str:
    try:
        return Kind(kind).name.lower()
    except ValueError:
        raise PoolCorrupted(
            f"a name in the pool stands for a thing of the unknown kind {kind}"
        ) from None


def describe(things: Iterable[Thing]) -> str:
    """Return the text by which messages name things.

    Parameters
    ----------
    things : iterable of Thing
        A few things.

    Returns
    -------
    str
        For example ``"queue 'jobs' (1.2 MiB), frames 'cam0' (5.3 MiB, open nowhere)"``.
    """
    return ", ".join(
        f"{thing.kind.replace('_', ' ')} "
        f"{'without a name' if thing.name is None else repr(thing.name)} "
        f"({format_size(thing.bytes)}{'' if thing.processes else ', open nowhere'})"
        for thing in things
    )
