"""A view of the pools of this user: which there are, how full, and who holds what.

Looking at a pool joins it for as long as the call takes. Nothing in it is changed, except that what
dead processes left may be cleaned up on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from onecopy import membership, orphans, paths, segments
from onecopy.errors import OneCopyError
from onecopy.names import Kind
from onecopy.pool import Pool, PoolStats

if TYPE_CHECKING:
    import os

    from onecopy._native import Member
    from onecopy.orphans import State
    from onecopy.segments import SegmentInfo

__all__ = [
    "Holder",
    "PoolInfo",
    "PoolView",
    "gc",
    "gc_segments",
    "holders",
    "inspect_pool",
    "list_pools",
    "list_segments",
]


class PoolInfo(NamedTuple):
    """A file in the pool directory.

    Attributes
    ----------
    name : str
        By which `Pool.open` finds it.
    path : str
        The file.
    state : str
        "in_use", "orphan" (all its processes are dead; the next use removes it), "persistent" (not
        in use, and kept), "not_a_pool", or "failed" (it could not be looked at).
    stats : PoolStats or None
        None: it could not be joined.
    problem : str or None
        Why not.
    """

    name: str
    path: str
    state: State
    stats: PoolStats | None
    problem: str | None


class Holder(NamedTuple):
    """A process that is a member of a pool.

    Attributes
    ----------
    slot : int
        Its place in the pool's process table.
    pid : int
        As the process itself sees it; in another container it means something else.
    start_ticks : int
        When it started, in clock ticks since boot, as in ``/proc/PID/stat``; tells one process from
        a later one with the same pid.
    alive : bool
        Whether it lives.
    blocks, bytes : int
        What it holds. A block that several hold counts for each.
    born_ns : int
        When it joined, in nanoseconds since 1970.
    """

    slot: int
    pid: int
    start_ticks: int
    alive: bool
    blocks: int
    bytes: int
    born_ns: int


class PoolView(NamedTuple):
    """What is in a pool.

    Attributes
    ----------
    stats : PoolStats
        How full it is; this process is one of its processes while it looks.
    id : str
        In hexadecimal.
    path : str
        The file.
    persistent : bool
        Whether it stays when the last process leaves.
    memfd : bool
        Whether its memory is a memfd, and the file only says where to find it.
    names : dict of str to list of str
        Named things by their kind: "object", "queue", "stream", "frames", "array".
    holders : list of Holder
        Its members, the largest holder first; without this process if it only looks.
    problems : list of str
        Broken invariants; see `Pool.validate`.
    """

    stats: PoolStats
    id: str
    path: str
    persistent: bool
    memfd: bool
    names: dict[str, list[str]]
    holders: list[Holder]
    problems: list[str]


def list_pools(directory: str | None = None) -> list[PoolInfo]:
    """List the pools in the pool directory.

    Parameters
    ----------
    directory : str, optional
        Default: `pool_directory()`.

    Returns
    -------
    list of PoolInfo
        Sorted by name; empty if there is no such directory.
    """
    directory = directory or paths.pool_directory()
    found = []
    for filename, state in orphans.sweep(directory, remove=False):
        path = f"{directory}/{filename}"
        name = paths.pool_name(path)
        stats, problem = None, None
        target = paths.signpost_at(path) if state == "not_a_pool" else None
        if target is not None:  # a pool that lies elsewhere
            path = target
            state = orphans.state_of(target)  # noqa: PLW2901 - of that one
        if state in {"in_use", "persistent"}:
            try:
                with _looking_into(path) as pool:
                    stats = pool.stats()
            except (OneCopyError, OSError) as error:  # it may have gone, or be of another version
                problem = str(error)
        found.append(PoolInfo(name, path, state, stats, problem))
    return found


def _looking_into(name: str | os.PathLike[str]) -> Pool:
    """Open a pool to look at it: as a reader, if there are readers."""
    try:
        return Pool.open(name)
    except OneCopyError:
        try:
            return Pool.open(name, mode="r")
        except (OneCopyError, OSError):
            pass
        raise


def inspect_pool(name: str | os.PathLike[str], *, validate: bool = True) -> PoolView:
    """Look into a pool.

    Parameters
    ----------
    name : str or path-like
        As for `Pool.open`.
    validate : bool, optional
        Whether to check its invariants, which looks at every block.

    Returns
    -------
    PoolView

    Raises
    ------
    PoolNotFound, PoolVersionError, PoolCorrupted, PermissionError
        As `Pool.open`.
    """
    visiting = not membership.has_joined(*paths.locate(name))
    with _looking_into(name) as pool:
        member = pool.member
        return PoolView(
            stats=pool.stats(),
            id=member.id.hex(),
            path=member.path,
            persistent=member.persistent,
            memfd=member.memfd,
            names={kind.name.lower(): member.name_list(kind) for kind in Kind},
            holders=_holders(member, visiting),
            problems=member.validate() if validate else [],
        )


def holders(name: str | os.PathLike[str]) -> list[Holder]:
    """List the processes that are members of a pool.

    Parameters
    ----------
    name : str or path-like
        As for `Pool.open`.

    Returns
    -------
    list of Holder
        The largest first. This process is among them only if it was a member before.

    Raises
    ------
    PoolNotFound, PoolVersionError, PoolCorrupted, PermissionError
        As `Pool.open`.
    """
    visiting = not membership.has_joined(*paths.locate(name))
    with _looking_into(name) as pool:
        return _holders(pool.member, visiting)


def gc(directory: str | None = None, *, dry_run: bool = False) -> list[PoolInfo]:
    """Remove pools whose processes are all dead.

    Parameters
    ----------
    directory : str, optional
        Default: `pool_directory()`.
    dry_run : bool, optional
        Whether to leave them, and only tell.

    Returns
    -------
    list of PoolInfo
        Those that were removed ("removed"), or would be ("orphan").
    """
    directory = directory or paths.pool_directory()
    return [
        PoolInfo(
            paths.pool_name(f"{directory}/{filename}"), f"{directory}/{filename}", state, None, None
        )
        for filename, state in orphans.sweep(directory, remove=not dry_run)
        if state in {"removed", "orphan"}
    ]


def list_segments() -> list[SegmentInfo]:
    """List the shared memory segments of this user that were made by onecopy.

    Returns
    -------
    list of SegmentInfo
        Sorted by name.
    """
    return segments.sweep(remove=False)


def gc_segments(*, dry_run: bool = False) -> list[SegmentInfo]:
    """Remove shared memory segments whose users are all dead.

    Parameters
    ----------
    dry_run : bool, optional
        Whether to leave them, and only tell.

    Returns
    -------
    list of SegmentInfo
        Those that were removed ("removed"), or would be ("orphan").
    """
    found = segments.sweep(remove=not dry_run)
    return [info for info in found if info.state in {"removed", "orphan"}]


def _holders(member: Member, visiting: bool) -> list[Holder]:
    return [
        Holder(**holder)
        for holder in member.holders()
        if not (visiting and holder["slot"] == member.slot)
    ]
