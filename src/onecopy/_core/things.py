"""What is in a pool: each named thing and each structure, and how much memory it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from onecopy._core.kinds import Kind
from onecopy._core.sizes import format_size
from onecopy.errors import PoolCorrupted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onecopy._native import Member

__all__ = ["Thing", "describe", "things_in"]


class Thing(NamedTuple):
    """Something in a pool that has a name, or is a structure: a queue, a lock and the like.

    Attributes
    ----------
    kind : str
        As `Pool.delete` takes it: "object", "queue", "frames", "lock" and so on. Without a name, a
        "lock" may be recursive, and a "semaphore" bounded.
    name : str or None
        None: it has none.
    bytes, blocks : int
        What it keeps, itself included: a queue's messages, a set of frames, the items of a list.
        What two things refer to counts for each.
    processes : int
        That have it open; dead ones too, until they are cleaned up. With 0, only its name keeps it,
        or what refers to it.
    """

    kind: str
    name: str | None
    bytes: int
    blocks: int
    processes: int


def things_in(member: Member) -> list[Thing]:
    """List what is in a pool, the largest first.

    Parameters
    ----------
    member : Member
        The process's membership.

    Returns
    -------
    list of Thing
        Each as it is at some moment. What belongs to a thing in the list, as the lock of a
        list does, is counted there and not listed; the lock of a value is left out. This looks at
        every block that one of them keeps.
    """
    return [
        Thing(_kind_name(kind), name, nbytes, blocks, processes)
        for kind, name, nbytes, blocks, processes in member.things()
        if kind != Kind.VALUE_LOCK
    ]


def _kind_name(kind: int) -> str:
    try:
        return Kind(kind).name.lower()
    except ValueError:
        raise PoolCorrupted(
            f"a name in the pool stands for a thing of kind {kind}, which there is not"
        ) from None


def describe(things: Iterable[Thing]) -> str:
    """Write things as a message names them.

    Parameters
    ----------
    things : iterable of Thing
        Few.

    Returns
    -------
    str
        Such as ``"queue 'jobs' (1.2 MiB), frames 'cam0' (5.3 MiB, open nowhere)"``.
    """
    return ", ".join(
        f"{thing.kind.replace('_', ' ')} "
        f"{'without a name' if thing.name is None else repr(thing.name)} "
        f"({format_size(thing.bytes)}{'' if thing.processes else ', open nowhere'})"
        for thing in things
    )
