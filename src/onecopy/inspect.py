"""A view of the pools of this user: which pools exist, how full they are, what processes hold.

These functions join no pool, take no lock of one and change none. What dead processes left stays
until the next use, or until `gc`. Only `inspect_pool` with ``validate=True`` joins the pool.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from onecopy import _native
from onecopy._checking import check
from onecopy._core import paths, segments, stale
from onecopy._core.kinds import Kind
from onecopy._core.pool_stats import PoolStats, stats_from
from onecopy._core.schema_view import SchemaView
from onecopy._core.things import Thing
from onecopy.errors import OneCopyError
from onecopy.observer.reading import Memory, read
from onecopy.observer.why import headline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from onecopy._core.segments import SegmentInfo
    from onecopy._core.stale import State
    from onecopy.observer.records import (
        PoolSnapshot,
        ProcessState,
        ProcessView,
        ThingView,
        WaitView,
    )

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
    """A process that is a member of a pool, or died as one and is not cleaned up yet.

    Attributes
    ----------
    slot : int
        Its index in the pool's table of processes.
    pid : int
        The process number in the process's own PID namespace. See `same_namespace`.
    start_ticks : int
        When it started, in clock ticks since boot, as in ``/proc/PID/stat``. It distinguishes the
        process from a later one with the same pid.
    alive : bool
        Whether it is alive. A stopped process is. So is one of which the system does not tell.
    blocks, bytes : int
        What it holds. A block that several processes hold counts for each.
    born_ns : int
        When it joined, in nanoseconds since 1970.
    share : int or None
        As `bytes`, but each block divided by the number of processes that hold it. None: it is not
        known, because all processes of the pool are dead, or the pool is marked corrupt.
    state : str
        "alive", "stopped" (by a signal or a debugger), "dead", or "unknown".
    same_namespace : bool
        Whether the pid is one of this PID namespace. If not, it may stand for another process here.
    command : tuple of str or None
        Its command line. None: it is not known.
    started : float or None
        When it started, in seconds since 1970. None: it is not known.
    waits : tuple of WaitView
        What its threads wait for. Of a dead process: what they waited for when it died.
    more_may_wait : bool
        Whether there may be more threads that wait: a process records twenty at most.
    """

    slot: int
    pid: int
    start_ticks: int
    alive: bool
    blocks: int
    bytes: int
    born_ns: int
    share: int | None
    state: ProcessState = "unknown"
    same_namespace: bool = False
    command: tuple[str, ...] | None = None
    started: float | None = None
    waits: tuple[WaitView, ...] = ()
    more_may_wait: bool = False


class PoolView(NamedTuple):
    """What is in a pool.

    Attributes
    ----------
    stats : PoolStats
        How full it is. Only processes that are alive count. Of a pool whose processes are all dead,
        `structures` leaves out the blocks that queues and lists have besides the first one.
    id : str
        The pool's id in hexadecimal.
    path : str
        The file.
    persistent : bool
        Whether it stays when the last process leaves.
    memfd : bool
        Whether its memory is a memfd. Then the file only says where to find it.
    names : dict of str to list of str
        Named things by their kind: "object", "queue", "stream", "frames", "array" and so on.
    holders : list of Holder
        Its members, the largest holder first.
    problems : list of str
        Broken invariants; see `Pool.validate`. Empty if they were not checked.
    things : list of Thing
        Named things, and structures without a name, by how much memory they keep; with the schemas
        of typed channels. A block to which two things refer counts for one of them.
    state : str
        "in_use", "persistent" (not in use, and kept), or "stale" (all its processes are dead).
    corrupt : bool
        Whether the pool is marked corrupt. Then no process can use it any more.
    notes : list of str
        What is to be said of the whole pool, in sentences: which processes are dead or stopped.
    checked : bool
        Whether the invariants were checked.
    unchecked : list of str
        What could not be checked, and why.
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
    state: State = "in_use"
    corrupt: bool = False
    notes: list[str] = []  # noqa: RUF012 - nobody changes it
    checked: bool = False
    unchecked: list[str] = []  # noqa: RUF012 - nobody changes it


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


def _observe(path: str) -> tuple[Mapping[str, Any], PoolSnapshot]:
    """Observe a pool once: what the core has read, and the records."""
    directory, filename = os.path.split(path)
    seen = _native.observe_pool(directory, filename, not paths.is_pool_directory(directory))
    return seen, read(seen, paths.pool_name(path), path, Memory())


def _look_too(path: str) -> tuple[dict[str, int], dict[tuple[int, int], int]]:
    """Return the counts, and the shares of slots and start times, which an observer does not read.

    Empty: all processes of the pool are dead, or it is marked corrupt.
    """
    try:
        counts, members = _look(path)
    except (OneCopyError, OSError):
        return {}, {}
    return counts, {(each["slot"], each["born_ns"]): each["share"] for each in members}


