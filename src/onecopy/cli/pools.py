"""`onecopy ls`, `inspect`, `holders`, `gc` and `doctor`: showing pools, and cleaning up.

They only print. `onecopy.inspect` gets all the information.
"""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onecopy import inspect
from onecopy._core import paths
from onecopy._core.huge_pages import huge_pages
from onecopy._core.limits import memory_limit
from onecopy._core.sizes import format_size
from onecopy.cli.output import (
    PROBLEM,
    UNCHECKED,
    escaped,
    one_line,
    plain,
    print_json,
    print_table,
    shown,
)
from onecopy.cli.processes import longest_wait, pid_of, program_of, waits_of
from onecopy.cli.schemas import print_schema
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onecopy._core.segments import SegmentInfo
    from onecopy.inspect import Holder, PoolInfo, PoolView, Thing

__all__ = ["doctor", "gc", "holders", "inspect_pool", "ls"]


def pool_names(incomplete: str) -> list[str]:
    """Complete the name of a pool, for the shell."""
    try:
        return [info.name for info in inspect.list_pools() if info.name.startswith(incomplete)]
    except (OneCopyError, OSError):
        return []  # completion must not print errors


Json = Annotated[
    bool, typer.Option("--json", help="Print JSON, with sizes in bytes, instead of text.")
]
PoolName = Annotated[
    str,
    typer.Argument(
        metavar="POOL",
        help="The name of a pool, as `onecopy ls` lists it, or the path of its file.",
        autocompletion=pool_names,
    ),
]


def ls(as_json: Json = False) -> None:
    """List the pools and shared memory segments of this user.

    A pool is in_use, persistent (not in use, and kept), or stale (all its processes are dead:
    `onecopy gc` removes it). A segment is the memory of a SharedMemory object.

    The column "used" counts bytes of data. "structures" counts bytes of queues, locks and the like.
    "size" is the room of the pool. "-" means unknown.
    """
    with one_line():
        records = [_of_pool(info) for info in inspect.list_pools()]
        records += [_of_segment(info) for info in inspect.list_segments()]
        if as_json:
            print_json(records)
            return
        if not records:
            print(f"No pools in {shown(paths.pool_directory())}")
            return
        print_table(
            _COLUMNS,
            [[_cell(column, record[column]) for column in _COLUMNS] for record in records],
            "used structures size blocks processes",
        )


_COLUMNS = ("name", "kind", "state", "used", "structures", "size", "blocks", "processes", "problem")
_SIZES = ("used", "structures", "size")


def _of_pool(info: PoolInfo) -> dict[str, Any]:
    stats = info.stats
    shown_by_ls = (
        info.name,
        "pool",
        info.state,
        stats and stats.used,
        stats and stats.structure_bytes,
        stats and stats.size,
        stats and stats.blocks,
        stats and stats.processes,
        info.problem,
    )
    more = {"path": info.path, "stats": plain(stats)}
    return dict(zip(_COLUMNS, shown_by_ls, strict=True)) | more


def _of_segment(info: SegmentInfo) -> dict[str, Any]:
    record: dict[str, Any] = dict.fromkeys(_COLUMNS)
    record |= {"name": info.name, "kind": "segment", "state": info.state, "size": info.size}
    return record | {"path": info.path, "stats": None}


