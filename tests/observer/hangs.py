"""Hangs, as a table: which processes there are, what they do, and which of them is the cause.

A new hang is one entry of `HANGS`. `does` is a process that does something outside of the pool.
`waits` is one that gets stuck. They start one after the other, so what the first ones have taken,
the later ones wait for.

This file has more than 600 lines because it is one table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A process of a hang: what it runs, and for what it waits when the next one may start."""

    role: str
    text: str
    waits: str | None
    # For what it waits when all have started. "nothing": none of its threads waits. "ready": it has
    # said that it is ready.
    at_last: str | None
    worker: bool


@dataclass(frozen=True)
class Hang:
    """A pool that does not move.

    `blames` has the faults of those that are to blame; the role None: no process. `says` is a part
    of the chain. `dead` is what the cause is called when the culprit is killed: "dead", or "" if
    those that wait notice the death, and continue or say something else.
    """

    kind: str
    name: str
    parts: tuple[Part, ...]
    blames: frozenset[tuple[str | None, str]]
    says: str
    chains: int
    dead: str
    size: str

    def __str__(self):
        return f"{self.kind}: {self.name}"

    @property
    def has_one_culprit(self):
        """Whether one process outside of the pool is the cause: it may as well be stopped."""
        return any(part.role == "culprit" for part in self.parts) and len(self.blames) == 1

    def happen(self, stage):
        """Let it happen."""
        for part in self.parts:
            stage.enter(part.role, part.text, part.waits, part.worker)
        for part in self.parts:
            if part.at_last == "ready":
                stage.until_ready(part.role)
            elif part.at_last is not None:
                stage.until(part.role, None if part.at_last == "nothing" else part.at_last)
        stage.until_readers_are_through()


def does(role, text, how="idle"):
    return Part(role, f"{text}\n{how}()", None, None, False)


def waits(role, text, why, at_last=None, worker=False):
    return Part(role, text, why, at_last, worker)


def hang(
    kind, name, *parts, says, blames="culprit", fault="holds", chains=1, dead="", size="16MiB"
):
    """Describe a hang; `blames` is one role, or several of the same fault."""
    roles = [blames] if blames is None or isinstance(blames, str) else blames
    return Hang(
        kind, name, parts, frozenset((role, fault) for role in roles), says, chains, dead, size
    )


def background(text):
    """Run a line in a thread of its own."""
    return f"import threading; threading.Thread(target=lambda: {text}, daemon=True).start()\n"


_GET = "pool.queue('jobs').get()"
_TWO_LOCKS = (
    "a, b, e = pool.lock({0!r}), pool.lock({1!r}), pool.event('both')\n"
    "a.acquire(); {2}; b.acquire()"
)
_FOUR_FRAMES = "f = pool.frames('cam0', (16,), 'u1', count=4)\n"
_IN_A_RING = (
    "a, b = pool.{0}({1!r}), pool.{0}({2!r})\na.acquire(); pool.event('go').wait(); b.acquire()"
)

_RING = ("ab", "bc", "ca")

