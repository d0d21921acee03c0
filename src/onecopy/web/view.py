"""From a snapshot to the JSON that the page shows.

All text is one line of printable characters and limited in length, whatever the names in the pool
are. The page puts it into text nodes only, never into HTML.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from onecopy._core.lines import escaped
from onecopy.observer import explain, headline
from onecopy.observer.system import short_command
from onecopy.observer.words import process_name, waits_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from onecopy.inspect import PoolInfo
    from onecopy.observer import (
        FramesView,
        LockHolder,
        LockView,
        PoolSnapshot,
        ProcessView,
        QueueView,
        StreamView,
        ThingView,
    )

__all__ = ["dump", "listed", "seen"]

LONGER_THAN = 1.0  # seconds; shorter waits are not explained
ROWS = 600  # of one table
CHAINS = 50
PARTS = 10  # things, and processes, that the map of the memory shows one by one
LEVELS = 4  # of how full a part of the memory is
LONGEST = 400  # characters of a text


def dump(value: Any) -> bytes:
    """Encode JSON whose text can be shown as it is.

    Parameters
    ----------
    value : object
        Dicts with keys of ours, lists, texts, numbers.

    Returns
    -------
    bytes
        In ASCII.
    """
    return json.dumps(_shown(value), separators=(",", ":")).encode()


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        text = escaped(value)
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    if isinstance(value, dict):
        return {key: _shown(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(part) for part in value]
    return round(value, 3) if isinstance(value, float) else value


def listed(pools: Iterable[PoolInfo], key_of: Callable[[str], str]) -> list[dict[str, Any]]:
    """Describe the pools that can be chosen.

    Parameters
    ----------
    pools : iterable of PoolInfo
        The pools.
    key_of : callable
        Makes the word by which the page asks for a pool.

    Returns
    -------
    list of dict
        What `dump` takes.
    """
    return [
        {
            "key": key_of(info.path),
            "name": info.name,
            "path": info.path,
            "state": info.state,
            "problem": info.problem,
            "processes": info.stats and info.stats.processes,
        }
        for info in pools
        if info.state != "not_a_pool"
    ]


def seen(pool: PoolSnapshot, key_of: Callable[[str], str]) -> dict[str, Any]:
    """Describe a pool.

    Parameters
    ----------
    pool : PoolSnapshot
        What an observer has seen.
    key_of : callable
        Makes the word by which the page asks for a stream.

    Returns
    -------
    dict
        What `dump` takes.
    """
    chains = explain(pool, LONGER_THAN)
    locks = [each for each in pool.locks if each.name is not None or each.holders or each.waiting]
    return {
        "at": time.monotonic(),
        "name": pool.name,
        "path": pool.path,
        "size": pool.size,
        "used": pool.used + pool.structure_bytes,
        "committed": pool.committed,
        "slots": pool.max_processes,
        "persistent": pool.persistent,
        "memfd": pool.memfd,
        "truncated": pool.truncated,
        "said": headline(pool),
        "chains": [
            {"text": _sentences(chain.text), "culprits": [each.text for each in chain.culprits]}
            for chain in chains[:CHAINS]
        ],
        "waiting": sum(len(each.waits) for each in pool.processes if each.state != "dead"),
        "memory": _memory(pool),
        "processes": _rows(pool, pool.processes, _process),
        "queues": _rows(pool, pool.queues, _queue),
        "streams": _rows(pool, pool.streams, lambda pool, each: _stream(pool, each, key_of)),
        "frames": _rows(pool, pool.frames, lambda pool, each: _frames(pool, each, key_of)),
        "locks": _rows(pool, sorted(locks, key=lambda each: -each.waiting), _lock),
        "counts": {
            "processes": len(pool.processes),
            "queues": len(pool.queues),
            "streams": len(pool.streams),
            "frames": len(pool.frames),
            "locks": len(locks),
            "chains": len(chains),
        },
    }


def _sentences(text: str) -> list[str]:
    """Take a chain apart: its parts can then stand below each other."""
    return [f"{part[0].upper()}{part[1:]}." for part in text.rstrip(".").split("; ") if part]


def _rows(
    pool: PoolSnapshot,
    things: Sequence[Any],
    describe: Callable[[PoolSnapshot, Any], dict[str, Any]],
) -> list[dict[str, Any]]:
    return [describe(pool, each) for each in things[:ROWS]]


# ---- memory -------------------------------------------------------------------------------------


def _memory(pool: PoolSnapshot) -> dict[str, Any]:
    """Divide the pool's memory: by what keeps it, by the processes that hold it, and by address.

    Each block counts for one thing, so the parts add up. What no thing keeps is held by processes
    only. A block that several processes hold counts for each of them.
    """
    things: list[ThingView] = [
        *pool.queues,
        *pool.streams,
        *pool.frames,
        *pool.objects,
        *pool.locks,
    ]
    used = pool.used + pool.structure_bytes
    things.sort(key=lambda each: -each.bytes)
    kept = sum(each.bytes for each in things)
    shown = [each for each in things[:PARTS] if each.bytes]
    parts = [
        {
            "id": _id(each),
            "kind": each.kind.replace("_", " "),
            "name": _name(each),
            "bytes": each.bytes,
        }
        for each in shown
    ]
    rest = kept - sum(each.bytes for each in shown)
    if rest > 0:
        more = len(things) - len(parts)
        parts.append({"kind": "other", "name": f"{more:,} smaller things", "bytes": rest})
    if used > kept:
        parts.append(
            {"kind": "held", "name": "held by processes, kept by nothing", "bytes": used - kept}
        )
    # The numbers are of slightly different times.
    free = max(pool.size - max(used, kept), 0)
    parts.append({"kind": "free", "name": "free", "bytes": free})
    processes = sorted(
        (each for each in pool.processes if each.bytes), key=lambda each: -each.bytes
    )
    holders = processes[:PARTS]
    return {
        "parts": parts,
        "holders": [
            {
                "id": f"{each.slot}-{each.pid}-{each.joined}",
                "slot": each.slot,
                "name": process_name(each),
                "bytes": each.bytes,
            }
            for each in holders
        ],
        "more_holders": max(len(processes) - PARTS, 0),
        "cell": pool.cell_bytes,
        "map": _map(
            pool,
            {each.index: i for i, each in enumerate(shown)},
            {each.slot: i for i, each in enumerate(holders)},
        ),
    }


def _map(pool: PoolSnapshot, parts: dict[int, int], holders: dict[int, int]) -> list[list[Any]]:
    """Describe the map of the memory, as runs of parts that look alike.

    Returns
    -------
    list
        ``[how many, how full, thing, process]``. How full: 0 to `LEVELS`; all of it is used, or a
        part. The thing: a place in the list of parts, "other" or "held". The process: a place in
        the list of holders, "other", "several", or "none".
    """
    runs: list[list[Any]] = []
    for cell in pool.memory_map:
        full = -(-cell.used * LEVELS // max(pool.cell_bytes, 1))
        thing: int | str | None = None
        process: int | str | None = None
        if full:
            thing = "held" if cell.thing is None else parts.get(cell.thing.index, "other")
            if cell.slot is None:
                process = "none"
            else:
                process = "several" if cell.holders > 1 else holders.get(cell.slot, "other")
        if runs and runs[-1][1:] == [full, thing, process]:
            runs[-1][0] += 1
        else:
            runs.append([1, full, thing, process])
    return runs


# ---- rows of the tables -------------------------------------------------------------------------


def _name(thing: ThingView) -> str:
    if thing.name is not None:
        return thing.name
    return f"of {thing.owner}" if thing.owner is not None else f"block {thing.index}"


def _id(thing: ThingView) -> str:
    """Identify a thing as long as the page is open."""
    return f"{thing.kind}-{thing.index}-{thing.name}"


def _common(thing: ThingView) -> dict[str, Any]:
    return {
        "id": _id(thing),
        "name": _name(thing),
        "named": thing.name is not None,
        "bytes": thing.bytes,
        "readable": thing.readable,
    }


def _queue(_pool: PoolSnapshot, queue: QueueView) -> dict[str, Any]:
    return _common(queue) | {
        "depth": queue.depth,
        "room": queue.room if queue.maxsize else None,
        "put": queue.put,
        "put_rate": queue.put_rate,
        "taken_rate": queue.taken_rate,
        "oldest": queue.oldest,
        "putting": queue.producers_waiting,
        "getting": queue.consumers_waiting,
        "closed": queue.closed,
    }


def _stream(
    _pool: PoolSnapshot, stream: StreamView, key_of: Callable[[str], str]
) -> dict[str, Any]:
    return _common(stream) | {
        "key": None if stream.name is None else key_of(stream.name),
        "policy": stream.policy,
        "published": stream.published,
        "rate": stream.rate,
        "subscribers": len(stream.subscribers),
        "behind": max((each.lag for each in stream.subscribers), default=0),
        "missed": sum(each.missed for each in stream.subscribers),
        "publishing": stream.publishers_waiting,
        "reading": stream.readers_waiting,
        "closed": stream.closed,
    }


def _frames(pool: PoolSnapshot, frames: FramesView, key_of: Callable[[str], str]) -> dict[str, Any]:
    return _common(frames) | {
        "key": None if frames.name is None else key_of(frames.name),
        "count": frames.count,
        "free": frames.free,
        "out": frames.out,
        "frame_bytes": frames.frame_bytes,
        "waiting": frames.waiting,
        "holders": [
            {
                "frames": each.frames,
                "by": _process_of(pool, each.slot, 0)
                if each.slot is not None
                else (str(each.thing) if each.thing is not None else "a message or a name"),
                "seconds": each.seconds,
            }
            for each in frames.holders
        ],
    }


def _lock(pool: PoolSnapshot, lock: LockView) -> dict[str, Any]:
    seconds = [each.seconds for each in lock.holders if each.seconds is not None]
    return _common(lock) | {
        "kind": lock.kind.replace("_", " "),
        "holders": [_holder(pool, each) for each in lock.holders],
        "seconds": max(seconds) if seconds else None,
        "waiting": lock.waiting,
        "waiters": _waiters(pool, lock),
        "details": _details(lock.details),
    }


def _details(details: dict[str, int]) -> str:
    words = []
    if "value" in details:
        words.append(f"value {details['value']}")
    if "is_set" in details:
        words.append("set" if details["is_set"] else "not set")
    if "parties" in details:
        words.append(f"{details['parties']} parties")
    if details.get("broken"):
        words.append("broken")
    return ", ".join(words)


def _holder(pool: PoolSnapshot, holder: LockHolder) -> str:
    role = "" if holder.role in {"owner", "holder"} else f" ({holder.role})"
    many = f" ×{holder.count}" if holder.count > 1 else ""  # noqa: RUF001 - as people write it
    return _process_of(pool, holder.slot, holder.pid) + many + role


def _waiters(pool: PoolSnapshot, thing: LockView) -> list[str]:
    if not thing.waiting:
        return []
    return [
        process_name(each)
        for each in pool.processes
        if each.state != "dead"
        and any(wait.thing is not None and wait.thing.index == thing.index for wait in each.waits)
    ][:20]


def _process_of(pool: PoolSnapshot, slot: int | None, pid: int) -> str:
    process = pool.process(slot)
    return f"{pid or 'a process'} (gone)" if process is None else process_name(process)


def _process(_pool: PoolSnapshot, process: ProcessView) -> dict[str, Any]:
    waits = process.waits
    return {
        "id": f"{process.slot}-{process.pid}-{process.joined}",
        "slot": process.slot,
        "pid": process.pid,
        "here": process.same_namespace,
        "program": short_command(process.command),
        "command": " ".join(process.command or ()),
        "state": process.state,
        "bytes": process.bytes,
        "member_for": max(0.0, time.time() - process.joined),
        "waits": list(dict.fromkeys(map(waits_for, waits)))
        + (["perhaps more"] if process.more_may_wait else []),
        "since": max((wait.seconds for wait in waits), default=None),
        "threads": len(waits),
    }
