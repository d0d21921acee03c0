"""A process ends while a thread of it is held in the middle of a call; run as a script.

Usage: ``python crash_ends.py CALL``, with a fault build, where CALL is a name in `CALLS`. The
process that runs this forks a child for each step of the call: a daemon thread of the child is held
at that step, without the GIL, and the main thread of the child ends. When the child has done all
that it does to leave its pools, others use the memory, the thread continues as far as it can, and
only then the child may end. It must end normally, and leave a valid pool.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
import struct
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from children import eventually

import onecopy as oc
from onecopy import _native
from onecopy import multiprocessing as dropin

if TYPE_CHECKING:
    from collections.abc import Callable

HANG = 60  # seconds: a watchdog
LARGE = 300_000  # bytes; this many are copied without the GIL
USED = 48  # arrays that others make in the meantime
QUIET = 5  # looks, a millisecond apart, after which a thread that slept in all of them waits

# The words of the shared record: the core's StallRecord, and two more words.
STALLED, GO_ON, LEFT, MAY_END, THREAD, DONE = range(6)


def item(number: int) -> Any:
    """Make a numbered object with an array, a pickled part, and a large buffer."""
    return {
        "number": number,
        "data": np.full(3000, number, "i4"),
        "large": np.full(LARGE, number, "u1"),
    }


def is_item(thing: Any) -> None:
    """Check that an object is complete."""
    assert (thing["data"] == thing["number"]).all()
    assert (thing["large"] == thing["number"]).all()


@dataclass(frozen=True)
class Call:
    """One entry of the table.

    `make` gives what the call works with, and `wake` ends its wait; both are done by a process that
    stays. `ready` gives the call itself, in the child.
    """

    make: Callable[[oc.Pool], Any]
    ready: Callable[[Any], Callable[[], object]]
    wake: Callable[[Any], object] = lambda _thing: None
    look: Callable[[Any], object] = lambda _thing: None


def drain(queue: Any) -> None:
    """Take what is left: nothing, or whole objects."""
    with suppress(Empty):
        while True:
            is_item(queue.get(timeout=0))


def full(pool: oc.Pool) -> Any:
    queue = pool.queue(maxsize=2)
    queue.put_many([item(1), item(2)])
    return queue


def take_two(queue: Any) -> None:
    for _ in range(2):
        is_item(queue.get())


def taken(pool: oc.Pool) -> Any:
    """Return a queue with an unfinished task."""
    queue = pool.queue()
    queue.put(1)
    queue.get()
    return queue


def stream_that_waits(pool: oc.Pool) -> Any:
    stream = pool.stream(depth=1, policy="lossless")
    reader = stream.subscribe()
    stream.publish(item(1))
    return stream, reader


def no_frames(pool: oc.Pool) -> Any:
    frames = pool.frames(None, (100,), "u1", 1)
    return frames, [frames.acquire()]


def held(kind: str) -> Callable[[oc.Pool], Any]:
    def make(pool: oc.Pool) -> Any:
        lock = getattr(pool, kind)()
        lock.acquire()
        return lock

    return make


def rwlock(side: str) -> Callable[[oc.Pool], Any]:
    """Return a lock that is held for reading or for writing."""

    def make(pool: oc.Pool) -> Any:
        lock = pool.rwlock()
        getattr(lock, side)().acquire()
        return lock

    return make


def no_tokens(pool: oc.Pool) -> Any:
    return pool.semaphore(None, 0)


def locked(kind: str) -> Callable[[oc.Pool], Any]:
    """Return a container whose lock is held."""

    def make(pool: oc.Pool) -> Any:
        container = getattr(pool, kind)()
        lock = container.lock()
        lock.__enter__()
        return container, lock

    return make


def with_lock(thing: Any) -> Callable[[], object]:
    def call() -> None:
        with thing[0].lock():
            pass

    return call


def meet(barrier: Any) -> None:
    threading.Thread(target=barrier.wait).start()


def notify(condition: Any) -> None:
    with condition:
        condition.notify()


def wait(condition: Any) -> Callable[[], object]:
    def call() -> None:
        with condition:
            condition.wait()

    return call


def read_one(stream: Any) -> Callable[[], object]:
    return stream.subscribe().get


def acquire_frame(thing: Any) -> Callable[[], object]:
    frames, frame = thing
    frame.clear()  # a forked child has it, too
    return frames.acquire


def put_large(pool: oc.Pool) -> Callable[[], object]:
    return lambda: [pool.put(item(2)) for _ in range(3)]


CALLS = {
    "Queue.get": Call(lambda p: p.queue(), lambda q: q.get, lambda q: q.put(item(1)), drain),
    "Queue.get, array": Call(
        lambda p: p.queue(), lambda q: q.get, lambda q: q.put(np.zeros(LARGE, "u1"))
    ),
    "Queue.get, number": Call(lambda p: p.queue(), lambda q: q.get, lambda q: q.put(1)),
    "Queue.get_many": Call(
        lambda p: p.queue(), lambda q: lambda: q.get_many(3), lambda q: q.put_many([1, item(2)])
    ),
    "Queue.get, redelivered": Call(
        lambda p: p.queue(redeliver=True), lambda q: q.get, lambda q: q.put(item(1)), drain
    ),
    "Queue.get_message": Call(
        lambda p: p.queue(redeliver=True), lambda q: q.get_message, lambda q: q.put(item(1)), drain
    ),
    "Queue.put": Call(full, lambda q: lambda: q.put(item(2)), lambda q: is_item(q.get()), drain),
    "Queue.put_many": Call(full, lambda q: lambda: q.put_many([item(3), item(4)]), take_two, drain),
    "Queue.join": Call(taken, lambda q: q.join, lambda q: q.task_done()),
    "Subscription.get": Call(lambda p: p.stream(), read_one, lambda s: s.publish(item(1))),
    "Subscription.__next__": Call(
        lambda p: p.stream(), lambda s: s.subscribe().__next__, lambda s: s.publish(item(1))
    ),
    "Stream.publish": Call(
        stream_that_waits, lambda t: lambda: t[0].publish(item(2)), lambda t: is_item(t[1].get())
    ),
    "FramePool.acquire": Call(no_frames, acquire_frame, lambda t: t[1].clear()),
    "Lock.acquire": Call(held("lock"), lambda k: k.acquire, lambda k: k.release()),
    "RLock.acquire": Call(held("rlock"), lambda k: k.acquire, lambda k: k.release()),
    "RWLock.read": Call(rwlock("write"), lambda k: k.read().acquire, lambda k: k.write().release()),
    "RWLock.write": Call(rwlock("read"), lambda k: k.write().acquire, lambda k: k.read().release()),
    "Semaphore.acquire": Call(no_tokens, lambda k: k.acquire, lambda k: k.release()),
    "Event.wait": Call(lambda p: p.event(), lambda e: e.wait, lambda e: e.set()),
    "Condition.wait": Call(lambda p: p.condition(), wait, notify),
    "Barrier.wait": Call(
        lambda p: p.barrier(None, 2),
        lambda b: b.wait,
        meet,
    ),
    "List.lock": Call(locked("list"), with_lock, lambda t: t[1].__exit__(None, None, None)),
    "Dict.lock": Call(locked("dict"), with_lock, lambda t: t[1].__exit__(None, None, None)),
    "List.append": Call(
        locked("list"),
        lambda t: lambda: t[0].append(item(1)),
        lambda t: t[1].__exit__(None, None, None),
    ),
    "Dict.__setitem__": Call(
        locked("dict"),
        lambda t: lambda: t[0].__setitem__("a", item(1)),
        lambda t: t[1].__exit__(None, None, None),
    ),
    "multiprocessing.Queue.get": Call(
        lambda _p: dropin.get_context("fork").Queue(), lambda q: q.get, lambda q: q.put(item(1))
    ),
    "multiprocessing.JoinableQueue.join": Call(
        lambda _p: unfinished(), lambda q: q.join, lambda q: (q.get(), q.task_done())
    ),
    "multiprocessing.SimpleQueue.get": Call(
        lambda _p: dropin.get_context("fork").SimpleQueue(),
        lambda q: q.get,
        lambda q: q.put(item(1)),
    ),
    "Ref.get": Call(lambda p: p.put(bytes(LARGE)), lambda r: r.get),
    "Pool.put": Call(lambda p: p, put_large),
    "Pool.zeros": Call(lambda p: p, lambda p: lambda: p.zeros(LARGE)),
    "Pool.collect": Call(lambda p: p, lambda p: p.collect),
    "Pool.validate": Call(lambda p: p, lambda p: p.validate),
}


def unfinished() -> Any:
    queue = dropin.get_context("fork").JoinableQueue()
    queue.put(1)
    return queue


# ---- one end -------------------------------------------------------------------------------------


class Record:
    """The words that the two processes share."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)

    def __getitem__(self, word: int) -> int:
        return int(struct.unpack_from("Q", self.memory, 8 * word)[0])

    def __setitem__(self, word: int, value: int) -> None:
        struct.pack_into("Q", self.memory, 8 * word, value)

    def clear(self) -> None:
        self.memory[:48] = bytes(48)


