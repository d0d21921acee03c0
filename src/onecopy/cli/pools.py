"""`onecopy ls`, `inspect`, `holders`, `gc` and `doctor`: what pools there are, and cleaning up.

They only print: everything they know comes from `onecopy.inspect`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onecopy import inspect, paths
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["doctor", "gc", "holders", "inspect_pool", "ls"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
PoolName = Annotated[str, typer.Argument(metavar="POOL", help="A pool's name, or its path.")]


def ls(as_json: Json = False) -> None:
    """List the pools and shared memory segments of this user."""
    found = _or_exit(inspect.list_pools)
    segments = inspect.list_segments()
    if as_json:
        _print_json(
            [{"kind": "pool"} | _plain(info) for info in found]
            + [{"kind": "segment"} | _plain(info) for info in segments]
        )
        return
    if not found and not segments:
        typer.echo(f"No pools in {paths.pool_directory()}")
        return
    rows = [
        (
            info.name,
            "pool",
            info.state.replace("_", " "),
            _size(info.stats.used) if info.stats else "-",
            _size(info.stats.size) if info.stats else "-",
            str(info.stats.blocks) if info.stats else "-",
            str(info.stats.processes) if info.stats else "-",
            info.problem or "",
        )
        for info in found
    ]
    rows += [
        (info.name, "segment", info.state.replace("_", " "), "-", _size(info.size), "-", "-", "")
        for info in segments
    ]
    _table(("name", "kind", "state", "used", "size", "blocks", "processes", ""), rows)


def inspect_pool(pool: PoolName, as_json: Json = False) -> None:
    """Show what is in a pool, and check every invariant of it."""
    view = _or_exit(lambda: inspect.inspect_pool(pool))
    if as_json:
        _print_json(_plain(view))
        return
    stats = view.stats
    typer.echo(f"{stats.name}   {view.path}")
    typer.echo(f"  {_size(stats.used)} used of {_size(stats.size)}, in {stats.blocks} blocks")
    typer.echo(
        f"  {_size(stats.committed)} of memory reserved, {_size(stats.structures)} structures"
    )
    for kind, names in view.names.items():
        if names:
            typer.echo(f"  {kind}: {', '.join(names)}")
    _print_holders(view.holders)
    if view.problems:
        typer.echo("Broken invariants:")
        for problem in view.problems:
            typer.echo(f"  {problem}")
        raise typer.Exit(1)
    typer.echo("Every invariant holds.")


def holders(pool: PoolName, as_json: Json = False) -> None:
    """List the processes of a pool and what each holds, the largest first."""
    found = _or_exit(lambda: inspect.holders(pool))
    if as_json:
        _print_json([_plain(holder) for holder in found])
        return
    _print_holders(found)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell.")] = False,
) -> None:
    """Remove pools and segments whose processes are all dead, and none that somebody uses."""
    removed = [info.path for info in _or_exit(lambda: inspect.gc(dry_run=dry_run))]
    removed += [info.path for info in inspect.gc_segments(dry_run=dry_run)]
    for path in removed:
        typer.echo(f"{'would remove' if dry_run else 'removed'} {path}")
    if not removed:
        typer.echo("Nothing to remove.")


def doctor() -> None:
    """Check this machine, and the pools on it."""
    directory = paths.pool_directory()
    typer.echo(f"onecopy on Python {platform.python_version()}, Linux {platform.release()}")
    typer.echo(f"pool directory: {directory}")
    place = Path(directory)
    place = place if place.is_dir() else place.parent
    if place.is_dir():
        space = os.statvfs(place)
        typer.echo(
            f"  {_size(space.f_bavail * space.f_frsize)} free of "
            f"{_size(space.f_blocks * space.f_frsize)}"
        )
    sound = True
    for info in _or_exit(inspect.list_pools):
        problems = [info.problem] if info.problem else []
        if info.stats is not None:
            try:
                problems += inspect.inspect_pool(info.path).problems
            except (OneCopyError, OSError) as error:
                problems.append(str(error))
        typer.echo(f"{info.name}: {info.state.replace('_', ' ')}, {'; '.join(problems) or 'sound'}")
        sound = sound and not problems
    if not sound:
        raise typer.Exit(1)


def _or_exit(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except (OneCopyError, OSError) as error:
        typer.echo(f"onecopy: {error}", err=True)
        raise typer.Exit(1) from None


def _print_holders(found: list[inspect.Holder]) -> None:
    now = time.time()
    _table(
        ("slot", "pid", "holds", "blocks", "member for"),
        [
            (
                str(holder.slot),
                str(holder.pid) + ("" if holder.alive else " (dead)"),
                _size(holder.bytes),
                str(holder.blocks),
                f"{max(0.0, now - holder.born_ns / 1e9):.0f} s",
            )
            for holder in found
        ],
    )


def _plain(value: Any) -> Any:
    """Named tuples as dicts, all the way down."""
    if hasattr(value, "_asdict"):
        return {key: _plain(part) for key, part in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
