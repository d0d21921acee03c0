"""Whether a pool keeps its invariants. Unlike an observer, the check joins the pool.

A stopped process may have a lock for hours. Then a part of the pool cannot be checked, which does
not mean that it is broken. An observer finds out which process it is: before the check for the
locks of the pool itself, for which the core would wait without limit, and after it for those of
structures.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from onecopy._core import membership
from onecopy.errors import OneCopyError, PoolCorrupted
from onecopy.observer.look import observe
from onecopy.observer.records import LockView
from onecopy.observer.words import joined, process_name
from onecopy.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onecopy.observer.records import LockHolder, PoolSnapshot, ProcessView, ThingView

__all__ = ["check"]

_TIMEOUT = 2.0  # seconds for the locks of the heap and the names, as the core has for structures
_TIMES = 3  # how often a finding must be made while others change the pool

_LOCKED = re.compile(r"(?P<kind>\w+) (?P<block>\d+): its (?P<lock>.*)cannot be (taken|acquired.*)")
_LOCKED_PARTS = ("heap: its lock could not be taken", "directory: cannot be locked")
_UNFINISHED = re.compile(r"block \d+: (counts \d+ references|is not live and counts)")


def check(seen: PoolSnapshot) -> tuple[list[str], list[str]]:
    """Check the invariants of a pool: join it, and take its locks.

    Parameters
    ----------
    seen : PoolSnapshot
        What an observer has just seen of the pool.

    Returns
    -------
    problems, unchecked : list of str
        Broken invariants; and what could not be checked, and why.
    """
    if not seen.persistent and all(process.state == "dead" for process in seen.processes):
        # To join such a pool is to remove it.
        return _marked(seen), ["the pool could not be checked: all its processes are dead"]
    busy = _locks_of_the_pool(seen.path)
    if busy:
        return _marked(seen), busy
    try:
        with _join(seen.path) as pool:
            if pool.id.hex() != seen.id:
                return [], ["the pool could not be checked: another pool has its name now"]
            return _check_inside(pool, seen.path)
    except PoolCorrupted as error:
        return [str(error)], []
    except (OneCopyError, OSError) as error:
        return _marked(seen), [f"the pool could not be checked, as it could not be joined: {error}"]


def _marked(seen: PoolSnapshot) -> list[str]:
    return ["pool: it was marked corrupt"] if seen.corrupt else []


def _join(path: str) -> Pool:
    """Join a pool without cleaning up; or open it for reading, if it has readers."""
    directory, filename = os.path.split(path)
    try:
        return Pool.of(membership.open_file(directory, filename, only_looks=True))
    except PoolCorrupted:
        raise
    except OneCopyError:
        try:
            return Pool.open(path, mode="r")
        except (OneCopyError, OSError):
            pass
        raise


def _locks_of_the_pool(path: str) -> list[str]:
    """Say which process has the lock of the heap or of the names, and keeps it."""
    with observe(path) as observer:
        deadline = time.monotonic() + _TIMEOUT
        owners: set[int] | None = None
        while True:
            seen = observer.snapshot()
            now = {
                holder.slot
                for holder in seen.inner
                if holder.slot is not None and _is_there(seen.process(holder.slot))
            }
            owners = now if owners is None else owners & now
            if not owners:
                return []
            if time.monotonic() > deadline:
                break
            time.sleep(_TIMEOUT / 20)
    names = _several(seen.process(slot) for slot in sorted(owners))
    return [f"the pool could not be checked: {names} has the lock of its heap or of its names"]


def _is_there(process: ProcessView | None) -> bool:
    return process is not None and process.state != "dead"


def _several(processes: Iterable[ProcessView | None]) -> str:
    words = [
        process_name(each) + (", which is stopped," if each.state == "stopped" else "")
        for each in processes
        if each is not None
    ]
    return joined(list(dict.fromkeys(words)) or ["a process"])


def _check_inside(pool: Pool, path: str) -> tuple[list[str], list[str]]:
    problems: list[str] | None = None
    unchecked: list[str] = []
    with observe(path) as observer:
        for _ in range(_TIMES):
            found = pool.validate()
            seen = observer.snapshot()
            broken, unchecked = _sorted(found, seen)
            problems = broken if problems is None else [each for each in problems if each in broken]
            # Another process may have been in the middle of something: look again.
            if not problems or sum(_is_there(each) for each in seen.processes) <= 1:
                break
    return problems or [], unchecked


def _sorted(found: list[str], seen: PoolSnapshot) -> tuple[list[str], list[str]]:
    """Tell what is broken from what could not be checked."""
    broken, unchecked = [], []
    stopped = [each for each in seen.processes if each.state == "stopped"]
    for line in found:
        busy = _busy(line, seen)
        if busy:
            unchecked.append(busy)
        elif stopped and _UNFINISHED.match(line):
            of = joined([process_name(each) for each in stopped])
            verb = "is" if len(stopped) == 1 else "are"
            unchecked.append(
                f"{line}; it may be an unfinished operation of {of}, which {verb} stopped"
            )
        else:
            broken.append(line)
    return broken, unchecked


def _busy(line: str, seen: PoolSnapshot) -> str:
    """Say which process has the lock that a finding names; "": no process has it."""
    if line.startswith(_LOCKED_PARTS):
        what, lock, holders = "the pool", "the lock of its heap or of its names", seen.inner
    else:
        match = _LOCKED.match(line)
        if match is None:
            return ""
        thing = _thing(seen, int(match["block"]))
        if thing is None:
            return ""
        what, lock, holders = str(thing), f"its {match['lock'].strip()}", _inner(thing)
    there = [seen.process(each.slot) for each in holders]
    there = [each for each in there if _is_there(each)]
    if not there:
        return ""
    return f"{what} could not be checked: {_several(there)} has {lock}"


def _thing(seen: PoolSnapshot, block: int) -> ThingView | None:
    for group in (seen.queues, seen.streams, seen.frames, seen.locks):
        for thing in group:
            if thing.index == block:
                return thing
    return None


def _inner(thing: ThingView) -> tuple[LockHolder, ...]:
    """Return the processes that have the locks inside of a structure."""
    if isinstance(thing, LockView):
        return thing.holders
    inner: tuple[LockHolder, ...] = getattr(thing, "inner", ())
    return inner