def inspect_pool(name: str | os.PathLike[str], *, validate: bool = False) -> PoolView:
    """Return what is in a pool, without joining it.

    It works also if all processes of the pool are stuck, stopped or dead, and if all slots are in
    use. It takes no lock and changes nothing.

    Parameters
    ----------
    name : str or path-like
        As for `Pool.open`.
    validate : bool, optional
        Whether to check its invariants, too. The check joins the pool: it takes a slot, and the
        locks of the pool and of its structures. It visits every block. If a process does not
        release a lock, for example because it is stopped, `unchecked` of the result says so.

    Returns
    -------
    PoolView

    Raises
    ------
    PoolNotFound, PoolVersionError, PoolCorrupted, PermissionError
        As `Observer.snapshot`.
    """
    path = "/".join(paths.locate(name))
    raw, seen = _observe(path)
    counts, shares = _look_too(path)
    members = _holders(raw, seen, shares)
    state = _state(seen)
    found = _things(raw, seen)
    bodies = sum(each["body"] is not None for each in raw["things"])
    view = PoolView(
        stats=PoolStats(
            name=seen.name,
            size=seen.size,
            used=seen.used,
            free=seen.size - seen.used - seen.structure_bytes,
            blocks=raw["blocks"],
            processes=sum(each.alive for each in members),
            max_processes=seen.max_processes,
            structures=counts.get("bodies", bodies),
            structure_bytes=seen.structure_bytes,
            committed=seen.committed,
            largest=tuple(found[:3]),
        ),
        id=seen.id,
        path=seen.path,
        persistent=seen.persistent,
        memfd=seen.memfd,
        names=_names(raw),
        holders=members,
        problems=[],
        things=found,
        state=state,
        corrupt=seen.corrupt,
        notes=headline(seen),
    )
    if not validate:
        return view
    problems, unchecked = check(seen)
    return view._replace(problems=problems, unchecked=unchecked, checked=True)


def _state(seen: PoolSnapshot) -> State:
    if any(process.state != "dead" for process in seen.processes):
        return "in_use"
    return "persistent" if seen.persistent else "stale"


def _names(raw: Mapping[str, Any]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {kind.name.lower(): [] for kind in Kind}
    for thing in raw["things"]:
        if thing["name"] is not None:
            names[Kind(thing["name_kind"]).name.lower()].append(thing["name"])
    return names


def _things(raw: Mapping[str, Any], seen: PoolSnapshot) -> list[Thing]:
    """List things as `onecopy._core.things` does, the largest first."""
    views: dict[int, ThingView] = {
        view.index: view
        for group in (seen.queues, seen.streams, seen.frames, seen.locks, seen.objects)
        for view in group
    }
    owners: dict[int, int] = {}  # of what is a part of another thing: the thing that is listed
    for view in views.values():
        outer: ThingView = view
        while outer.name is None and outer.owner is not None:
            outer = outer.owner
        owners[view.index] = outer.index
    kept: dict[int, list[int]] = {index: [0, 0] for index in owners.values()}
    for index, owner_index in owners.items():
        kept[owner_index][0] += views[index].bytes
        kept[owner_index][1] += views[index].blocks
    # A process that has a value open holds its lock and its memory, not the block with its name.
    open_values = {
        view.name: len(view.open_in) for view in views.values() if view.kind == "value_lock"
    }
    found = []
    for index in (thing["index"] for thing in raw["things"]):
        if index not in kept or views[index].kind == "value_lock":
            continue
        view = views[index]
        found.append(
            Thing(
                kind=view.kind,
                name=view.name,
                bytes=kept[index][0],
                blocks=kept[index][1],
                processes=(
                    open_values.get(view.name) if view.kind == "value" else len(view.open_in)
                ),
                block=index,
                schema=_schema(view),
            )
        )
    return sorted(found, key=lambda thing: -thing.bytes)


def _schema(view: ThingView) -> SchemaView | None:
    if view.kind not in {"queue", "stream"}:
        return None
    if not view.readable:
        return SchemaView(None, {}, "its fixed fields make no sense")
    schema: SchemaView | None = getattr(view, "schema", None)
    return schema


def holders(name: str | os.PathLike[str]) -> list[Holder]:
    """List the processes that are members of a pool, without joining it.

    Parameters
    ----------
    name : str or path-like
        As for `Pool.open`.

    Returns
    -------
    list of Holder
        The largest holder first. Processes that died and are not cleaned up yet are included. This
        process is included only if it is a member.

    Raises
    ------
    PoolNotFound, PoolVersionError, PoolCorrupted, PermissionError
        As `Observer.snapshot`.
    """
    path = "/".join(paths.locate(name))
    raw, seen = _observe(path)
    return _holders(raw, seen, _look_too(path)[1])


def _holders(
    raw: Mapping[str, Any], seen: PoolSnapshot, shares: Mapping[tuple[int, int], int]
) -> list[Holder]:
    pairs: Iterable[tuple[Mapping[str, Any], ProcessView]] = zip(
        raw["processes"], seen.processes, strict=True
    )
    found = [
        Holder(
            slot=process.slot,
            pid=process.pid,
            start_ticks=row["start_ticks"],
            alive=process.state != "dead",
            blocks=process.blocks,
            bytes=process.bytes,
            born_ns=row["born_ns"],
            share=shares.get((process.slot, row["born_ns"])),
            state=process.state,
            same_namespace=process.same_namespace,
            command=process.command,
            started=process.started,
            waits=process.waits,
            more_may_wait=process.more_may_wait,
        )
        for row, process in pairs
    ]
    return sorted(found, key=lambda holder: -holder.bytes)


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
