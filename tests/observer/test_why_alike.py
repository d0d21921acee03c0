"""Chains that are left out early are those that would be left out at the end."""

import random

import pytest
from seeds import SEED

from onecopy.observer import why
from onecopy.observer.records import (
    FrameHolder,
    FramesView,
    LockHolder,
    LockView,
    PoolSnapshot,
    ProcessView,
    QueueView,
    StreamView,
    SubscriberView,
    WaitView,
)

PROCESSES = 7


class Maker:
    """Makes snapshots of pools at random; most of their processes wait."""

    def __init__(self, seed):
        self.draw = random.Random(seed)  # noqa: S311 - no secrets

    def thing(self, cls, index, kind, **facts):
        slots = self.draw.sample(range(PROCESSES), self.draw.randint(0, PROCESSES))
        return cls(
            index=index,
            kind=kind,
            name=f"{kind}{index}",
            owner=None,
            bytes=0,
            blocks=1,
            open_in=tuple(slots),
            readable=True,
            **facts,
        )

    def slot(self):
        return self.draw.randrange(PROCESSES)

    def holders(self, most, *roles):
        return tuple(
            LockHolder(self.draw.choice(roles), self.slot(), 0, self.draw.randint(1, 3), None)
            for _ in range(self.draw.randint(0, most))
        )

    def queue(self, index):
        return self.thing(
            QueueView,
            index,
            "queue",
            depth=self.draw.choice([0, 0, 3]),
            put=5,
            taken=5,
            put_rate=None,
            taken_rate=None,
            maxsize=4,
            room=4,
            occupied=self.draw.choice([0, 4]),
            unfinished=1,
            closed=False,
            redelivers=True,
            oldest=None,
            takers=self.holders(2, "taker"),
            inner=(),
            producers_waiting=0,
            consumers_waiting=0,
        )

    def stream(self, index):
        subscribers = tuple(
            SubscriberView(self.slot(), self.draw.randint(0, 4), 0)
            for _ in range(self.draw.randint(0, 3))
        )
        return self.thing(
            StreamView,
            index,
            "stream",
            published=3,
            rate=None,
            depth=2,
            policy="lossless",
            closed=False,
            subscribers=subscribers,
            inner=(),
            publishers_waiting=0,
            readers_waiting=0,
        )

    def frames(self, index, queue):
        holders = tuple(
            FrameHolder(self.slot(), None, 1, 0.0)
            if self.draw.random() < 0.6
            else FrameHolder(None, queue, 1, 0.0)
            for _ in range(2)
        )
        return self.thing(
            FramesView,
            index,
            "frames",
            count=4,
            free=0,
            out=4,
            frame_bytes=1,
            holders=holders,
            inner=(),
            waiting=0,
        )

    def lock(self, index, kind, *roles, **details):
        holders = self.holders(2, *roles) if roles else ()
        return self.thing(LockView, index, kind, holders=holders, waiting=0, details=details)

    def waits(self, pid, kinds):
        found = []
        for thread in range(self.draw.choice([0, 1, 1, 1, 2])):
            kind, thing = self.draw.choice(kinds)
            part = "memory" if kind == "memory" else ""
            seconds = self.draw.choice([2.0, 3.0, self.draw.random() * 9])
            found.append(WaitView(kind, thing, part, pid + thread, seconds))
        return tuple(found)

    def snapshot(self):
        queues = (self.queue(1), self.queue(2))
        stream = self.stream(3)
        frames = self.frames(8, queues[0])
        locks = (
            self.lock(4, "lock", "owner"),
            self.lock(5, "event"),
            self.lock(6, "semaphore", "holder"),
            self.lock(7, "barrier", "arrived", parties=3),
            self.lock(9, "rwlock", "reader", "writer", "next writer"),
            self.lock(10, "condition"),
        )
        kinds = [
            ("get", queues[0]),
            ("put", queues[0]),
            ("read_or_end", queues[0]),
            ("join", queues[1]),
            ("get", queues[1]),
            ("read", stream),
            ("publish", stream),
            ("frame", frames),
            ("memory", None),
            ("lock", locks[0]),
            ("event", locks[1]),
            ("semaphore", locks[2]),
            ("barrier", locks[3]),
            ("drain", locks[4]),
            ("read_lock", locks[4]),
            ("lock", locks[4]),
            ("condition", locks[5]),
        ]
        kinds = self.draw.sample(kinds, self.draw.randint(1, 4))
        processes = tuple(
            ProcessView(
                slot=slot,
                pid=100 + 10 * slot,
                parent_pid=1,
                state=self.draw.choice(["alive"] * 6 + ["stopped", "dead"]),
                same_namespace=True,
                command=None,
                started=None,
                joined=0.0,
                blocks=0,
                bytes=self.draw.choice([0, 1000]),
                waits=self.waits(100 + 10 * slot, kinds),
                more_may_wait=False,
            )
            for slot in range(PROCESSES)
        )
        return PoolSnapshot(
            name="p",
            path="p",
            id="",
            size=1000,
            used=1000,
            structure_bytes=0,
            committed=0,
            max_processes=8,
            persistent=False,
            memfd=False,
            corrupt=False,
            truncated=False,
            seconds=None,
            processes=processes,
            queues=queues,
            streams=(stream,),
            frames=(frames,),
            locks=locks,
            objects=(),
            inner=(),
        )


@pytest.mark.seeded
def test_processes_that_wait_alike_are_explained_once(monkeypatch):
    snapshots = [Maker(SEED + number).snapshot() for number in range(500)]
    left_out = sum(len(why._Graph(each, 1.0).alike()) for each in snapshots)
    short = [why.explain(each, 1.0) for each in snapshots]
    monkeypatch.setattr(why._Graph, "alike", lambda self: set())
    assert short == [why.explain(each, 1.0) for each in snapshots]
    assert left_out > 500
