"""`onecopy show` and `onecopy why`: a pool from outside, without joining it."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onecopy._core.sizes import format_size
from onecopy.cli.output import (
    PROBLEM,
    escaped,
    one_line,
    plain,
    print_json,
    print_table,
    shown,
)
from onecopy.cli.pools import Json, PoolName, pool_names
from onecopy.cli.processes import longest_wait, pid_of, program_of, waits_of
from onecopy.cli.schemas import schema_word
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onecopy.observer import (
        Chain,
        PoolSnapshot,
        ProcessView,
        QueueView,
        StreamView,
        ThingView,
    )

__all__ = ["show", "why"]


def show(
    pool: PoolName,
    seconds: Annotated[
        float,
        typer.Option("--seconds", min=0.0, help="For how long to look, to compute rates."),
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Show the processes, queues, streams, frames and locks of a pool, without joining it.

    It works also if the processes of the pool are all stuck, stopped or dead, and it changes
    nothing. Rates are per second. "-" means unknown.
    """
    from onecopy.observer import observe

    with one_line(), observe(pool) as observer:
        seen = observer.snapshot()
        if seconds:
            time.sleep(seconds)
            seen = observer.snapshot()
        if as_json:
            print_json(plain(seen))
        else:
            _print_snapshot(seen)


def _print_snapshot(seen: PoolSnapshot) -> None:
    from onecopy.observer import headline

    print(f"{shown(seen.name)}   {shown(seen.path)}")
    print(
        f"  {format_size(seen.used + seen.structure_bytes)} of {format_size(seen.size)} in use, "
        f"{len(seen.processes)} of {seen.max_processes} slots"
    )
    for line in headline(seen):
        print(f"  {escaped(line)}")
    _table(
        ("pid", "program", "state", "holds", "member for", "waits for", "since"),
        [_process_row(process) for process in seen.processes],
        "pid holds",
    )
    _table(
        _columns(
            seen.queues,
            ("queue", "depth", "put", "put/s", "taken", "taken/s", "oldest", "putting", "getting"),
        ),
        [
            (
                _name(queue),
                f"{queue.depth:,}",
                f"{queue.put:,}",
                _rate(queue.put_rate),
                f"{queue.taken:,}",
                _rate(queue.taken_rate),
                "-" if queue.oldest is None else f"> {queue.oldest:.1f} s",
                str(queue.producers_waiting),
                str(queue.consumers_waiting),
                schema_word(queue.schema),
            )
            for queue in seen.queues
        ],
        "depth put put/s taken taken/s putting getting",
    )
    _table(
        _columns(
            seen.streams,
            ("stream", "policy", "published", "per s", "subscribers", "most behind", "missed"),
        ),
        [
            (
                _name(stream),
                stream.policy,
                f"{stream.published:,}",
                _rate(stream.rate),
                str(len(stream.subscribers)),
                f"{max((each.lag for each in stream.subscribers), default=0):,}",
                f"{sum(each.missed for each in stream.subscribers):,}",
                schema_word(stream.schema),
            )
            for stream in seen.streams
        ],
        "published subscribers missed",
    )
    _table(
        ("frames", "out", "free", "held by", "waiting"),
        [
            (
                _name(frames),
                str(frames.out),
                str(frames.free),
                _frame_holders(seen, frames.holders),
                str(frames.waiting),
            )
            for frames in seen.frames
        ],
        "out waiting",
    )
    _table(
        ("lock", "kind", "held by", "for", "waiting"),
        [
            (
                _name(lock),
                lock.kind.replace("_", " "),
                ", ".join(_pid(seen, each.slot, each.pid) for each in lock.holders) or "-",
                _longest([each.seconds for each in lock.holders]),
                str(lock.waiting),
            )
            for lock in seen.locks
            if lock.name is not None or lock.holders or lock.waiting
        ],
        "waiting",
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], numbers: str) -> None:
    if rows:
        print()
        print_table(head, [row[: len(head)] for row in rows], numbers)