def be_the_child(call: Call, thing: Any, step: int, record: Record, order: int) -> None:
    """Start the thread, and end on command."""
    signal.alarm(HANG)
    act = call.ready(thing)

    def run() -> None:
        record[THREAD] = threading.get_native_id()
        _native.stall_at(step, record.memory)
        act()
        _native.stall_at(0, record.memory)
        record[DONE] = 1
        threading.Event().wait()  # it keeps what it has

    threading.Thread(target=run, daemon=True).start()
    os.read(order, 1)
    sys.exit(0)


class Rest:
    """Tell whether a thread rests: it sleeps, or it has ended."""

    def __init__(self, pid: int, thread: int) -> None:
        self.stat = Path(f"/proc/{pid}/task/{thread}/stat")
        self.quiet = 0

    def __call__(self) -> bool:
        try:
            sleeps = self.stat.read_text().rpartition(")")[2].split()[0] in "SZX"
        except (FileNotFoundError, ProcessLookupError):
            sleeps = True
        self.quiet = self.quiet + 1 if sleeps else 0
        return self.quiet >= QUIET


def use_memory(pool: oc.Pool, arrays: list[Any]) -> None:
    arrays += [pool.full(LARGE if number % 8 == 0 else 1000, 7, "u1") for number in range(USED)]


