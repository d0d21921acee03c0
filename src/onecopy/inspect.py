"""A view of the pools of this user: which pools exist, how full they are, what processes hold.

These functions do not change a pool: what dead processes left stays until the next use, or until
`gc`. `list_pools` and `holders` do not join a pool. `inspect_pool` joins it during the call.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from onecopy import _native
from onecopy._core import membership, paths, segments, stale
from onecopy._core.kinds import Kind
from onecopy._core.pool_stats import PoolStats, stats_from
from onecopy._core.schema_view import SchemaView
from onecopy._core.things import Thing, things_in
from onecopy._typed.view import view_of
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
    "SchemaView",
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
        The name by which `Pool.open` finds the pool.
    path : str
        The file.
    state : str
        "in_use", "stale" (all its processes are dead; the next use removes it), "persistent" (not
        in use, and kept), "not_a_pool", or "failed" (the file could not be read).
    stats : PoolStats or None
        None: the pool could not be read.
    problem : str or None
        Why it could not be read.
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
        Its index in the pool's table of processes.
    pid : int
        The process number in the process's own PID namespace. In another container it may stand for
        another process.
    start_ticks : int
        When it started, in clock ticks since boot, as in ``/proc/PID/stat``. It distinguishes the
        process from a later one with the same pid.
    alive : bool
        Whether it is alive.
    blocks, bytes : int
        What it holds. A block that several processes hold counts for each.
    born_ns : int
        When it joined, in nanoseconds since 1970.
    share : int
        As `bytes`, but each block divided by the number of processes that hold it.
    """

    slot: int
    pid: int
    start_ticks: int
    alive: bool
    blocks: int
    bytes: int
    born_ns: int
    share: int


class PoolView(NamedTuple):
    """What is in a pool.

    Attributes
    ----------
    stats : PoolStats
        How full it is. A process that joined only for this call is not counted.
    id : str
        The pool's id in hexadecimal.
    path : str
        The file.
    persistent : bool
        Whether it stays when the last process leaves.
    memfd : bool
        Whether its memory is a memfd. Then the file only says where to find it.
    names : dict of str to list of str
        Named things by their kind: "object", "queue", "stream", "frames", "array".
    holders : list of Holder
        Its members, the largest holder first. This process is not included if it joined only for
        this call.
    problems : list of str
        Broken invariants; see `Pool.validate`.
    things : list of Thing
        Named things, and structures without a name, by how much memory they keep; with the schemas
        of typed channels.
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
        Sorted by name. Empty if there is no such directory.
    """
    directory = directory or paths.pool_directory()
    by_path = not paths.is_pool_directory(directory)
    found = []
    for filename, state in stale.sweep(directory, remove=False):
        path = f"{directory}/{filename}"
        if not filename.endswith(paths.SUFFIX):  # an unfinished file
            continue
        name = paths.pool_name(path)
        stats, problem = None, None
        target = None
        if state == "not_a_pool":
            with paths.opened(directory, by_path=by_path) as folder:
                target = paths.signpost_at(folder, filename)
        if target is not None:  # a pool in another directory
            path = target
            state = stale.state_of(target)  # noqa: PLW2901 - the state of that pool
        if state in {"in_use", "persistent"}:
            try:
                stats = stats_from(name, _look(path)[0])
            except (OneCopyError, OSError) as error:  # it may be gone, or be of another version
                problem = str(error)
        found.append(PoolInfo(name, path, state, stats, problem))
    return found


def _look(path: str) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Return the results of `Member.stats` and `Member.holders`, without joining the pool."""
    directory, filename = os.path.split(path)
    return _native.look_at_pool(directory, filename, not paths.is_pool_directory(directory))


def _looking_into(name: str | os.PathLike[str]) -> Pool:
    """Join a pool without removing what is stale; or open it for reading, if it has readers."""
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
    """Return what is in a pool.

    Parameters
    ----------
    name : str or path-like
        As for `Pool.open`.
    validate : bool, optional
        Whether to check its invariants. The check visits every block.

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
        if all(member is not each for each in joined_before):  # it joined only for this call
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
            things=_with_schemas(things_in(member), member.path),
        )


def _with_schemas(things: list[Thing], path: str) -> list[Thing]:
    """Add the schemas of typed channels.

    The observer reads them: to open a channel would hold it, and fails if its schema is damaged.
    """
    channels = {thing.block for thing in things if thing.kind in {"queue", "stream"}}
    if not channels or not path:
        return things
    directory, filename = os.path.split(path)
    by_path = not paths.is_pool_directory(directory)
    try:
        seen = _native.observe_pool(directory, filename, by_path)
    except (OneCopyError, OSError):  # its name is gone meanwhile
        return things
    found = {each["index"]: each for each in seen["things"] if each["index"] in channels}
    return [
        thing._replace(schema=_schema(found[thing.block])) if thing.block in found else thing
        for thing in things
    ]


def _schema(seen: dict[str, Any]) -> SchemaView | None:
    if not seen["readable"]:
        return SchemaView(None, {}, "its fixed fields make no sense")
    return None if seen["schema"] is None else view_of(*seen["schema"])


def holders(name: str | os.PathLike[str]) -> list[Holder]:
    """List the processes that are members of a pool.

    Parameters
    ----------
    name : str or path-like
        As for `Pool.open`.

    Returns
    -------
    list of Holder
        The largest holder first. This process is included only if it is a member.

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
        Those that were removed ("removed"), or would be ("stale").
    """
    directory = directory or paths.pool_directory()
    return [
        PoolInfo(
            paths.pool_name(f"{directory}/{filename}"), f"{directory}/{filename}", state, None, None
        )
        for filename, state in stale.sweep(directory, remove=not dry_run)
        if state in {"removed", "stale"}
    ]


def list_segments() -> list[SegmentInfo]:
    """List the shared-memory segments of this user that onecopy made.

    Returns
    -------
    list of SegmentInfo
        Sorted by name.
    """
    return segments.sweep(remove=False)


def gc_segments(*, dry_run: bool = False) -> list[SegmentInfo]:
    """Remove shared-memory segments whose processes are all dead.

    Parameters
    ----------
    dry_run : bool, optional
        Whether to leave them, and only tell.

    Returns
    -------
    list of SegmentInfo
        Those that were removed ("removed"), or would be ("stale").
    """
    found = segments.sweep(remove=not dry_run)
    return [info for info in found if info.state in {"removed", "stale"}]
