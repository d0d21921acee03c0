"""What an observer sees of each structure, and that it changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import queue as standard
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from children import LIMIT, eventually
from commands import output
from seeds import SEED
from stage import Stage

import onecopy as oc
from onecopy.observer import explain


def only(things):
    (thing,) = things
    return thing


@pytest.fixture
def seen(pool):
    """Look at the pool of this process."""
    with oc.observe(pool) as observer:
        yield observer.snapshot


# ---- structures ---------------------------------------------------------------------------------


def test_a_queue(pool, seen):
    queue = pool.queue("jobs", maxsize=4)
    for i in range(3):
        queue.put(i)
    queue.get()
    view = only(seen().queues)
    assert (view.kind, view.name, str(view)) == ("queue", "jobs", "queue 'jobs'")
    assert (view.depth, view.put, view.taken, view.maxsize, view.room) == (2, 3, 1, 4, 4)
    assert (view.closed, view.redelivers, view.unfinished) == (False, False, 3)
    assert view.open_in == (pool.member.slot,)
    assert view.readable
    assert view.put_rate is None
    queue.shutdown()
    assert only(seen().queues).closed


def test_rates_and_the_oldest_message(pool):
    queue = pool.queue("jobs")
    queue.put(1)
    with oc.observe(pool) as observer:
        first = observer.snapshot()
        assert first.seconds is None
        assert only(first.queues).oldest == 0
        queue.put(2)
        second = observer.snapshot()
        view = only(second.queues)
        assert view.put_rate == pytest.approx(1 / second.seconds)
        assert view.taken_rate == 0
        assert view.oldest == pytest.approx(second.seconds)
        queue.get()
        assert only(observer.snapshot().queues).oldest == 0  # the next one came later
        queue.get()
        assert only(observer.snapshot().queues).oldest is None


def test_a_queue_that_redelivers(pool, seen):
    queue = pool.queue("jobs", redeliver=True)
    queue.put("a")
    queue.put("b")
    kept = queue.get_message()
    view = only(seen().queues)
    assert (view.depth, view.unfinished, view.occupied, view.redelivers) == (1, 2, 2, True)
    taker = only(view.takers)
    assert (taker.slot, taker.pid, taker.count) == (pool.member.slot, os.getpid(), 1)
    kept.task_done()
    assert only(seen().queues).takers == ()


def test_a_stream(pool, seen):
    stream = pool.stream("news", depth=4)
    slow, fast = stream.subscribe(), stream.subscribe()
    for i in range(6):
        stream.publish(i)
        fast.get()
    view = only(seen().streams)
    assert (view.published, view.depth, view.policy, view.closed) == (6, 4, "lossy", False)
    assert sorted((each.lag, each.missed) for each in view.subscribers) == [(0, 0), (6, 0)]
    slow.get()
    assert sorted((each.lag, each.missed) for each in only(seen().streams).subscribers) == [
        (0, 0),
        (3, 2),
    ]
    slow.close()
    stream.subscribe()
    assert all(each.missed == 0 for each in only(seen().streams).subscribers)


def test_frames(pool, seen):
    frames = pool.frames("cam0", (16,), "u1", count=4)
    queue = pool.queue("jobs")
    kept = [frames.acquire(), frames.acquire()]
    queue.put(frames.acquire())
    view = only(seen().frames)
    assert (view.count, view.free, view.out) == (4, 1, 3)
    mine, sent = view.holders
    assert (mine.slot, mine.frames, mine.thing) == (pool.member.slot, 2, None)
    assert (sent.slot, sent.frames, str(sent.thing)) == (None, 1, "queue 'jobs'")
    del kept
    assert only(seen().frames).free == 3


def test_how_long_a_frame_is_out(pool):
    frames = pool.frames("cam0", (16,), "u1", count=2)
    with oc.observe(pool) as observer:
        kept = frames.acquire()
        assert only(only(observer.snapshot().frames).holders).seconds == 0
        later = observer.snapshot()
        assert only(only(later.frames).holders).seconds == pytest.approx(later.seconds)
        kept = None  # a new generation of the same frame
        kept = frames.acquire()
        assert only(only(observer.snapshot().frames).holders).seconds == 0
        assert kept is not None


def test_locks(pool, seen):
    lock, rlock = pool.lock("a"), pool.rlock("b")
    lock.acquire()
    rlock.acquire()
    for view in seen().locks:
        owner = only(view.holders)
        assert (owner.role, owner.slot, owner.pid) == ("owner", pool.member.slot, os.getpid())
        assert 0 <= owner.seconds < LIMIT
    assert [(view.kind, view.name) for view in seen().locks] == [("lock", "a"), ("rlock", "b")]
    lock.release()
    rlock.release()
    assert all(view.holders == () for view in seen().locks)


def test_a_lock_for_readers_and_writers(pool, seen):
    lock = pool.rwlock("table")
    with lock.read():
        assert [(each.role, each.count) for each in only(seen().locks).holders] == [("reader", 1)]
    with lock.write():
        assert [each.role for each in only(seen().locks).holders] == ["writer"]


def test_the_other_locks(pool, seen):
    semaphore, event = pool.semaphore("seats", 3), pool.event("go")
    kept = [pool.barrier("start", 2), pool.condition("news")]
    kept += [pool.list(name="items"), pool.dict(name="map")]
    semaphore.acquire()
    event.set()
    views = {view.name: view for view in seen().locks if view.name is not None}
    assert views["seats"].details["value"] == 2
    assert [(each.role, each.count) for each in views["seats"].holders] == [("holder", 1)]
    assert views["go"].details == {"is_set": 1}
    assert views["start"].details["parties"] == 2
    assert {views[name].kind for name in ("news", "items", "map")} == {"condition", "list", "dict"}
    parts = {str(view) for view in seen().locks if view.name is None}
    assert {"the rlock of list 'items'", "the rlock of dict 'map'"} <= parts
    assert len(kept) == 4


def test_memory(pool, seen):
    queue = pool.queue("jobs")
    queue.put(np.zeros(1 << 20, "u1"))
    kept = pool.zeros((1 << 21,), "u1")
    snapshot = seen()
    assert only(snapshot.queues).bytes > 1 << 20
    assert only(snapshot.processes).bytes >= 1 << 21
    assert snapshot.used >= (1 << 20) + (1 << 21)
    assert kept.nbytes == 1 << 21


# ---- where the memory lies ----------------------------------------------------------------------


def places(shot, belongs):
    """Return the numbers of the parts that one block fills."""
    return [
        number
        for number, cell in enumerate(shot.memory_map)
        if cell.used == shot.cell_bytes and belongs(cell)
    ]


def test_the_map_of_the_memory_has_the_order_of_addresses(pool, seen):
    empty = seen()
    assert 256 < len(empty.memory_map) <= 512
    assert empty.cell_bytes * len(empty.memory_map) >= empty.size
    assert empty.cell_bytes * (len(empty.memory_map) - 1) < empty.size
    assert sum(cell.used for cell in empty.memory_map) == empty.used + empty.structure_bytes
    size = 4 * empty.cell_bytes
    pool["kept"] = np.ones(size, "u1")
    kept, held = pool["kept"], pool.zeros(size, "u1")
    shot = seen()
    assert sum(cell.used for cell in shot.memory_map) == shot.used + shot.structure_bytes
    of_kept = places(shot, lambda cell: cell.thing is not None and cell.thing.name == "kept")
    of_held = places(shot, lambda cell: cell.thing is None)
    for found in (of_kept, of_held):
        assert len(found) >= 3
        assert found == list(range(found[0], found[-1] + 1))
    here = pool.member.slot
    for number in of_kept + of_held:
        assert (shot.memory_map[number].slot, shot.memory_map[number].holders) == (here, 1)
    apart = (held.ctypes.data - kept.ctypes.data) / shot.cell_bytes
    assert abs(of_held[0] - of_kept[0] - apart) <= 1
    del kept, held
    assert [each.slot for each in seen().memory_map] == [each.slot for each in empty.memory_map]


def test_the_map_of_the_memory_knows_who_holds_a_block(pool, seen, start):
    size = 4 * seen().cell_bytes
    pool["kept"] = np.ones(size, "u1")
    mine = places(seen(), lambda cell: cell.thing is not None)
    assert len(mine) >= 3
    assert all(seen().memory_map[number].holders == 0 for number in mine)
    ready = pool.queue()
    child = start("fork", hold_and_stay, pool, "kept", ready)
    ready.get(timeout=LIMIT)
    (slot,) = [each.slot for each in seen().processes if each.pid == child.pid]
    for number in mine:
        cell = seen().memory_map[number]
        assert (cell.thing.name, cell.slot, cell.holders) == ("kept", slot, 1)
    kept = pool["kept"]
    assert all(seen().memory_map[number].holders == 2 for number in mine)
    child.kill()
    pool.collect()
    here = pool.member.slot
    assert all(seen().memory_map[number].slot == here for number in mine)
    del kept


def hold_and_stay(pool, name, ready):
    kept = pool[name]
    ready.put(None)
    pool.event("never").wait()
    del kept


# ---- processes ----------------------------------------------------------------------------------


def test_a_process(pool, seen):
    process = only(seen().processes)
    assert (process.pid, process.parent_pid) == (os.getpid(), os.getppid())
    assert (process.slot, process.state) == (pool.member.slot, "alive")
    assert process.same_namespace
    assert process.command is not None
    assert process.started is not None
    assert process.started <= process.joined
    assert process.waits == ()
    assert seen().process(pool.member.slot).pid == os.getpid()
    assert seen().process(None) is None


def test_threads_that_wait_are_counted():
    with Stage() as stage:
        stage.enter(
            "many",
            "import threading\n"
            "q = pool.queue('jobs')\n"
            "for _ in range(25): threading.Thread(target=q.get, daemon=True).start()\n"
            "idle()",
        )
        eventually(lambda: stage.process("many").more_may_wait, "all records to be used")
        process = stage.process("many")
        assert len(process.waits) == 20
        assert len({wait.thread for wait in process.waits}) == 20
        assert {str(wait.thing) for wait in process.waits} == {"queue 'jobs'"}
        assert only(stage.observer.snapshot().queues).consumers_waiting == 20


def test_a_wait_is_gone_when_it_is_over():
    with Stage() as stage:
        stage.enter("one", "q = pool.queue('jobs'); [q.get() for _ in range(2)]; idle()", "get")

        def age():
            return max((wait.seconds for wait in stage.process("one").waits), default=None)

        eventually(lambda: age() > 0.5, "the wait to be older")
        began = time.monotonic() - age()
        with oc.Pool.open(stage.name) as pool:
            pool.queue("jobs").put(1)
            eventually(
                lambda: (now := age()) is not None and time.monotonic() - now > began + 0.3,
                "another wait, which began later",
            )
            pool.queue("jobs").put(2)
            eventually(lambda: age() is None, "no wait")


def test_a_wait_with_a_time_limit_leaves_nothing(pool, seen):
    with pytest.raises(standard.Empty):
        pool.queue("jobs").get(timeout=0.01)
    assert only(seen().processes).waits == ()


def test_the_next_owner_of_a_slot_has_no_waits():
    with Stage(max_processes=1) as stage:
        stage.enter("first", "pool.queue('jobs').get()", "get")
        slot = stage.process("first").slot
        stage.kill("first")
        dead = stage.process("first")
        assert (dead.state, [wait.why for wait in dead.waits]) == ("dead", ["get"])
        stage.enter("second", "q = pool.queue('jobs'); idle()")
        second = stage.process("second")
        assert (second.slot, second.waits) == (slot, ())


def test_a_child_of_a_fork_in_a_wait():
    """A handler forks while its thread waits. The child does not wait, the parent still does."""
    with Stage() as stage:
        stage.enter(
            "parent",
            "import os, signal\n"
            "def fork(*_):\n"
            "    if os.fork() == 0: idle()\n"
            "signal.signal(signal.SIGUSR1, fork)\n"
            "pool.queue('jobs').get()",
            "get",
        )
        os.kill(stage.pids["parent"], signal.SIGUSR1)
        # The row that the parent reserves for the child is no process.
        eventually(lambda: len(stage.observer.snapshot().processes) == 2, "a child")
        (child,) = (
            each for each in stage.observer.snapshot().processes if each.pid != stage.pids["parent"]
        )
        try:
            assert child.waits == ()
            eventually(lambda: stage.waits("parent") == ["get"], "the parent to wait again")
            with oc.Pool.open(stage.name) as pool:
                pool.queue("jobs").put(1)
            eventually(lambda: stage.waits("parent") == [], "the parent to continue")
        finally:
            os.kill(child.pid, signal.SIGKILL)


# ---- without a trace ----------------------------------------------------------------------------


def contents(directory):
    return {
        path.name: (path.stat().st_ino, hashlib.sha256(path.read_bytes()).digest())
        for path in directory.iterdir()
    }


def test_nothing_is_changed(pool_directory):
    with Stage() as stage:
        stage.enter(
            "culprit", "q, l = pool.queue('jobs', maxsize=1), pool.lock('a'); l.acquire(); idle()"
        )
        stage.enter("producer", "q = pool.queue('jobs'); q.put(1); q.put(2)", "put")
        for role in stage.pids:
            stage.stop(role)
        before = contents(pool_directory)
        for _ in range(3):
            assert len(stage.observer.snapshot().processes) == 2
        assert contents(pool_directory) == before
        for role in stage.pids:
            stage.kill(role)
        before = contents(pool_directory)
        assert {each.state for each in stage.observer.snapshot().processes} == {"dead"}
        assert contents(pool_directory) == before


def left_behind():
    """A pool that is not persistent, whose only process was killed."""
    program = (
        "import os, signal, onecopy as oc\n"
        "pool = oc.Pool.create('left', size='1MiB'); pool.queue('jobs').put(1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=LIMIT)
    assert done.returncode == -signal.SIGKILL


def test_a_stale_pool_can_be_seen_and_stays(pool_directory):
    left_behind()
    before = contents(pool_directory)
    with oc.observe("left") as observer:
        seen = observer.snapshot()
    assert only(seen.processes).state == "dead"
    assert only(seen.queues).depth == 1
    assert contents(pool_directory) == before


def test_no_slot_is_needed():
    with Stage(max_processes=1) as stage:
        stage.enter("only", "q = pool.queue('jobs'); idle()")
        assert len(stage.observer.snapshot().processes) == 1


def test_a_pool_in_a_memfd():
    with oc.Pool.create("hidden", size="4MiB", backing="memfd") as pool:
        kept = pool.queue("jobs")
        with oc.observe("hidden") as observer:
            seen = observer.snapshot()
        assert seen.memfd
        assert only(seen.queues).name == "jobs"
        assert kept is not None


def test_a_pool_that_is_marked_corrupt(pool):
    kept = pool.queue("jobs")
    with oc.observe(pool) as observer:
        with Path(pool.member.path).open("r+b") as file:
            file.seek(128 + 16)  # `corrupt` in the header
            file.write((1).to_bytes(4, "little"))
        seen = observer.snapshot()
        with Path(pool.member.path).open("r+b") as file:
            file.seek(128 + 16)
            file.write(bytes(4))
    assert seen.corrupt
    assert only(seen.queues).name == "jobs"
    assert kept is not None


def test_damaged_pools_do_not_end_the_observer(pool_directory):
    """Words of the tables and of the bodies are changed in a copy. It is read or refused."""
    path = pool_directory / "damaged"
    with oc.Pool.create("whole", size="1MiB", max_processes=4) as pool:
        queue = pool.queue("jobs", redeliver=True)
        frames = pool.frames("cam0", (16,), "u1", count=2)
        kept = [pool.stream("news"), pool.lock("a"), pool.dict(name="map"), frames.acquire()]
        queue.put({"a": np.zeros(1000)})
        kept.append(queue.get_message())
        path.write_bytes(Path(pool.member.path).read_bytes())
        path.chmod(0o600)
    words = np.memmap(path, "u8", "r+")
    used = np.flatnonzero(words[64:]) + 64  # behind the line of the header that is checked first
    whole = words[used].copy()
    draw = np.random.default_rng(SEED)
    seen = 0
    for _ in range(300):
        at = draw.choice(used, 40)
        words[at] = np.where(
            draw.integers(2, size=40), draw.integers(1 << 63, size=40, dtype="u8"), ~np.uint64(0)
        )
        try:
            with oc.observe(path) as observer:
                explain(observer.snapshot())
                seen += 1
        except oc.OneCopyError:
            pass
        words[used] = whole
    del words
    path.unlink()
    assert seen > 20
    assert len(kept) == 5


def test_what_cannot_be_observed(pool):
    with pytest.raises(oc.PoolNotFound):
        oc.observe("nothing")
    with pytest.raises(ValueError, match="name"):
        oc.observe("")
    observer = oc.observe(pool)
    observer.close()
    with pytest.raises(ValueError, match="closed"):
        observer.snapshot()


def test_a_pool_that_goes_away():
    with oc.Pool.create("short", size="1MiB"):
        observer = oc.observe("short")
        observer.snapshot()
    with pytest.raises(oc.PoolNotFound):
        observer.snapshot()


# ---- the command --------------------------------------------------------------------------------


def show(*arguments):
    return output("show", *arguments)


def test_show(pool):
    kept = [pool.queue("jobs"), pool.stream("my news"), pool.frames("cam0", (4,), "u1", count=2)]
    kept.append(pool.lock("door"))
    pool.queue("jobs").put(1)
    kept[3].acquire()
    text = show(pool.member.path, "--seconds", "0")
    for word in ("jobs", "'my news'", "cam0", "door", str(os.getpid()), "alive"):
        assert word in text
    kept[3].release()


def test_show_in_json(pool):
    kept = pool.queue("jobs")
    kept.put(1)
    seen = json.loads(show(pool.member.path, "--json", "--seconds", "0.01"))
    assert only(seen["queues"])["depth"] == 1
    assert only(seen["queues"])["put_rate"] == 0
    assert only(seen["processes"])["pid"] == os.getpid()
