"""Locks, events and so on for the campaign: after any death, a survivor can use them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from crash_world import HANG, Operation, World, by_reference

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("lock", "rlock", "rwlock", "semaphore", "bounded_semaphore", "event", "condition")


def thing(kind: str, *arguments: Any, **options: Any) -> Callable[[World], None]:
    """Make a structure, as ``w.it``."""

    def prepare(w: World) -> None:
        w.things["it"] = getattr(w.pool, kind)(*arguments, **options)

    return prepare


def after_a_death(prepare: Callable[[World], None], act: Callable[[World], object]) -> Any:
    """Make a structure, and let a process die with it."""

    def make(w: World) -> None:
        prepare(w)
        pid = os.fork()
        if pid == 0:
            signal.alarm(HANG)
            act(w)
            os.kill(os.getpid(), signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL

    return make


def take(w: World) -> None:
    w.it.acquire()


# ---- what a survivor must be able to do; the answer is the same before and after


def lock_works(w: World) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert w.it.acquire(timeout=1)
    assert w.it.locked()
    w.it.release()
    assert w.it.owner is None
    return "works"


def rwlock_works(w: World) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with w.it.read(timeout=1):
            assert w.it.readers == 1
    with w.it.write(timeout=1):
        assert w.it.owner.pid == os.getpid()
    assert (w.it.readers, w.it.owner) == (0, None)
    return "works"


def semaphore_works(w: World) -> int:
    value = w.it.get_value()
    assert value >= 2
    assert w.it.acquire(timeout=1)
    w.it.release()
    return value


def event_works(w: World) -> str:
    w.it.set()
    assert w.it.wait(1)
    w.it.clear()
    assert not w.it.wait(0)
    return "works"


def condition_works(w: World) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with w.it:
            w.it.notify()
            assert w.it.wait(0) is False
    assert w.it.n_waiting == 0
    return "works"


def barrier_works(w: World) -> str:
    try:  # the death of a party is reported to the first process that arrives
        if w.it.parties == 1 or w.it.n_waiting == 0:
            w.it.wait(0)
    except threading.BrokenBarrierError:
        w.it.reset()
    assert (w.it.broken, w.it.n_waiting) == (False, 0)
    passed = []

    def party() -> None:
        with suppress(threading.BrokenBarrierError):
            passed.append(w.it.wait(1))

    threads = [threading.Thread(target=party) for _ in range(w.it.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(passed) == list(range(w.it.parties))
    return "works"


WORKS = {
    "lock": lock_works,
    "rlock": lock_works,
    "rwlock": rwlock_works,
    "semaphore": semaphore_works,
    "bounded_semaphore": semaphore_works,
    "event": event_works,
    "condition": condition_works,
}
NAMES = {
    "lock": "Lock",
    "rlock": "RLock",
    "rwlock": "RWLock",
    "semaphore": "Semaphore",
    "bounded_semaphore": "BoundedSemaphore",
    "event": "Event",
    "condition": "Condition",
}


def make(kind: str) -> Callable[[World], None]:
    return thing(kind, None, 2) if "semaphore" in kind else thing(kind)


def named(kind: str, *arguments: Any) -> Callable[[World], object]:
    return lambda w: getattr(w.pool, kind)("it", *arguments)


def with_it(w: World) -> None:
    with w.it:
        pass


def quietly(act: Callable[[World], object]) -> Callable[[World], object]:
    def do(w: World) -> object:
        warnings.simplefilter("ignore")
        return act(w)

    return do


def rw_with(side: str) -> Callable[[World], None]:
    def act(w: World) -> None:
        warnings.simplefilter("ignore")
        with getattr(w.it, side)():
            pass

    return act


def rw_take(side: str) -> Callable[[World], None]:
    return lambda w: getattr(w.it, side)().acquire()


def rw_release(side: str) -> Callable[[World], None]:
    return lambda w: getattr(w.it, side)().release()


def wait_at(w: World) -> None:
    with w.it:
        w.it.wait(0)


def wait_for_at(w: World) -> None:
    with w.it:
        w.it.wait_for(lambda: False, timeout=0)


def notify_all(w: World) -> None:
    with w.it:
        w.it.notify(1)
        w.it.notify_all()


def with_a_lock(w: World) -> None:
    """Make a condition that tasks can use, as ``w.it``."""
    w.things["it"] = w.pool.condition(None, w.pool.lock())


def wait_as_a_task(w: World) -> None:
    async def main() -> None:
        async with w.it.aio:
            assert await w.it.aio.wait_for(lambda: False, timeout=0.001) is False

    asyncio.run(main())


def notified_as_a_task(w: World) -> None:
    async def waiter() -> None:
        async with w.it.aio:
            assert await w.it.aio.wait(5)

    async def main() -> None:
        task = asyncio.create_task(waiter())
        await asyncio.sleep(0)
        async with w.it.aio:
            w.it.aio.notify()
        await task

    asyncio.run(main())


def cancelled_as_a_task(w: World) -> None:
    async def waiter() -> None:
        async with w.it.aio:
            await w.it.aio.wait()

    async def main() -> None:
        task = asyncio.create_task(waiter())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def destroyed_as_a_task(w: World) -> None:
    """Destroy a task that waits, while another one has the lock."""

    async def waiter() -> None:
        async with w.it.aio:
            await w.it.aio.wait()

    async def main() -> None:
        task = asyncio.create_task(waiter())
        await asyncio.sleep(0)
        async with w.it.aio:
            task.get_coro().close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def cancelled_at_a_barrier(w: World) -> None:
    async def main() -> None:
        task = asyncio.create_task(w.it.aio.wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def pass_as_a_task(w: World) -> None:
    asyncio.run(w.it.aio.wait())


def pass_alone(w: World) -> None:
    w.it.wait()


def break_it(w: World) -> None:
    w.it.abort()
    w.it.reset()


def waits_for_nobody(w: World) -> None:
    """Break the barrier by a timeout."""
    with suppress(threading.BrokenBarrierError):
        w.it.wait(0)


LOCK_OPERATIONS = [
    *(
        Operation(f"{kind}, named", (f"Pool.{kind}",), named(kind, *arguments))
        for kind, *arguments in (*((kind,) for kind in KINDS), ("barrier", 2))
    ),
    *(
        Operation(
            f"pickle a {kind}",
            (f"{NAMES[kind]}.__reduce__",),
            lambda w: by_reference(w.it),
            make(kind),
            look=WORKS[kind],
        )
        for kind in KINDS
    ),
    *(
        Operation(
            f"{kind}.{name}",
            tuple(f"{NAMES[kind]}.{one}" for one in covers),
            act,
            make(kind),
            ready,
            WORKS[kind],
        )
        for kind in ("lock", "rlock", "semaphore", "bounded_semaphore", "condition")
        for name, covers, act, ready in (
            ("acquire", ("acquire",), take, lambda w: None),
            ("release", ("release",), lambda w: w.it.release(), take),
            ("with", ("__enter__", "__exit__"), with_it, lambda w: None),
        )
    ),
    *(
        Operation(
            f"{kind}.acquire after a death",
            (f"{NAMES[kind]}.acquire",),
            quietly(take),
            after_a_death(make(kind), take),
            look=WORKS[kind],
        )
        for kind in ("lock", "rlock", "semaphore", "condition")
    ),
    *(
        Operation(
            f"{side}, prefer {prefer}",
            (f"RWLock.{side}",),
            rw_with(side),
            thing("rwlock", None, prefer),
            look=rwlock_works,
        )
        for prefer in ("writer", "reader", "fair")
        for side in ("read", "write")
    ),
    *(
        Operation(
            f"{side} after a dead {dead}",
            (f"RWLock.{side}",),
            rw_with(side),
            after_a_death(thing("rwlock"), rw_take(dead)),
            look=rwlock_works,
        )
        for side in ("read", "write")
        for dead in ("read", "write")
    ),
    *(
        Operation(
            f"release of {side}",
            (f"RWLock.{side}",),
            rw_release(side),
            thing("rwlock"),
            rw_take(side),
            rwlock_works,
        )
        for side in ("read", "write")
    ),
    Operation("Event.set", ("Event.set",), lambda w: w.it.set(), thing("event"), look=event_works),
    Operation(
        "Event.clear",
        ("Event.clear",),
        lambda w: w.it.clear(),
        thing("event"),
        lambda w: w.it.set(),
        event_works,
    ),
    Operation(
        "Event.wait", ("Event.wait",), lambda w: w.it.wait(0), thing("event"), look=event_works
    ),
    Operation(
        "Condition.wait", ("Condition.wait",), wait_at, thing("condition"), look=condition_works
    ),
    Operation(
        "Condition.wait_for",
        ("Condition.wait_for",),
        wait_for_at,
        thing("condition"),
        look=condition_works,
    ),
    Operation(
        "Condition.notify",
        ("Condition.notify", "Condition.notify_all"),
        notify_all,
        thing("condition"),
        look=condition_works,
    ),
    *(
        Operation(
            f"Condition.aio, {name}", ("Condition.aio",), act, with_a_lock, look=condition_works
        )
        for name, act in (
            ("not in time", wait_as_a_task),
            ("notified", notified_as_a_task),
            ("cancelled", cancelled_as_a_task),
            ("destroyed", destroyed_as_a_task),
        )
    ),
    Operation(
        "Barrier.aio, alone",
        ("Barrier.aio",),
        pass_as_a_task,
        thing("barrier", None, 1),
        look=barrier_works,
    ),
    Operation(
        "Barrier.aio, cancelled",
        ("Barrier.aio",),
        cancelled_at_a_barrier,
        thing("barrier", None, 2),
        look=barrier_works,
    ),
    Operation(
        "Condition.detach",
        ("Condition.detach",),
        lambda w: w.own.detach(),
        ready=lambda w: w.things.update(own=w.pool.condition()),
    ),
    Operation(
        "Barrier.wait, alone",
        ("Barrier.wait",),
        pass_alone,
        thing("barrier", None, 1),
        look=barrier_works,
    ),
    Operation(
        "Barrier.wait, broken",
        ("Barrier.wait",),
        waits_for_nobody,
        thing("barrier", None, 2),
        look=barrier_works,
    ),
    Operation(
        "Barrier.abort and reset",
        ("Barrier.abort", "Barrier.reset"),
        break_it,
        thing("barrier", None, 2),
        look=barrier_works,
    ),
    Operation(
        "pickle a barrier",
        ("Barrier.__reduce__",),
        lambda w: by_reference(w.it),
        thing("barrier", None, 2),
        look=barrier_works,
    ),
]

LOCKS_NOT_TRIED = {
    **dict.fromkeys(
        (f"{cls}.aio" for cls in ("Lock", "Semaphore", "BoundedSemaphore", "Event")),
        "the blocking methods, called again: a wait's only store is the sleepers' bit",
    ),
    **dict.fromkeys(
        (
            f"{cls}.{name}"
            for cls in (*NAMES.values(), "Barrier")
            for name in ("name", "handle", "member")
        ),
        "reads what is fixed",
    ),
    **dict.fromkeys(
        (f"{cls}.detach" for cls in (*NAMES.values(), "Barrier") if cls != "Condition"),
        "what Pool.close calls",
    ),
    **dict.fromkeys(
        (f"{cls}.__init__" for cls in ("RWLock", "Semaphore", "Event", "Condition", "Barrier")),
        "as the pool's methods, in the default pool",
    ),
    **dict.fromkeys(
        (f"{cls}.{name}" for cls in ("Lock", "RLock") for name in ("locked", "owner")),
        "reads the lock word, and asks the kernel",
    ),
    **dict.fromkeys(
        (
            f"{cls}.{name}"
            for cls in ("Semaphore", "BoundedSemaphore")
            for name in ("initial", "recovers")
        ),
        "reads what is fixed",
    ),
    **dict.fromkeys(
        ("Semaphore.get_value", "BoundedSemaphore.get_value"), "what every look of this table calls"
    ),
    **dict.fromkeys(
        ("RWLock.owner", "RWLock.readers", "RWLock.prefer"), "reads entries, and asks the kernel"
    ),
    "Event.is_set": "reads a word",
    "Condition.n_waiting": "reads a table",
    **dict.fromkeys(
        ("Barrier.parties", "Barrier.n_waiting", "Barrier.broken"), "reads words and a table"
    ),
}