HANGS = [
    # ---- queue
    hang(
        "queue",
        "empty, and the producer does something else",
        does("culprit", "q = pool.queue('jobs')"),
        waits("consumer", _GET, "get"),
        fault="could",
        says="queue 'jobs', which is empty",
        dead="dead",
    ),
    hang(
        "queue",
        "empty, and the producer computes",
        does("culprit", "q = pool.queue('jobs')", "busy"),
        waits("consumer", _GET, "get"),
        fault="could",
        says="queue 'jobs', which is empty",
        dead="dead",
    ),
    hang(
        "queue",
        "empty, and three consumers iterate over it",
        does("culprit", "q = pool.queue('jobs')"),
        *(
            waits(f"consumer{number}", "for job in pool.queue('jobs'): pass", "get")
            for number in range(3)
        ),
        fault="could",
        says="wait for it too",
        dead="dead",
    ),
    hang(
        "queue",
        "full, and the consumer does something else",
        does("culprit", "q = pool.queue('jobs', maxsize=2)"),
        waits("producer", "q = pool.queue('jobs')\nfor i in range(3): q.put(i)", "put"),
        fault="could",
        says="room in queue 'jobs', which has 2 of 2 messages",
        dead="dead",
    ),
    hang(
        "queue",
        "full of messages that were taken and not finished",
        does(
            "culprit",
            "q = pool.queue('jobs', maxsize=2, redeliver=True)\n"
            "q.put(1); q.put(2); kept = [q.get(), q.get()]",
        ),
        waits("producer", "pool.queue('jobs').put(3)", "put"),
        says="has taken 2 messages and not finished",
        dead="dead",  # those that put do not look for dead receivers: those that get do
    ),
    hang(
        "queue",
        "no other process has it open",
        waits("one", _GET, "get"),
        waits("two", _GET, "get"),
        blames=None,
        fault="nobody",
        says="no other process that has the queue open could put a message",
    ),
    hang(
        "queue",
        "each of two processes waits for a message of the other one",
        waits("one", "a, b = pool.queue('a'), pool.queue('b'); a.get()", "get"),
        waits("two", "a, b = pool.queue('a'), pool.queue('b'); b.get()", "get"),
        blames=("one", "two"),
        fault="cycle",
        says="this is a cycle",
    ),
    hang(
        "queue",
        "three processes wait for messages in a ring",
        waits("one", "a, b = pool.queue('a'), pool.queue('b'); a.get()", "get"),
        waits("two", "b, c = pool.queue('b'), pool.queue('c'); b.get()", "get"),
        waits("three", "c, a = pool.queue('c'), pool.queue('a'); c.get()", "get"),
        blames=("one", "two", "three"),
        fault="cycle",
        says="this is a cycle",
    ),
    hang(
        "queue",
        "each of two processes has filled the queue of the other one",
        *(
            waits(
                one,
                "a, b = pool.queue('a', maxsize=1), pool.queue('b', maxsize=1)\n"
                "e = pool.event('go')\n"
                f"{one}.put(1); {start}; {one}.put(2)",
                why,
                "put",
            )
            for one, start, why in (("a", "e.wait()", "event"), ("b", "e.set()", "put"))
        ),
        blames=("a", "b"),
        fault="cycle",
        says="this is a cycle",
    ),
    hang(
        "queue",
        "the only consumer of a full queue is the process that puts",
        waits(
            "one",
            "q = pool.queue('jobs', maxsize=1); q.put(1); q.put(2)",
            "put",
        ),
        fault="nobody",
        blames=None,
        says="no other process that has the queue open could take a message",
    ),
    hang(
        "queue",
        "a consumer that holds a lock waits for a producer that waits for the lock",
        waits("consumer", f"pool.lock('door').acquire(); {_GET}", "get"),
        waits("producer", "q = pool.queue('jobs'); pool.lock('door').acquire()", "lock"),
        blames=("consumer", "producer"),
        fault="cycle",
        says="this is a cycle",
    ),
    # ---- queue that is joined
    hang(
        "joinable queue",
        "a message was taken and is not finished",
        does("culprit", "q = pool.queue('jobs', redeliver=True); q.put(1); kept = q.get()"),
        waits("joiner", "pool.queue('jobs').join()", "join"),
        says="the end of 1 message of queue 'jobs'",
    ),
    hang(
        "joinable queue",
        "the consumer has forgotten task_done",
        does("culprit", "q = pool.queue('jobs'); q.put(1); q.put(2); q.get(); q.get()"),
        waits("joiner", "pool.queue('jobs').join()", "join"),
        fault="could",
        says="the end of 2 messages of queue 'jobs'",
        dead="dead",
    ),
    hang(
        "joinable queue",
        "the worker of the queue waits for a lock",
        does("culprit", "pool.lock('door').acquire()"),
        waits(
            "worker",
            "q = pool.queue('jobs', redeliver=True); q.put(1); q.get()\n"
            "pool.lock('door').acquire()",
            "lock",
        ),
        waits("joiner", "pool.queue('jobs').join()", "join"),
        says="has taken 1 message and not finished",
    ),
    hang(
        "joinable queue",
        "the joining process has not finished a message itself",
        waits("one", "q = pool.queue('jobs', redeliver=True); q.put(1); q.get(); q.join()", "join"),
        blames="one",
        fault="itself",
        says="waits for itself",
    ),
    hang(
        "joinable queue",
        "a thread of the joining process has the work, and waits for a lock",
        does("culprit", "pool.lock('door').acquire()"),
        waits(
            "one",
            "q = pool.queue('jobs'); q.put(1)\n"
            + background("(q.get(), pool.lock('door').acquire())")
            + "q.join()",
            "lock",
            "join",
        ),
        says="lock 'door'",
    ),
    # ---- stream
    hang(
        "lossless stream",
        "its only reader does something else",
        does("culprit", "s = pool.stream('news', depth=4, policy='lossless').subscribe()"),
        waits("publisher", "s = pool.stream('news')\nwhile True: s.publish(1)", "publish"),
        says="room in the lossless stream 'news', which keeps 4 messages",
    ),
    hang(
        "lossless stream",
        "one of three readers is slow",
        does("culprit", "s = pool.stream('news', depth=4, policy='lossless').subscribe()"),
        *(
            waits(
                role,
                "s = pool.stream('news', depth=4, policy='lossless').subscribe()\n"
                "while True: s.get()",
                "read",
            )
            for role in ("fast", "faster")
        ),
        waits("publisher", "s = pool.stream('news')\nwhile True: s.publish(1)", "publish"),
        says="is 4 messages behind",
    ),
    hang(
        "lossless stream",
        "its reader puts what it reads into a full queue",
        does("culprit", "q = pool.queue('jobs', maxsize=1)"),
        waits(
            "relay",
            "q = pool.queue('jobs'); s = pool.stream('news', depth=2, policy='lossless')\n"
            "for each in s.subscribe(): q.put(each)",
            "read",
            "put",
        ),
        waits("publisher", "s = pool.stream('news')\nwhile True: s.publish(1)", "publish"),
        fault="could",
        says="room in queue 'jobs', which has 1 of 1 message",
        dead="dead",
    ),
    hang(
        "lossless stream",
        "its publisher is also its reader",
        waits(
            "one",
            "s = pool.stream('news', depth=2, policy='lossless'); r = s.subscribe()\n"
            "while True: s.publish(1)",
            "publish",
        ),
        blames="one",
        fault="itself",
        says="waits for itself",
    ),
    hang(
        "lossy stream",
        "its publisher does something else",
        does("culprit", "s = pool.stream('news')"),
        waits("subscriber", "pool.stream('news').subscribe().get()", "read"),
        fault="could",
        says="a message of stream 'news'",
        dead="dead",
    ),
    hang(
        "latest stream",
        "its publisher does something else, and two subscribers wait",
        does("culprit", "s = pool.stream('pose', policy='latest')"),
        waits("one", "pool.stream('pose').subscribe().get()", "read"),
        waits("two", "pool.stream('pose').subscribe().get()", "read"),
        fault="could",
        says="a message of stream 'pose'",
        dead="dead",
    ),
    hang(
        "latest stream",
        "two processes answer each other, and both wait",
        waits("one", "a, b = pool.stream('a'), pool.stream('b'); a.subscribe().get()", "read"),
        waits("two", "a, b = pool.stream('a'), pool.stream('b'); b.subscribe().get()", "read"),
        blames=("one", "two"),
        fault="cycle",
        says="this is a cycle",
    ),
    # ---- frames
    hang(
        "frames",
        "one process has all of them",
        does("culprit", f"{_FOUR_FRAMES}kept = [f.acquire() for _ in range(4)]"),
        waits("camera", "q = pool.queue('jobs'); pool.frames('cam0').acquire()", "frame"),
        waits("detector", _GET, "get"),
        says="a frame of frames 'cam0', of which 0 of 4 are free",
    ),
    hang(
        "frames",
        "they are in messages that a consumer does not take",
        does("culprit", "q = pool.queue('jobs')"),
        waits(
            "camera",
            f"q = pool.queue('jobs'); {_FOUR_FRAMES}while True: q.put(f.acquire())",
            "frame",
        ),
        says="all 4 frames are in queue 'jobs'",
        dead="dead",
    ),
    hang(
        "frames",
        "a reader of a stream keeps them",
        waits(
            "culprit",
            f"{_FOUR_FRAMES}kept = []\n"
            "for each in pool.stream('live').subscribe():\n"
            "    kept.append(each)\n"
            "    if len(kept) == 4: idle()",
            "read",
            at_last="ready",
        ),
        waits(
            "camera",
            "s = pool.stream('live'); f = pool.frames('cam0')\nwhile True: s.publish(f.acquire())",
            "frame",
        ),
        says="holds all 4 frames",
    ),
    hang(
        "frames",
        "two processes have them",
        does("culprit", f"{_FOUR_FRAMES}kept = [f.acquire() for _ in range(2)]"),
        does("other", "kept = [pool.frames('cam0').acquire() for _ in range(2)]"),
        waits("camera", "pool.frames('cam0').acquire()", "frame"),
        blames=("culprit", "other"),
        says="holds 2 frames",
    ),
    hang(
        "frames",
        "the process that waits has all of them itself",
        waits("camera", f"{_FOUR_FRAMES}kept = [f.acquire() for _ in range(5)]", "frame"),
        blames="camera",
        fault="itself",
        says="waits for itself",
    ),
    hang(
        "frames",
        "a stream is deeper than the set",
        waits(
            "camera",
            f"s = pool.stream('live', depth=8)\n{_FOUR_FRAMES}while True: s.publish(f.acquire())",
            "frame",
        ),
        waits("viewer", "pool.stream('live').subscribe().get()", "read"),
        blames="camera",
        fault="itself",
        says="stream 'live'",
    ),
    hang(
        "frames",
        "names keep them",
        waits(
            "camera",
            f"{_FOUR_FRAMES}\nfor i in range(5): pool[f'kept{{i}}'] = f.acquire()",
            "frame",
        ),
        blames=None,
        fault="nobody",
        says="object 'kept",
    ),
    hang(
        "frames",
        "they are in a shared list",
        does("culprit", "l = pool.list(name='seen')"),
        waits(
            "camera",
            f"l = pool.list(name='seen'); {_FOUR_FRAMES}while True: l.append(f.acquire())",
            "frame",
        ),
        says="all 4 frames are in list 'seen'",
        dead="dead",
    ),
    # ---- lock
    hang(
        "lock",
        "held for long",
        does("culprit", "lock = pool.lock('door'); lock.acquire()"),
        waits("waiter", "pool.lock('door').acquire()", "lock"),
        says="lock 'door'",
    ),
    hang(
        "lock",
        "held while its owner computes",
        does("culprit", "lock = pool.lock('door'); lock.acquire()", "busy"),
        waits("waiter", "pool.lock('door').acquire()", "lock"),
        says="lock 'door'",
    ),
    hang(
        "lock",
        "taken twice",
        waits("one", "lock = pool.lock('door'); lock.acquire(); lock.acquire()", "lock"),
        blames="one",
        fault="itself",
        says="waits for itself",
    ),
    hang(
        "lock",
        "two of them in two orders",
        waits("one", _TWO_LOCKS.format("a", "b", "e.wait()"), "event", "lock"),
        waits("two", _TWO_LOCKS.format("b", "a", "e.set()"), "lock"),
        blames=("one", "two"),
        fault="cycle",
        says="this is a cycle",
    ),
    hang(
        "lock",
        "three of them in a ring",
        *(waits(a, _IN_A_RING.format("lock", a, b), "event", "lock") for a, b in _RING),
        does("starter", "pool.event('go').set()"),
        blames=tuple("abc"),
        fault="cycle",
        says="this is a cycle",
    ),
    hang(
        "lock",
        "a chain of three processes",
        does("culprit", "pool.lock('a').acquire()"),
        waits("one", "pool.lock('b').acquire(); pool.lock('a').acquire()", "lock"),
        waits("two", "pool.lock('c').acquire(); pool.lock('b').acquire()", "lock"),
        waits("three", "pool.lock('c').acquire()", "lock"),
        says="lock 'c'; ",
    ),
    hang(
        "lock",
        "a chain over a queue and frames",
        does("culprit", f"{_FOUR_FRAMES}kept = [f.acquire() for _ in range(4)]"),
        waits("camera", "q = pool.queue('jobs'); pool.frames('cam0').acquire()", "frame"),
        waits("detector", f"pool.lock('door').acquire(); {_GET}", "get"),
        waits("visitor", "pool.lock('door').acquire()", "lock"),
        says="Process",
    ),
    hang(
        "lock",
        "its owner waits for orders in the background",
        does(
            "culprit",
            f"orders = pool.queue('orders')\n{background('orders.get()')}"
            "pool.lock('door').acquire()",
        ),
        waits("waiter", "pool.lock('door').acquire()", "lock"),
        says="lock 'door'",
    ),
    hang(
        "lock",
        "in one process, a thread has it and waits for what another one should put",
        waits(
            "one",
            "q = pool.queue('jobs'); door = pool.lock('door'); door.acquire()\n"
            + background("(door.acquire(), q.put(1))")
            + "q.get()",
            "get",
            "lock",
        ),
        blames="one",
        fault="itself",
        says="waits for itself",
    ),
    hang(
        "rlock",
        "held twice by one process",
        does("culprit", "lock = pool.rlock('door'); lock.acquire(); lock.acquire()"),
        waits("waiter", "pool.rlock('door').acquire()", "lock"),
        says="rlock 'door'",
    ),
    hang(
        "rlock",
        "a thread waits for the main thread of its own process",
        does(
            "culprit",
            "lock = pool.rlock('door'); lock.acquire()\n" + background("lock.acquire()"),
        ),
        waits("waiter", "pool.rlock('door').acquire()", "lock"),
        says="rlock 'door'",
    ),
    hang(
        "rlock",
        "three of them in a ring",
        *(waits(a, _IN_A_RING.format("rlock", a, b), "event", "lock") for a, b in _RING),
        does("starter", "pool.event('go').set()"),
        blames=tuple("abc"),
        fault="cycle",
        says="this is a cycle",
    ),
    # ---- rwlock
    hang(
        "rwlock",
        "a reader does not finish",
        does("culprit", "lock = pool.rwlock('table'); lock.read().__enter__()"),
        waits("writer", "pool.rwlock('table').write().__enter__()", "drain"),
        says="the readers of rwlock 'table'",
    ),
    hang(
        "rwlock",
        "a writer does not finish",
        does("culprit", "lock = pool.rwlock('table'); lock.write().__enter__()"),
        waits("reader", "pool.rwlock('table').read().__enter__()", "read_lock"),
        says="rwlock 'table'",
    ),
    hang(
        "rwlock",
        "a reader waits for a writer that waits for a reader",
        does("culprit", "lock = pool.rwlock('table'); lock.read().__enter__()"),
        waits("writer", "pool.rwlock('table').write().__enter__()", "drain"),
        waits("reader", "pool.rwlock('table').read().__enter__()", "read_lock"),
        says="has the turn to write, and waits for readers",
    ),
    hang(
        "rwlock",
        "one of two readers does not finish, and the other one waits for a lock that it has",
        does(
            "culprit",
            "lock = pool.rwlock('table'); lock.read().__enter__(); pool.lock('door').acquire()",
        ),
        waits(
            "reader",
            "lock = pool.rwlock('table'); lock.read().__enter__(); pool.lock('door').acquire()",
            "lock",
        ),
        waits("writer", "pool.rwlock('table').write().__enter__()", "drain"),
        says="the readers of rwlock 'table'",
    ),
    hang(
        "rwlock",
        "each of two readers of two tables wants to write the other one",
        *(
            waits(
                role,
                f"a, b = pool.rwlock({mine!r}), pool.rwlock({other!r}); a.read().__enter__()\n"
                f"pool.event('go').{start}(); b.write().__enter__()",
                why,
                "drain",
            )
            for role, mine, other, start, why in (
                ("one", "a", "b", "wait", "event"),
                ("two", "b", "a", "set", "drain"),
            )
        ),
        blames=("one", "two"),
        fault="cycle",
        says="this is a cycle",
    ),
    # ---- semaphores
    hang(
        "semaphore",
        "its tokens are taken",
        does("culprit", "s = pool.semaphore('seats', 1); s.acquire()"),
        waits("waiter", "pool.semaphore('seats').acquire()", "semaphore"),
        says="semaphore 'seats', whose value is 0",
    ),
    hang(
        "semaphore",
        "it counts what nobody releases",
        does("culprit", "s = pool.semaphore('ready', 0)"),
        waits("waiter", "pool.semaphore('ready').acquire()", "semaphore"),
        fault="could",
        says="semaphore 'ready', whose value is 0",
        dead="dead",
    ),
    hang(
        "semaphore",
        "the process that waits has all tokens",
        waits(
            "one",
            "s = pool.semaphore('seats', 2); s.acquire(); s.acquire(); s.acquire()",
            "semaphore",
        ),
        blames="one",
        fault="itself",
        says="waits for itself",
    ),
    hang(
        "bounded semaphore",
        "one process has two of three tokens, and another one the third",
        does("culprit", "s = pool.bounded_semaphore('seats', 3); s.acquire(); s.acquire()"),
        does("other", "s = pool.bounded_semaphore('seats', 3); s.acquire()"),
        waits("waiter", "pool.bounded_semaphore('seats', 3).acquire()", "semaphore"),
        blames=("culprit", "other"),
        says="has 2 tokens",
    ),
    hang(
        "bounded semaphore",
        "its holder waits for a lock",
        does("culprit", "pool.lock('door').acquire()"),
        waits(
            "holder",
            "pool.bounded_semaphore('seats', 1).acquire(); pool.lock('door').acquire()",
            "lock",
        ),
        waits("waiter", "pool.bounded_semaphore('seats', 1).acquire()", "semaphore"),
        says="has 1 token",
    ),
    # ---- event, condition, barrier
    hang(
        "event",
        "nobody sets it",
        does("culprit", "e = pool.event('go')"),
        waits("waiter", "pool.event('go').wait()", "event"),
        fault="could",
        says="event 'go', which is not set",
        dead="dead",
    ),
    hang(
        "event",
        "the process that should set it waits for a lock",
        does("culprit", "pool.lock('door').acquire()"),
        waits("setter", "e = pool.event('go'); pool.lock('door').acquire()", "lock"),
        waits("waiter", "pool.event('go').wait()", "event"),
        says="lock 'door'",
    ),
    hang(
        "condition",
        "nobody notifies",
        does("culprit", "c = pool.condition('news')"),
        waits("waiter", "c = pool.condition('news'); c.acquire(); c.wait()", "condition"),
        fault="could",
        says="condition 'news', which was not notified",
        dead="dead",
    ),
    hang(
        "condition",
        "notified, but the notifier keeps the lock",
        waits("waiter", "c = pool.condition('news'); c.acquire(); c.wait()", "condition", "lock"),
        does("culprit", "c = pool.condition('news'); c.acquire(); c.notify()"),
        says="lock of condition 'news'",
    ),
    hang(
        "condition",
        "the notifier waits for the lock, which another process has",
        waits("waiter", "c = pool.condition('news'); c.acquire(); c.wait()", "condition"),
        does("culprit", "pool.condition('news').acquire()"),
        waits("notifier", "pool.condition('news').acquire()", "lock"),
        says="lock of condition 'news'",
    ),
    hang(
        "barrier",
        "one party does not come",
        does("culprit", "b = pool.barrier('start', 3)"),
        waits("first", "pool.barrier('start').wait()", "barrier"),
        waits("second", "pool.barrier('start').wait()", "barrier"),
        fault="could",
        says="barrier 'start', at which 2 of 3 parties have arrived",
        dead="dead",
    ),
    hang(
        "barrier",
        "it has more parties than processes",
        waits("first", "pool.barrier('start', 3).wait()", "barrier"),
        waits("second", "pool.barrier('start').wait()", "barrier"),
        blames=None,
        fault="nobody",
        says="at which 2 of 3 parties have arrived",
    ),
    hang(
        "barrier",
        "the last party waits for a frame that an early one has",
        waits(
            "first",
            "f = pool.frames('cam0', (16,), 'u1', count=1); kept = f.acquire()\n"
            "pool.barrier('start', 2).wait()",
            "barrier",
        ),
        waits("last", "b = pool.barrier('start'); pool.frames('cam0').acquire()", "frame"),
        blames=("first", "last"),
        fault="cycle",
        says="this is a cycle",
    ),
    # ---- list, dict, value
    hang(
        "list",
        "a process keeps its lock",
        does("culprit", "l = pool.list([1], name='scores'); l.lock().__enter__()"),
        waits("waiter", "pool.list(name='scores').append(2)", "lock"),
        says="list 'scores'",
    ),
    hang(
        "dict",
        "a process keeps its lock",
        does("culprit", "d = pool.dict(name='state'); d.lock().__enter__()"),
        waits("waiter", "pool.dict(name='state')['x'] = 1", "lock"),
        says="dict 'state'",
    ),
    hang(
        "dict",
        "its lock and that of a list in two orders",
        waits(
            "one",
            "d, l = pool.dict(name='state'), pool.list(name='scores')\n"
            "d.lock().__enter__(); pool.event('go').wait(); l.lock().__enter__()",
            "event",
            "lock",
        ),
        waits(
            "two",
            "d, l = pool.dict(name='state'), pool.list(name='scores')\n"
            "l.lock().__enter__(); pool.event('go').set(); d.lock().__enter__()",
            "lock",
        ),
        blames=("one", "two"),
        fault="cycle",
        says="this is a cycle",
    ),
    hang(
        "value",
        "a process keeps its lock",
        does("culprit", "v = pool.value('d', 0.0, name='sum'); v.get_lock().acquire()"),
        waits("waiter", "pool.value('d', 0.0, name='sum').get_lock().acquire()", "lock"),
        says="'sum'",
    ),
    # ---- workers
    hang(
        "executor",
        "its worker waits for a lock",
        does("culprit", "pool.lock('door').acquire()"),
        waits(
            "boss",
            "with oc.Executor(1, pool=pool) as executor:\n"
            "    executor.submit(pool.lock('door').acquire).result()",
            "lock",
            "nothing",  # an executor waits for answers in the pool for a moment
            worker=True,
        ),
        says="lock 'door'",
    ),
    hang(
        "executor",
        "its worker waits for a lock that the program has",
        waits(
            "boss",
            "door = pool.lock('door'); door.acquire()\n"
            "with oc.Executor(1, pool=pool) as executor:\n"
            "    executor.submit(door.acquire).result()",
            "lock",
            "nothing",  # an executor waits for answers in the pool for a moment
            worker=True,
        ),
        blames="boss",
        says="lock 'door'",
    ),
    hang(
        "pool of workers",
        "its worker waits for a message that the program should put",
        waits(
            "boss",
            "import onecopy.multiprocessing as mp\n"
            "with mp.get_context('fork').Pool(1) as workers:\n"
            "    workers.apply(pool.queue('jobs').get)",
            "get",
            "nothing",
            worker=True,
        ),
        blames="boss",
        fault="could",
        says="queue 'jobs', which is empty",
    ),
    # ---- memory
    hang(
        "memory",
        "one process holds it",
        does("culprit", "kept = [pool.zeros((1 << 20,), 'u1') for _ in range(14)]"),
        waits("hungry", "pool.queue('jobs').put(bytes(4 << 20), timeout=1000)", "memory"),
        says="memory in the pool",
    ),
    hang(
        "memory",
        "messages that a consumer does not take fill it",
        does("culprit", "q = pool.queue('jobs')"),
        waits(
            "hungry",
            "q = pool.queue('jobs')\nwhile True: q.put(bytes(1 << 20), timeout=1000)",
            "memory",
        ),
        says="queue 'jobs' keeps",
        dead="dead",
    ),
    hang(
        "memory",
        "the process that waits has it itself",
        waits(
            "hungry",
            "kept = [pool.zeros((1 << 20,), 'u1') for _ in range(14)]\n"
            "pool.queue('jobs').put(bytes(4 << 20), timeout=1000)",
            "memory",
        ),
        blames="hungry",
        fault="itself",
        says="waits for itself",
    ),
    hang(
        "memory",
        "an object that has a name fills it",
        waits(
            "hungry",
            "pool['weights'] = bytes(13 << 20)\n"
            "pool.queue('jobs').put(bytes(4 << 20), timeout=1000)",
            "memory",
        ),
        blames=None,
        fault="nobody",
        says="object 'weights' keeps",
    ),
]
