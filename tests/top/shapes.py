"""Looks at pools that no test has to make: records by hand."""

from __future__ import annotations

from onecopy.observer import (
    FramesView,
    LockHolder,
    LockView,
    PoolSnapshot,
    ProcessView,
    QueueView,
    StreamView,
    SubscriberView,
    ThingView,
    WaitView,
)
from onecopy.observer.several import PoolLook

HOSTILE = [
    "a\nb\tc",
    "\x1b[31mred\x1b[0m",
    "[red]x[/red]",
    "[/]",
    "日本語" * 20,
    "x" * 200,
    "e\u0301" * 30,
    "\u202eabc",
    "\ud800",
    '"}, evil="1',
    "back\\slash",
    " ",
]


def process(slot, **changes):
    known = {
        "slot": slot,
        "pid": 1000 + slot,
        "parent_pid": 1,
        "state": "alive",
        "same_namespace": True,
        "command": ("python", f"worker{slot}.py"),
        "started": 0.0,
        "joined": 0.0,
        "blocks": 1,
        "bytes": slot * 1024,
        "waits": (),
        "more_may_wait": False,
    }
    return ProcessView(**(known | changes))


def _thing(index, kind, name):
    return {
        "index": index,
        "kind": kind,
        "name": name,
        "owner": None,
        "bytes": 64,
        "blocks": 1,
        "open_in": (),
        "readable": True,
    }


def queue(index, name, **changes):
    known = _thing(index, "queue", name) | {
        "depth": 0,
        "put": 0,
        "taken": 0,
        "put_rate": None,
        "taken_rate": None,
        "maxsize": 0,
        "room": 16,
        "occupied": 0,
        "unfinished": 0,
        "closed": False,
        "redelivers": False,
        "oldest": None,
        "takers": (),
        "inner": (),
        "producers_waiting": 0,
        "consumers_waiting": 0,
    }
    return QueueView(**(known | changes))


def stream(index, name, **changes):
    known = _thing(index, "stream", name) | {
        "published": 0,
        "rate": None,
        "depth": 8,
        "policy": "lossy",
        "closed": False,
        "subscribers": (),
        "inner": (),
        "publishers_waiting": 0,
        "readers_waiting": 0,
    }
    return StreamView(**(known | changes))


def frames(index, name, **changes):
    known = _thing(index, "frames", name) | {
        "count": 8,
        "free": 8,
        "out": 0,
        "frame_bytes": 1024,
        "holders": (),
        "inner": (),
        "waiting": 0,
    }
    return FramesView(**(known | changes))


def lock(index, name, kind="lock", **changes):
    known = _thing(index, kind, name) | {"holders": (), "waiting": 0, "details": {}}
    return LockView(**(known | changes))


def holder(slot, role="owner", count=1, seconds=None):
    return LockHolder(role, slot, 0, count, seconds)


def subscriber(slot, lag=0, missed=0):
    return SubscriberView(slot, lag, missed)


def wait(thing, why, seconds=5.0, thread=1):
    plain = ThingView(**{name: getattr(thing, name) for name in ThingView.__slots__})
    return WaitView(why, plain, "", thread, seconds)


def look(name="factory", **changes):
    known = {
        "name": name,
        "path": f"/pools/{name}.pool",
        "id": "00",
        "size": 1 << 20,
        "used": 1 << 19,
        "structure_bytes": 0,
        "committed": 1 << 20,
        "max_processes": 512,
        "persistent": False,
        "memfd": False,
        "corrupt": False,
        "truncated": False,
        "seconds": 1.0,
        "processes": (process(0),),
        "queues": (),
        "streams": (),
        "frames": (),
        "locks": (),
        "objects": (),
        "inner": (),
    }
    snapshot = PoolSnapshot(**(known | changes))
    return PoolLook(name, snapshot.path, snapshot, "")


def lost(name="broken", problem="it is damaged"):
    return PoolLook(name, f"/pools/{name}.pool", None, problem)
