"""A view of the pools of this user: which there are, how full, and who holds what.

Looking changes nothing: what dead processes left stays until the next use, or `gc`. `list_pools`
and `holders` do not even join a pool. `inspect_pool` does, for as long as the call takes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from onecopy import _native
from onecopy._core import membership, paths, segments, stale
from onecopy._core.kinds import Kind
from onecopy._core.pool_stats import PoolStats, stats_from
from onecopy._core.things import Thing, things_in
from onecopy.errors import OneCopyError
from onecopy.pool import Pool

if TYPE_CHECKING:
    from typing import Any

    from onecopy._core.segments import SegmentInfo
    from onecopy._core.stale import State

__all__ = [
    "Holder",
    "PoolInfo",
    "PoolView",
    "Thing",
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
        How full it is. A process that only looks is not counted.
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
    things : list of Thing
        What has a name, and structures without one, by how much memory they keep.
    """

    stats: PoolStats
    id: str
    path: str
    persistent: bool
    memfd: bool
    names: dict[str, list[str]]
    holders: list[Holder]
    problems: list[str]
    things: list[Thing]


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
    by_path = not paths.is_pool_directory(directory)
    found = []
    for filename, state in stale.sweep(directory, remove=False):
        path = f"{directory}/{filename}"
        if not filename.endswith(paths.SUFFIX):  # a file in the making
            continue
        name = paths.pool_name(path)
        stats, problem = None, None
        target = None
        if state == "not_a_pool":
            with paths.opened(directory, by_path=by_path) as folder:
                target = paths.signpost_at(folder, filename)
        if target is not None:  # a pool that lies elsewhere
            path = target
            state = stale.state_of(target)  # noqa: PLW2901 - of that one
        if state in {"in_use", "persistent"}:
            try:
                stats = stats_from(name, _look(path)[0])
            except (OneCopyError, OSError) as error:  # it may have gone, or be of another version
                problem = str(error)
        found.append(PoolInfo(name, path, state, stats, problem))
    return found


def _look(path: str) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Give what `Member.stats` and `Member.holders` tell of a pool, without joining it."""
    directory, filename = os.path.split(path)
    return _native.look_at_pool(directory, filename, not paths.is_pool_directory(directory))


def _looking_into(name: str | os.PathLike[str]) -> Pool:
    """Join a pool to look at it, and leave what is stale; as a reader, if there are readers."""
    directory, filename = paths.locate(name)
    try:
        return Pool.of(membership.open_file(directory, filename, only_looks=True))
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
    joined_before = membership.current()
    with _looking_into(name) as pool:
        member = pool.member
        members = [Holder(**holder) for holder in member.holders()]
        stats = pool.stats()
        if all(member is not each for each in joined_before):  # it is a member to look
            others = [each for each in members if each.slot != member.slot]
            stats = stats._replace(processes=stats.processes - len(members) + len(others))
            members = others
        return PoolView(
            stats=stats,
            id=member.id.hex(),
            path=member.path,
            persistent=member.persistent,
            memfd=member.memfd,
            names={kind.name.lower(): member.name_list(kind) for kind in Kind},
            holders=members,
            problems=member.validate() if validate else [],
            things=things_in(member),
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
        The largest first. This process is among them only if it is a member.

    Raises
    ------
    PoolNotFound, PoolVersionError, PoolCorrupted, PermissionError
        As `Pool.open`.
    """
    return [Holder(**holder) for holder in _look("/".join(paths.locate(name)))[1]]


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
        for filename, state in stale.sweep(directory, remove=not dry_run)
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