def _cell(column: str, value: int | str | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return format_size(value) if column in _SIZES else f"{value:,}"
    return shown(value) if column == "name" else escaped(value)


def inspect_pool(
    pool: PoolName,
    validate: Annotated[
        bool,
        typer.Option(
            "--validate",
            help="Also check that the pool is sound. This joins the pool: it takes a slot, and the "
            "locks of the pool and of its structures, each for a moment.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what is in a pool, without joining it.

    It works also if the processes of the pool are all stuck, stopped or dead, and it changes
    nothing.

    Lists named things, and queues, locks and the like without a name, the largest first. The column
    "keeps" includes the contents of a thing. "open in" counts the processes that have it open. A
    thing that is open in 0 processes is kept by its name, or by another thing that refers to it. In
    a program, `pool.delete(name)` deletes a name. Of a typed queue or stream, the fields of its
    messages follow; long lists are cut, and --json has all of it. "-" means unknown.

    Exits with 1 if the pool is marked corrupt. With --validate it exits with 1 if an invariant is
    broken, and with 3 if none is known to be broken, but something could not be checked: for
    example because a stopped process has a lock.
    """
    with one_line():
        view = inspect.inspect_pool(pool, validate=validate)
        if as_json:
            print_json(plain(view))
        else:
            _print_view(view)
        if view.problems or view.corrupt:
            raise typer.Exit(PROBLEM)
        if view.unchecked:
            raise typer.Exit(UNCHECKED)


def _print_view(view: PoolView) -> None:
    stats = view.stats
    print(f"{shown(stats.name)}   {shown(view.path)}")
    print(
        f"  {format_size(stats.used)} of {format_size(stats.size)} are data, in "
        f"{_count(stats.blocks, 'block')}; {format_size(stats.structure_bytes)} are "
        f"structures, in {_count(stats.structures, 'block')}"
    )
    print(f"  {format_size(stats.committed)} of memory are reserved")
    _print_notes(view)
    _print_things(view.things)
    for thing in view.things:
        if thing.schema is not None:
            name = f"{thing.kind} {'-' if thing.name is None else shown(thing.name)}"
            print_schema(name, thing.schema)
    if view.holders:
        print()
        _print_holders(view.holders)
    if view.checked:
        print()
        _print_check(view)


def _print_notes(view: PoolView) -> None:
    for line in view.notes:
        print(f"  {escaped(line)}")


def _print_check(view: PoolView) -> None:
    if view.problems:
        print("Broken invariants:")
        for problem in view.problems:
            print(f"  {escaped(problem)}")
    for line in view.unchecked:
        print(escaped(line))
    if not view.problems and not view.unchecked:
        print("Every invariant holds.")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _print_things(things: Sequence[Thing]) -> None:
    if not things:
        return
    print()
    print_table(
        ("kind", "name", "keeps", "blocks", "open in"),
        [
            (
                thing.kind,
                "-" if thing.name is None else shown(thing.name),
                format_size(thing.bytes),
                f"{thing.blocks:,}",
                "-" if thing.processes is None else str(thing.processes),
            )
            for thing in things
        ],
        "keeps blocks",
    )


def holders(pool: PoolName, as_json: Json = False) -> None:
    """List the processes of a pool and what each holds, the largest first, without joining it.

    It works also if the processes are all stuck, stopped or dead, and it changes nothing.

    The column "slot" is the index of a process in the pool. A block that several processes hold
    counts for each. What a dead process held is freed when another process needs it, or by
    `Pool.collect`. "runs for" is the time since its start, "since" for how long it has waited.
    """
    with one_line():
        view = inspect.inspect_pool(pool)
        if as_json:
            print_json(plain(view.holders))
            return
        _print_notes(view)
        if view.holders:
            _print_holders(view.holders)


def _print_holders(found: Sequence[Holder]) -> None:
    from onecopy.observer.words import duration

    now = time.time()
    print_table(
        (
            "slot",
            "pid",
            "program",
            "state",
            "holds",
            "blocks",
            "runs for",
            "member for",
            "waits for",
            "since",
        ),
        [
            (
                str(holder.slot),
                pid_of(holder),
                program_of(holder),
                holder.state,
                format_size(holder.bytes),
                f"{holder.blocks:,}",
                "-" if holder.started is None else duration(max(0.0, now - holder.started)),
                duration(max(0.0, now - holder.born_ns / 1e9)),
                waits_of(holder),
                longest_wait(holder),
            )
            for holder in found
        ],
        "slot pid holds blocks",
    )


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Remove nothing; print what would be removed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove pools and segments whose processes are all dead. Others are not touched.

    Making a pool does this, too. Use the command to remove what a killed program left.
    """
    with one_line():
        pools = inspect.gc(dry_run=dry_run)
        found = [
            {"name": info.name, "kind": kind, "state": info.state, "path": info.path}
            for kind, infos in (("pool", pools), ("segment", inspect.gc_segments(dry_run=dry_run)))
            for info in infos
        ]
        if as_json:
            print_json(found)
            return
        for record in found:
            print(f"{'would remove' if dry_run else 'removed'} {shown(record['path'])}")
        if not found:
            print("Nothing to remove.")


def doctor(as_json: Json = False) -> None:
    """Check this machine, and every pool of this user on it.

    It joins each pool that is in use or kept, as `onecopy inspect POOL --validate` does: it takes a
    slot, and the locks of the pool and of its structures, each for a moment.

    Exits with 1 if a pool is not sound, or the pool directory cannot be used. Otherwise it exits
    with 3 if a pool could not be checked: for example because a stopped process has a lock.
    """
    with one_line():
        report = _examine()
        if as_json:
            print_json(report)
        else:
            _print_report(report)
        if report["sound"] is not True:
            raise typer.Exit(UNCHECKED if report["sound"] is None else PROBLEM)


def _examine() -> dict[str, Any]:
    import numpy as np

    import onecopy

    directory = paths.pool_directory()
    place = directory if os.path.isdir(directory) else os.path.dirname(directory)  # noqa: PTH112, PTH120 - paths are strings here
    limit = memory_limit()
    problems: list[str] = []
    free = total = None
    try:
        space = os.statvfs(place)
        free, total = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
        pools = [_examine_pool(info) for info in inspect.list_pools()]
    except OSError as error:
        problems.append(
            f"{error.strerror}: {error.filename or place}" if error.strerror else str(error)
        )
        pools = []
    huge = huge_pages(place)
    sound: bool | None = None if any(pool["unchecked"] for pool in pools) else True
    if problems or any(pool["problems"] for pool in pools):
        sound = False
    return {
        "onecopy": onecopy.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "linux": platform.release(),
        "directory": directory,
        "free": free,
        "total": total,
        "memory_limit": limit and limit.limit,
        "huge_pages": huge._asdict() | {"files": huge.files, "memfds": huge.memfds},
        "problems": problems,
        "pools": pools,
        "sound": sound,  # None: no problem is known, but a pool could not be checked
    }


def _examine_pool(info: PoolInfo) -> dict[str, Any]:
    problems = [info.problem] if info.problem else []
    unchecked: list[str] = []
    if info.stats is not None:
        try:
            view = inspect.inspect_pool(info.path, validate=True)
            problems += view.problems
            unchecked += view.unchecked
        except (OneCopyError, OSError) as error:
            problems.append(str(error))
    if info.state in {"not_a_pool", "failed"} and not problems:
        problems.append("it is not a pool" if info.state == "not_a_pool" else "it cannot be read")
    return {
        "name": info.name,
        "path": info.path,
        "state": info.state,
        "problems": problems,
        "unchecked": unchecked,
    }


def _about_huge_pages(huge: dict[str, Any]) -> str:
    if huge["setting"] is None:
        return "huge pages for shared memory: this kernel has none"
    text = (
        f"huge pages for shared memory: {'yes' if huge['files'] else 'no'} for pools with a file "
        f"(mount option huge={huge['mount'] or 'unknown'}), {'yes' if huge['memfds'] else 'no'} "
        f"for memfd pools (shmem_enabled: {huge['setting']})"
    )
    if huge["files"]:
        return text
    return (
        f"{text}\n  without them, work across large arrays, such as x + x.T over 240 MB, takes up "
        "to 1.9 times as long as with them. To have them, mount a tmpfs with the option "
        "huge=within_size, and set ONECOPY_DIR to it"
    )


def _print_report(report: dict[str, Any]) -> None:
    print(
        f"onecopy {report['onecopy']} on Python {report['python']}, numpy {report['numpy']}, "
        f"Linux {report['linux']}"
    )
    print(f"pool directory: {shown(report['directory'])}")
    if report["free"] is not None:
        print(f"  {format_size(report['free'])} free of {format_size(report['total'])}")
    if report["memory_limit"] is not None:
        print(f"memory limit of the control group: {format_size(report['memory_limit'])}")
    print(_about_huge_pages(report["huge_pages"]))
    for problem in report["problems"]:
        print(f"problem: {escaped(problem)}")
    for pool in report["pools"]:
        said = "; ".join(pool["problems"] + pool["unchecked"])
        if not said:  # nobody can use a stale pool any more
            said = "not checked" if pool["state"] == "stale" else "sound"
        print(f"{shown(pool['name'])}: {pool['state']}, {escaped(said)}")
