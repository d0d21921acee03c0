"""Fork at any moment: the child is a member of its own, and inherited objects stay valid in it."""

import contextlib
import fcntl
import multiprocessing
import os
import signal
import threading
import traceback

import numpy as np
import pytest
from children import LIMIT, used

import onecopy as oc


def forked(function):
    """Run a function in a bare fork, which ends by `os._exit`; return its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:  # noqa: BLE001 - a child of a test must never return into pytest
            traceback.print_exc()
        finally:
            os._exit(status)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_is_a_member_of_its_own(pool):
    queue, go = pool.queue(), pool.queue()
    slot = pool.member.slot

    def child():
        assert pool.member.slot != slot
        queue.put(pool.stats().processes)
        go.get(timeout=LIMIT)

    wait = forked(child)
    assert queue.get(timeout=LIMIT) == 2
    assert pool.member.slot == slot
    go.put(None)
    assert wait() == 0
    pool.collect()
    assert pool.stats().processes == 1


def test_what_a_child_inherits_stays_alive_in_it(pool):
    held = {"array": pool.full(100_000, 7, "u1"), "ref": pool.put(np.arange(10_000))}
    frames = pool.frames(None, (1000,), "u1", 2)
    held["frame"] = frames.acquire()
    held["frame"][:] = 5
    gone, checked, done = pool.queue(), pool.queue(), pool.queue()

    def child():
        gone.get(timeout=LIMIT)
        more = [pool.full(100_000, 1, "u1") for _ in range(50)]
        assert (held["array"] == 7).all()
        assert (held["frame"] == 5).all()
        np.testing.assert_array_equal(held["ref"].get(), np.arange(10_000))
        checked.put((pool.stats().used, frames.available))
        done.get(timeout=LIMIT)
        del more

    wait = forked(child)
    held.clear()
    gone.put(None)
    in_use, available = checked.get(timeout=LIMIT)
    assert in_use >= 51 * 100_000 + 80_000
    assert available == 1
    done.put(None)
    assert wait() == 0
    assert pool.collect() > 0
    assert frames.available == 2
    frames.close()
    assert pool.stats().used == 0
    assert pool.validate() == []


def test_what_a_parent_has_stays_alive_when_the_child_drops_it(pool):
    kept = {"array": pool.full(100_000, 7, "u1")}

    def child():
        kept.clear()
        pool.close()

    assert forked(child)() == 0
    pool.collect()
    more = [pool.full(100_000, 1, "u1") for _ in range(50)]
    assert (kept["array"] == 7).all()
    del more


def test_a_child_that_dies_at_once_costs_nothing(pool):
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    pool.collect()
    assert pool.stats().processes == 1
    assert pool.validate() == []


def test_grandchildren(pool):
    queue = pool.queue()

    def grandchild():
        queue.put(("grandchild", np.arange(10_000)))

    def child():
        queue.put("child")
        assert forked(grandchild)() == 0

    assert forked(child)() == 0
    assert queue.get(timeout=LIMIT) == "child"
    name, array = queue.get(timeout=LIMIT)
    assert (name, array[-1]) == ("grandchild", 9999)
    del array
    assert used(pool) == 0


def test_fork_while_threads_use_the_pool(pool):
    queue = pool.queue(maxsize=8)
    stop = threading.Event()

    def produce():
        while not stop.is_set():
            queue.put(pool.full(1000, 3, "u1"))

    def consume():
        while (got := queue.get()) is not None:
            assert (got == 3).all()

    producers = [threading.Thread(target=produce) for _ in range(2)]
    consumers = [threading.Thread(target=consume) for _ in range(2)]
    for thread in (*producers, *consumers):
        thread.start()

    def child():
        mine = pool.queue()
        for index in range(100):
            mine.put(pool.full(2000, index, "u1"))
            assert (mine.get() == index).all()

    for _ in range(10):
        assert forked(child)() == 0
    stop.set()
    for thread in producers:
        thread.join()
    queue.put_many([None, None])
    for thread in consumers:
        thread.join()
    assert used(pool) == 0
    assert pool.validate() == []


def die_by_kill(_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("end", [die_by_kill, os._exit])
@pytest.mark.parametrize("leave", [1, 7])
def test_children_that_died_leave_their_slots_to_later_ones(end, leave):
    """With any number of dead processes, few or most of the slots, and any other members."""
    with oc.Pool.create(size="16MiB", max_processes=8) as pool:
        queue, go = pool.queue(), pool.queue()

        def lives_on():
            queue.put("in")
            go.get(timeout=LIMIT)

        living = [forked(lives_on) for _ in range(7 - leave)]
        for _ in living:
            assert queue.get(timeout=LIMIT) == "in"
        held = pool.full(100_000, 7, "u1")
        for index in range(30):
            pid = os.fork()
            if pid == 0:
                with contextlib.suppress(BaseException):
                    mine = pool.full(1 << 20, index, "u1")
                    queue.put((pool.member.slot, int(held[0]), mine))
                end(0)
            os.waitpid(pid, 0)
            slot, seen, array = queue.get(timeout=LIMIT)
            assert (slot != pool.member.slot, seen, array[-1]) == (True, 7, index)
            del array
        go.put_many([None] * len(living))
        assert [wait() for wait in living] == [0] * len(living)
        del held
        assert used(pool) == 0
        assert pool.stats().processes == 1
        assert pool.validate() == []


def test_a_full_table_of_the_living_makes_no_fork_wait(pool_directory):
    """The child waits a moment only for a slot that is being cleaned, or a heap that is locked."""
    with oc.Pool.create(size="16MiB", max_processes=2) as pool:
        queue, go = pool.queue(), pool.queue()

        def lives_on():
            queue.put("in")
            go.get(timeout=LIMIT)

        wait = forked(lives_on)
        assert queue.get(timeout=LIMIT) == "in"

        def child():
            with pytest.raises(oc.OneCopyError, match="max_processes"):
                pool.zeros(5)

        assert forked(child)() == 0
        go.put(None)
        assert wait() == 0


def test_children_that_are_killed_while_several_threads_fork():
    """Two forks may want the same dead slot, or meet a slot that another thread is cleaning."""
    with oc.Pool.create(size="16MiB", max_processes=8) as pool:
        queue = pool.queue()

        def fork_often():
            for _ in range(40):
                pid = os.fork()
                if pid == 0:
                    with contextlib.suppress(BaseException):
                        queue.put(pool.member.slot)
                    os.kill(os.getpid(), signal.SIGKILL)
                os.waitpid(pid, 0)

        threads = [threading.Thread(target=fork_often) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(queue.get_many(1000)) == 120
        pool.collect()
        assert pool.stats().processes == 1
        assert pool.validate() == []


def test_a_child_without_a_free_slot_says_so_and_the_parent_goes_on():
    with oc.Pool.create(size="16MiB", max_processes=1) as pool:
        array = pool.full(1000, 7, "u1")
        queue = pool.queue()

        def child():
            for call in (
                lambda: queue.put(1),
                lambda: pool.zeros(5),
                pool.collect,
                queue.get_nowait,
            ):
                with pytest.raises(oc.OneCopyError, match="max_processes"):
                    call()

        assert forked(child)() == 0
        queue.put(array)
        assert queue.get().sum() == 7000
        assert pool.validate() == []


def leave_quietly(queue):
    queue.put(os.getpid())


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_multiprocessing_leave_when_they_end(pool, method):
    """They end by `os._exit` and run no `atexit`; no other process has to recover after them."""
    queue = pool.queue()
    context = multiprocessing.get_context(method)
    for _ in range(2):
        process = context.Process(target=leave_quietly, args=(queue,))
        process.start()
        process.join()
        assert process.exitcode == 0
        process.close()
    assert len(queue.get_many(5)) == 2
    assert pool.stats().processes == 1
    assert pool.member.collect() == 0


def make_and_leave(name):
    pool = oc.Pool.create(name, size="16MiB")
    pool["a"] = np.zeros(1000)


def test_a_process_that_ends_takes_its_pool_along(pool_directory, method, start):
    assert start(method, make_and_leave, "theirs").wait() == 0
    assert list(pool_directory.iterdir()) == []


def test_a_child_that_could_not_make_itself_known_at_once_does_so_later(pool_directory):
    """A stopped process has the directory for a long time. The fork does not wait for it."""
    parent = oc.Pool.create("found", size="8MiB", backing="memfd")
    parent["x"] = 7
    told, tell = os.pipe()
    answered, answer = os.pipe()
    directory = os.open(pool_directory, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)

    def child():
        os.close(tell)
        os.close(answered)
        os.write(answer, b"h")
        assert os.read(told, 1) == b"g"
        parent.collect()
        os.write(answer, b"k")
        os.read(told, 1)

    wait = forked(child)
    os.close(told)
    os.close(answer)
    assert os.read(answered, 1) == b"h"  # the fork has ended, and the directory was never free
    fcntl.flock(directory, fcntl.LOCK_UN)
    os.close(directory)
    os.write(tell, b"g")
    assert os.read(answered, 1) == b"k"
    parent.close()
    with oc.Pool.open("found") as again:  # through the child, the only one that has it
        assert again["x"] == 7
    os.close(tell)
    os.close(answered)
    assert wait() == 0
