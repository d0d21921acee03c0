"""From what the native core has read to records; rates come from a second look."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onecopy._core.kinds import Kind
from onecopy._typed.view import view_of
from onecopy.observer.peeking import QueueSource
from onecopy.observer.records import (
    FrameHolder,
    FramesView,
    LockHolder,
    LockView,
    MemoryCell,
    PoolSnapshot,
    ProcessView,
    QueueView,
    StreamView,
    SubscriberView,
    ThingView,
    WaitView,
)
from onecopy.observer.system import look_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from onecopy._core.schema_view import SchemaView
    from onecopy.observer.records import ProcessState

__all__ = ["Memory", "read"]

_CHANNELS = ("queue", "stream", "frames")
_ROLES = (
    "owner",
    "writer",
    "next writer",
    "reader",
    "holder",
    "arrived",
    "waiter",
    "notified",
    "inner",
)
_POLICIES = ("lossy", "lossless", "latest")

_Key = tuple[int, int]  # a block and its generation


@dataclass(slots=True)
class Memory:
    """What an observer remembers of earlier snapshots."""

    at: float | None = None
    counts: dict[tuple[_Key, str], int] = field(default_factory=dict)
    oldest: dict[_Key, tuple[int, float]] = field(default_factory=dict)
    frames: dict[tuple[int | None, int, int], float] = field(default_factory=dict)


class _Reader:
    def __init__(self, seen: Mapping[str, Any], path: str, memory: Memory) -> None:
        self.seen = seen
        self.path = path
        self.memory = memory
        self.now: float = seen["now_ns"] / 1e9
        self.passed: float | None = None
        if memory.at is not None:
            self.passed = max(self.now - memory.at, 1e-6)
        self.next = Memory(self.now)
        self.things: dict[int, ThingView] = {}
        self.raw = {thing["index"]: thing for thing in seen["things"]}
        self.pids = {process["slot"]: process["pid"] for process in seen["processes"]}
        self.referrers = dict(seen["referrers"])
        self.waiting = Counter(
            (wait["subject"], wait["why"])
            for process in seen["processes"]
            if process["life"] != "dead"
            for wait in process["waits"]
        )

    # ---- things

    def base(self, index: int, depth: int = 0) -> ThingView | None:
        """Return what every thing has; None: there is no such thing."""
        if index in self.things:
            return self.things[index]
        thing = self.raw.get(index)
        if thing is None:
            return None
        # A thing may seem to be a part of itself, while others write.
        owner = self.base(thing["parent"], depth + 1) if thing["parent"] and depth < 8 else None
        view = ThingView(**self._common(thing, owner))
        self.things[index] = view
        return view

    def _common(self, thing: Mapping[str, Any], owner: ThingView | None) -> dict[str, Any]:
        return {
            "index": thing["index"],
            "kind": _kind(thing),
            "name": thing["name"],
            "owner": owner,
            "bytes": thing["bytes"],
            "blocks": thing["blocks"],
            "open_in": tuple(thing["open_in"]),
            "readable": thing["readable"],
        }

    def common(self, thing: Mapping[str, Any]) -> dict[str, Any]:
        view = self.base(thing["index"])
        return self._common(thing, None if view is None else view.owner)

    def rate(self, thing: Mapping[str, Any], what: str) -> float | None:
        key = (_key(thing), what)
        now: int = thing["facts"].get(what, 0)
        self.next.counts[key] = now
        before: int | None = self.memory.counts.get(key)
        if before is None or self.passed is None:
            return None
        return max(now - before, 0) / self.passed

    def holders(self, thing: Mapping[str, Any], *roles: str) -> tuple[LockHolder, ...]:
        found = []
        for role, slot, passed, count, more in thing["parts"]:
            if role not in roles:
                continue
            exclusive = role in {"owner", "writer"}  # `count` is a pid, and `more` a time
            found.append(
                LockHolder(
                    role=role,
                    slot=None if passed else slot,
                    pid=(count if exclusive and passed else self.pids.get(slot, 0)),
                    count=1 if exclusive or role in {"inner", "next writer"} else max(count, 1),
                    seconds=max(self.now - more / 1e9, 0.0) if exclusive and more else None,
                )
            )
        return tuple(found)

    def waits(self, thing: Mapping[str, Any], *whys: str) -> int:
        return sum(self.waiting[thing["index"], why] for why in whys)

    def queue(self, thing: Mapping[str, Any]) -> QueueView:
        facts = thing["facts"]
        get = facts.get
        return QueueView(
            **self.common(thing),
            depth=get("depth", 0),
            put=get("put", 0),
            taken=get("taken", 0),
            put_rate=self.rate(thing, "put"),
            taken_rate=self.rate(thing, "taken"),
            maxsize=get("maxsize", 0),
            room=get("room", 0),
            occupied=get("occupied", 0),
            unfinished=get("unfinished", 0),
            closed=bool(get("closed", 0)),
            redelivers=bool(get("redelivers", 0)),
            oldest=self._oldest(thing),
            takers=self.holders(thing, "taker"),
            inner=self.holders(thing, "inner"),
            producers_waiting=self.waits(thing, "put"),
            consumers_waiting=self.waits(thing, "get", "read_or_end"),
            schema=_schema(thing),
            _source=QueueSource(
                self.path,
                self.seen["id"],
                thing["index"],
                thing["generation"],
                thing["schema"][0] if thing["schema"] is not None and thing["schema"][1] else None,
            ),
        )

    def _oldest(self, thing: Mapping[str, Any]) -> float | None:
        """Return for how long the first message has been the first one that can be taken."""
        facts, key = thing["facts"], _key(thing)
        if not facts.get("depth"):
            return None
        # It was there, in this place or behind others, when the number of messages put passed it.
        position = facts["taken"]
        known = self.memory.oldest.get(key)
        since = self.now
        if known is not None and position < known[0]:
            since = known[1]
            self.next.oldest[key] = known
        else:
            self.next.oldest[key] = (facts["put"], self.now)
        return self.now - since

    def stream(self, thing: Mapping[str, Any]) -> StreamView:
        facts = thing["facts"]
        policy = facts.get("policy", 0)
        return StreamView(
            **self.common(thing),
            published=facts.get("published", 0),
            rate=self.rate(thing, "published"),
            depth=facts.get("depth", 0),
            policy=_POLICIES[policy] if policy < len(_POLICIES) else "unknown",
            closed=bool(facts.get("closed", 0)),
            subscribers=tuple(
                SubscriberView(None if passed else slot, lag, missed)
                for role, slot, passed, lag, missed in thing["parts"]
                if role == "subscriber"
            ),
            inner=self.holders(thing, "inner"),
            publishers_waiting=self.waits(thing, "publish"),
            readers_waiting=self.waits(thing, "read"),
            schema=_schema(thing),
        )

    def frames(self, thing: Mapping[str, Any]) -> FramesView:
        facts = thing["facts"]
        counts: Counter[tuple[int | None, int]] = Counter()
        longest: dict[tuple[int | None, int], float] = {}
        out = set()
        for role, slot, _passed, block, generation in thing["parts"]:
            if role != "frame":
                continue
            out.add(block)
            holder = (slot, 0 if slot is not None else self.referrers.get(block, 0))
            mark = (slot, block, generation)
            since = self.next.frames[mark] = self.memory.frames.get(mark, self.now)
            counts[holder] += 1
            longest[holder] = max(longest.get(holder, 0.0), self.now - since)
        return FramesView(
            **self.common(thing),
            count=facts.get("frames", 0),
            free=facts.get("at_home", 0),
            out=len(out),
            frame_bytes=facts.get("frame_bytes", 0),
            holders=tuple(
                FrameHolder(
                    slot, self.base(referrer) if referrer else None, n, longest[slot, referrer]
                )
                for (slot, referrer), n in counts.most_common()
            ),
            inner=self.holders(thing, "inner"),
            waiting=self.waits(thing, "frame"),
        )

    def lock(self, thing: Mapping[str, Any]) -> LockView:
        return LockView(
            **self.common(thing),
            holders=self.holders(
                thing,
                *_ROLES,
            ),
            waiting=self.waits(
                thing, "lock", "read_lock", "drain", "semaphore", "event", "condition", "barrier"
            ),
            details={name: value for name, value in thing["facts"].items() if name != "lock"},
        )

    def cell(self, used: int, thing: int, slot: int, holders: int) -> MemoryCell:
        referrer = self.base(thing) if thing else None
        return MemoryCell(used, referrer, slot if holders else None, holders)

    # ---- processes

    def process(self, process: Mapping[str, Any]) -> ProcessView:
        same = process["pid_namespace"] == self.seen["own_namespace"] != 0
        system = look_at(process["pid"], process["start_ticks"]) if same else None
        state: ProcessState = process["life"]
        if state == "alive" and system is not None and system.letter in "Tt":
            state = "stopped"
        return ProcessView(
            slot=process["slot"],
            pid=process["pid"],
            parent_pid=process["parent_pid"],
            state=state,
            same_namespace=same,
            command=None if system is None or not system.command else system.command,
            started=None if system is None else system.started,
            joined=process["born_ns"] / 1e9,
            blocks=process["blocks"],
            bytes=process["bytes"],
            waits=tuple(
                WaitView(
                    why=wait["why"],
                    thing=self.base(wait["subject"]),
                    part=wait["part"],
                    thread=wait["thread"],
                    seconds=max(self.now - wait["since_ns"] / 1e9, 0.0),
                )
                for wait in process["waits"]
            ),
            more_may_wait=process["more_may_wait"],
        )


def _schema(thing: Mapping[str, Any]) -> SchemaView | None:
    return None if thing["schema"] is None else view_of(*thing["schema"])


def _key(thing: Mapping[str, Any]) -> _Key:
    return thing["index"], thing["generation"]


def _kind(thing: Mapping[str, Any]) -> str:
    try:
        return Kind(thing["name_kind"]).name.lower()
    except ValueError:
        kind: str = thing["body"] or "object"
        return "rlock" if kind == "lock" and thing["facts"].get("recursive") else kind


def _by_name(things: Iterable[ThingView]) -> list[Any]:
    return sorted(things, key=lambda thing: (thing.name is None, thing.name or "", thing.index))


def read(seen: Mapping[str, Any], name: str, path: str, memory: Memory) -> PoolSnapshot:
    """Make the records of a snapshot.

    Parameters
    ----------
    seen : dict
        What `_native.observe_pool` has read.
    name, path : str
        The pool's name and file.
    memory : Memory
        What earlier snapshots have seen. It is brought up to date.

    Returns
    -------
    PoolSnapshot
        The records.
    """
    reader = _Reader(seen, path, memory)
    things = seen["things"]
    queues = [reader.queue(thing) for thing in things if thing["body"] == "queue"]
    streams = [reader.stream(thing) for thing in things if thing["body"] == "stream"]
    frames = [reader.frames(thing) for thing in things if thing["body"] == "frames"]
    # Lists and dicts too: what is to be seen of them is their lock.
    locks = [reader.lock(thing) for thing in things if thing["body"] not in (None, *_CHANNELS)]
    objects = [ThingView(**reader.common(each)) for each in things if each["body"] is None]
    snapshot = PoolSnapshot(
        name=name,
        path=path,
        id=seen["id"].hex(),
        size=seen["size"],
        used=seen["used"],
        structure_bytes=seen["structure_bytes"],
        committed=seen["committed"],
        max_processes=seen["max_processes"],
        persistent=seen["persistent"],
        memfd=seen["memfd"],
        corrupt=seen["corrupt"],
        truncated=seen["truncated"],
        seconds=reader.passed,
        processes=tuple(reader.process(process) for process in seen["processes"]),
        queues=tuple(_by_name(queues)),
        streams=tuple(_by_name(streams)),
        frames=tuple(_by_name(frames)),
        locks=tuple(_by_name(locks)),
        objects=tuple(_by_name(objects)),
        inner=reader.holders(
            {"parts": [("inner", *lock[1:], 0, 0) for lock in seen["locks"]]}, "inner"
        ),
        cell_bytes=seen["cell_bytes"],
        memory_map=tuple(
            MemoryCell(
                used, reader.base(thing) if thing else None, slot if holders else None, holders
            )
            for used, thing, slot, holders in seen["cells"]
        ),
    )
    memory.at, memory.counts = reader.next.at, reader.next.counts
    memory.oldest, memory.frames = reader.next.oldest, reader.next.frames
    return snapshot