def end_at(call: Call, pool: oc.Pool, step: int, record: Record) -> bool:
    """Let a child end with its thread held at a step. False: the thread finished before it."""
    record.clear()
    thing = call.make(pool)
    order, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(tell)
        be_the_child(call, thing, step, record, order)
    os.close(order)
    eventually(lambda: record[THREAD], "the thread to begin")
    eventually(Rest(pid, record[THREAD]), "the thread to wait")
    if not record[STALLED]:
        call.wake(thing)
        eventually(lambda: record[STALLED] or record[DONE], "the thread to come through")
    stalled = bool(record[STALLED])
    os.close(tell)
    # Finalizers of the child may have to wait for a lock that the thread owns.
    main_waits = Rest(pid, pid)
    eventually(lambda: record[LEFT] or main_waits(), "the child to leave")
    # What the child has released belongs to other processes now, and the thread must not write
    # there. The others have to wait if the thread owns the lock of the heap.
    others: list[Any] = []
    user = threading.Thread(target=use_memory, args=(pool, others))
    user.start()
    eventually(Rest(os.getpid(), user.native_id), "them to be done, or to wait")
    record[GO_ON] = 1
    eventually(lambda: record[LEFT], "the child to leave")
    eventually(Rest(pid, record[THREAD]), "the thread to wait, or to be gone")
    record[MAY_END] = 1
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"step {step}: the child ended with status {status}"
    user.join()
    assert len(others) == USED
    assert all((array == 7).all() for array in others)
    others.clear()
    for each in {pool, oc.default_pool()}:
        each.collect()
        assert each.validate() == [], (step, each.validate())
    call.look(thing)
    del thing
    gc.collect()
    for each in {pool, oc.default_pool()}:
        stats = each.stats()
        assert (stats.processes, stats.used, stats.structures) == (1, 0, 0), (step, stats)
    return stalled


def main() -> None:
    call = CALLS[sys.argv[1]]
    record = Record()
    with oc.Pool.create("ends", size="32MiB", max_processes=8) as pool:
        step = 1
        while end_at(call, pool, step, record):
            step += 1
    print(step - 1)


if __name__ == "__main__":
    main()