def _columns(
    channels: Sequence[QueueView] | Sequence[StreamView], head: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the columns of channels: their type is one of them if a channel has a type."""
    typed = any(channel.schema is not None for channel in channels)
    return (*head, "type") if typed else head


def _name(thing: ThingView) -> str:
    if thing.name is not None:
        return shown(thing.name)
    return f"(of {escaped(str(thing.owner))})" if thing.owner is not None else "-"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}"


def _longest(seconds: Sequence[float | None]) -> str:
    from onecopy.observer.words import duration

    known = [each for each in seconds if each is not None]
    return duration(max(known)) if known else "-"


def _pid(seen: PoolSnapshot, slot: int | None, pid: int) -> str:
    process = seen.process(slot)
    if process is None:
        return f"{pid or 'a process'} (gone)"
    return pid_of(process)


def _frame_holders(seen: PoolSnapshot, holders: Sequence[Any]) -> str:
    return (
        ", ".join(
            f"{each.frames} by {_pid(seen, each.slot, 0)}"
            if each.slot is not None
            else f"{each.frames} in {escaped(str(each.thing)) if each.thing else 'a message'}"
            for each in holders
        )
        or "-"
    )


def _process_row(process: ProcessView) -> tuple[str, ...]:
    from onecopy.observer.words import duration

    return (
        pid_of(process),
        program_of(process),
        process.state,
        format_size(process.bytes),
        duration(max(0.0, time.time() - process.joined)),
        waits_of(process),
        longest_wait(process),
    )


def why(
    pool: Annotated[
        str | None,
        typer.Argument(
            metavar="[POOL]",
            help="The name of a pool, or the path of its file. Default: all pools of this user.",
            autocompletion=pool_names,
        ),
    ] = None,
    longer_than: Annotated[
        float,
        typer.Option(
            "--longer-than", min=0.0, help="Leave out waits that are shorter, in seconds."
        ),
    ] = 1.0,
    stacks: Annotated[
        bool,
        typer.Option("--stacks", help="Also print the Python stacks, by py-spy (onecopy[stacks])."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Say in words why a pool does not move: which processes wait, and for which.

    Follows each wait from process to process, and names the process at its end. It does not join
    the pool, takes no lock and changes nothing. So it works if all processes are stuck.

    Exits with 1 if a pool cannot be read. Without POOL the others are explained all the same.
    """
    with one_line():
        names = [pool] if pool is not None else _all_pools()
        records = []
        for name in names:
            record = _explain(name, longer_than, many=pool is None)
            if record is None:
                continue
            records.append(record)
            if stacks:
                record["stacks"] = _stacks(record)
        if as_json:
            print_json(records)
        else:
            for record in records:
                _print_why(record, longer_than)
            if not records:
                print("There is no pool.")
        if any(record["problem"] is not None for record in records):
            raise typer.Exit(PROBLEM)


def _all_pools() -> list[str]:
    from onecopy import inspect

    return [info.path for info in inspect.list_pools() if info.state != "not_a_pool"]


def _explain(name: str, longer_than: float, *, many: bool) -> dict[str, Any] | None:
    from onecopy.observer import explain, headline, observe
    from onecopy.observer.directory import stopped_directory_owners

    try:
        with observe(name) as observer:
            seen = observer.snapshot()
    except (OneCopyError, OSError) as error:
        if not many:
            raise
        if not os.path.lexists(name):  # it is gone meanwhile
            return None
        return {"pool": name, "problem": str(error), "said": [], "chains": [], "processes": []}
    chains = explain(seen, longer_than)
    return {
        "pool": seen.name,
        "problem": None,
        "said": headline(seen) + stopped_directory_owners(os.path.dirname(seen.path)),  # noqa: PTH120 - paths are strings here
        "chains": [_chain(chain) for chain in chains],
        "processes": [_of_process(process) for process in seen.processes],
    }


def _chain(chain: Chain) -> dict[str, Any]:
    record: dict[str, Any] = plain(chain)
    return record


def _of_process(process: ProcessView) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "slot": process.slot,
        "state": process.state,
        "same_namespace": process.same_namespace,
        "command": None if process.command is None else list(process.command),
    }


_ALIKE = 8  # culprits of a chain with the same fault that are printed


def _print_why(record: dict[str, Any], longer_than: float) -> None:
    print(f"Pool {shown(record['pool'])}:")
    if record["problem"] is not None:
        print(f"  it cannot be read: {escaped(record['problem'])}")
    for line in record["said"]:
        print(f"  {escaped(line)}")
    for chain in record["chains"]:
        print(f"* {escaped(chain['text'])}")
        alike: Counter[str] = Counter()
        for culprit in chain["culprits"]:
            alike[culprit["fault"]] += 1
            if alike[culprit["fault"]] <= _ALIKE:
                print(f"  -> {escaped(culprit['text'])}")
        more = sum(max(0, count - _ALIKE) for count in alike.values())
        if more:
            print(f"  -> and {more} more like these; --json lists all.")
    if not record["chains"] and record["problem"] is None:
        print(f"  No thread has waited longer than {longer_than:g} s.")
    for pid, text in record.get("stacks", {}).items():
        print(f"--- {pid}")
        for line in text.splitlines():
            print(f"    {escaped(line)}")


def _stacks(record: dict[str, Any]) -> dict[str, str]:
    """Return the stacks of all processes that are in a chain."""
    wanted = dict.fromkeys(
        pid
        for chain in record["chains"]
        for pid in (*chain["pids"], *(culprit["pid"] for culprit in chain["culprits"]))
    )
    here = {
        process["pid"]: process["state"]
        for process in record["processes"]
        if process["same_namespace"] and process["state"] != "dead"
    }
    return {str(pid): _stack(pid, stopped=here[pid] == "stopped") for pid in wanted if pid in here}


def _stack(pid: int, *, stopped: bool) -> str:
    import shutil
    import subprocess
    import sys
    from pathlib import Path

    beside = Path(sys.executable).with_name("py-spy")
    program = str(beside) if beside.exists() else shutil.which("py-spy")
    if program is None:
        return "py-spy is not installed. Run: pip install 'onecopy[stacks]'"
    # py-spy pauses a process while it reads. It cannot pause one that is stopped, and need not.
    how = ["--nonblocking"] if stopped else []
    try:
        done = subprocess.run(  # noqa: S603 - the arguments are a number
            [program, "dump", *how, "--pid", str(pid)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"py-spy failed: {error}"
    if done.returncode:  # it may have printed its first lines before that
        said, _, _ = done.stderr.strip().partition("\n\nStack backtrace")  # of py-spy itself
        return f"py-spy failed: {' '.join(said.split()) or f'exit status {done.returncode}'}"
    return done.stdout.strip()
