"""Removing what dead processes left, while others come and go: never what is in use."""

import os
import random
import signal
import subprocess
import sys
import threading

import pytest
from children import LIMIT
from programs import left

import onecopy as oc
from onecopy import inspect
from onecopy._core import stale

pytestmark = pytest.mark.one_in(2)

BACKINGS = ["shm", "memfd"]


def come_and_go(directory, name, backing, seed, ready):
    """Be in the pool for a moment, again and again; meanwhile its name must lead to it."""
    randomness = random.Random(seed)  # noqa: S311 - not for secrets
    path = f"{directory}/{name}.pool"
    ready()
    while True:
        with oc.Pool(name, size="16MiB", backing=backing) as pool:
            inode = os.stat(path).st_ino  # noqa: PTH116 - of the pool, or of its rendezvous
            pool[f"from {os.getpid()}"] = seed
            for _ in range(randomness.randrange(5)):
                assert os.stat(path).st_ino == inode  # noqa: PTH116 - as above
                state = dict(stale.sweep(directory, remove=True))[f"{name}.pool"]
                assert state == "in_use", state
                queue = pool.queue()
                queue.put(seed)
                assert queue.get() == seed
            assert os.stat(path).st_ino == inode  # noqa: PTH116 - as above
            if randomness.random() < 0.3:
                os.kill(os.getpid(), signal.SIGKILL)
        if randomness.random() < 0.1:
            os._exit(0)


def sweep_for_ever(directory, ready):
    ready()
    while True:
        stale.sweep(directory, remove=True)


class Children:
    """Processes that are replaced when they end, for a number of ends."""

    def __init__(self, directory, name, backing):
        self._arguments = directory, name, backing
        self._pids = {}
        self._wrong = []

    def work(self, ends):
        try:
            sweepers = [self._fork(sweep_for_ever, self._arguments[0]) for _ in range(2)]
            members = [self._member(number) for number in range(3)]
            for number in range(ends):
                pid, status = os.wait()
                assert pid in members, "a sweeper ended"
                members.remove(pid)
                del self._pids[pid]
                assert os.waitstatus_to_exitcode(status) in {0, -signal.SIGKILL}
                members.append(self._member(10 + number))
            assert len(sweepers) == 2
        finally:
            for pid in self._pids:
                os.kill(pid, signal.SIGKILL)
            for pid in self._pids:
                os.waitpid(pid, 0)

    def _member(self, seed):
        return self._fork(come_and_go, *self._arguments, seed)

    def _fork(self, function, *arguments):
        heard, say = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(heard)
                function(*arguments, lambda: os.close(say))
            except BaseException:  # noqa: BLE001 - a child of a test must never return into pytest
                import traceback

                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(say)
        os.read(heard, 1)
        os.close(heard)
        self._pids[pid] = True
        return pid


@pytest.mark.one_in(3)
@pytest.mark.parametrize("backing", BACKINGS)
def test_members_come_and_go_while_others_sweep(pool_directory, backing):
    Children(str(pool_directory), "busy", backing).work(ends=60)
    inspect.gc()  # all are dead now
    assert left() == []


def test_what_all_were_killed_in_is_removed_by_the_next_use(pool_directory, start):
    names = [f"pool-{number}" for number in range(5)]
    ready = oc.Pool.create("kept", size="16MiB")
    queue = ready.queue()
    children = [start("spawn", hold_all, names, queue) for _ in range(2)]
    for _ in children:
        queue.get(timeout=LIMIT)
    assert inspect.gc() == []
    assert left() == sorted(f"{name}.pool" for name in [*names, "kept"])
    for child in children:
        child.kill()
    with oc.Pool.create("next", size="16MiB"):
        assert left() == ["kept.pool", "next.pool"]
    ready.close()


def hold_all(names, queue):
    pools = [oc.Pool(name, size="16MiB") for name in names]
    queue.put(len(pools))
    threading.Event().wait()


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "onecopy.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )


def removed(said):
    """Of pools; segments of other tests may be among them."""
    paths = [line.split()[-1] for line in said.splitlines()]
    return sorted(path.rpartition("/")[2] for path in paths if path.endswith(".pool"))


def test_gc_on_the_command_line(pool_directory, start):
    with oc.Pool.create("mine", size="16MiB") as mine:
        queue = mine.queue()
        child = start("spawn", hold_all, ["theirs", "too"], queue)
        queue.get(timeout=LIMIT)
        child.kill()
        dry = command("gc", "--dry-run")
        assert (dry.returncode, dry.stderr) == (0, "")
        assert removed(dry.stdout) == ["theirs.pool", "too.pool"]
        assert left() == ["mine.pool", "theirs.pool", "too.pool"]
        done = command("gc")
        assert (done.returncode, done.stderr) == (0, "")
        assert removed(done.stdout) == ["theirs.pool", "too.pool"]
        assert left() == ["mine.pool"]
        assert removed(command("gc").stdout) == []
        queue.put(1)
        assert queue.get() == 1


def test_a_creator_that_is_killed_leaves_nothing(pool_directory):
    """A pool gets its name when it is complete: an unfinished one is never found."""
    for number in range(40):
        heard, say = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(heard)
            os.close(say)
            while True:
                oc.Pool.create(f"made-{number}", size="16MiB").close()
        os.close(say)
        os.read(heard, 1)
        os.close(heard)
        threading.Event().wait(number * 0.0007)  # any moment is suitable
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert set(left()) <= {f"made-{number}.pool"}
        with oc.Pool(f"made-{number}", size="16MiB") as pool:
            assert pool.validate() == []
            assert pool.stats().processes == 1
        assert left() == []
