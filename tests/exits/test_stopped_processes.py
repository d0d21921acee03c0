"""A process is stopped (Ctrl-Z, a debugger) while others wait for it: only the waiters stop.

In a program, one thread makes a call that needs what the stopped process has. In the meantime
another thread runs, forks, and then sends the program Ctrl-C, which ends the call. A call that only
releases something ends by itself. If a call waited with the interpreter's lock, or with a mutex
that a fork acquires, the other thread could do none of this, and the test would not end.
"""

from __future__ import annotations

import fcntl
import mmap
import multiprocessing
import os
import signal
import struct
from pathlib import Path

import children
import pytest
from programs import Running

import onecopy as oc

pytestmark = pytest.mark.one_in(2)

# Offsets in the segment; see native/layout/layout.hpp.
HEAP_LOCK, NAMES_LOCK, ROWS_AT, ROW = 192, 320, 64, 512

PROGRAM = """
import time, warnings
from pathlib import Path
import onecopy._core.stale

# Since Python 3.15, a fork beside other threads raises where this warning is an error.
warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
main = threading.get_native_id()
entered, finished = threading.Event(), threading.Event()
seen = []

def sleeps():
    return Path(f"/proc/self/task/{main}/stat").read_text().rpartition(")")[2].split()[0] == "S"

def reserves():  # a piece of its memory is there, and the rest is to come
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.stat(f"/proc/self/fd/{fd}").st_blocks * 512 >= 64 << 20:
                return True
        except FileNotFoundError:
            pass
    return False

def witness():
    entered.wait()
    while not finished.is_set() and not BEGUN():
        time.sleep(0.001)
    for _ in range(200):
        time.sleep(0)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    seen.append(finished.is_set())
    if ENDS_BY_ITSELF:
        finished.wait()
    else:
        os.kill(os.getpid(), signal.SIGINT)

def call():
    CALL

told, tell = os.pipe()
signal.signal(signal.SIGUSR1, lambda *_: os.write(tell, b"!"))
thread = threading.Thread(target=witness, daemon=True)
thread.start()
PREPARE
os.write(1, b"ready\\n")
os.read(told, 1)
outcome = "ended"
try:
    entered.set()
    call()
    finished.set()
    thread.join()
except KeyboardInterrupt:
    if not finished.is_set():
        outcome = "interrupted"
thread.join()
os.write(1, f"{outcome} {seen[0]}\\n".encode())
os._exit(0)  # what is at the end of a program is tested elsewhere
"""


def _stop_with(ready, word_at, path):
    """Acquire a lock of the pool's core, as far as others can see, and stop."""
    pool = oc.Pool.open(path)
    with Path(path).open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    (rows,) = struct.unpack_from("<Q", memory, ROWS_AT)
    (generation,) = struct.unpack_from("<I", memory, rows + pool.member.slot * ROW + 4)
    tag = (generation & 0xFFFFF) << 11 | (pool.member.slot + 1)
    struct.pack_into("<I", memory, word_at, tag)
    ready.send("stopped")
    os.kill(os.getpid(), signal.SIGSTOP)
    struct.pack_into("<I", memory, word_at, 0)
    pool.close()


def _stop_with_directory(ready, path):
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    ready.send("stopped")
    os.kill(os.getpid(), signal.SIGSTOP)


PREPARE = """
pool = oc.Pool.open("stage")
array, kept = pool.zeros(1000), pool.put([1, 2, 3])
queue, stream, frames = pool.queue("q"), pool.stream("s", depth=4), pool.frames("f", (10,), "u1", 2)
subscription, items, table = stream.subscribe(), pool.list(name="l"), pool.dict(name="d")
queue.put({"a": 1}); stream.publish([1]); items.extend(range(8)); table.update(a=1, b=2)
pool["known"], frame = {"x": 1}, frames.acquire()
own = oc.Pool.create("own", size="1MiB")
"""

NEEDS_THE_HEAP = {
    "put": "pool.put(1)",
    "zeros": "pool.zeros(10)",
    "array": "pool.array(np.arange(10))",
    "release an array": "global array; array = None",
    "release a reference": "global kept; kept = None",
    "release a frame": "global frame; frame = None",
    "Queue.put": "queue.put(np.zeros(5000))",
    "Queue.put_many": "queue.put_many([np.zeros(5000)] * 2)",
    "Queue.get": "queue.get()",
    "Queue.get_many": "queue.get_many(1)",
    "Stream.publish": "stream.publish(np.zeros(5000))",
    "Subscription.get": "subscription.get()",
    "Frames.acquire": "frames.acquire()",
    "List.append": "items.append(np.zeros(5000))",
    "List.extend": "items.extend([np.zeros(5000)] * 2)",
    "List.pop": "items.pop()",
    "List.clear": "items.clear()",
    "Dict.set": "table['c'] = np.zeros(5000)",
    "Dict.del": "del table['a']",
    "Dict.clear": "table.clear()",
    "a name": "pool['new'] = 1",
    "a name again": "pool['known'] = 1",
    "no name": "del pool['known']",
    "Lock": "pool.lock()",
    "RWLock": "pool.rwlock()",
    "Semaphore": "pool.semaphore()",
    "Event": "pool.event()",
    "Condition": "pool.condition()",
    "Barrier": "pool.barrier(parties=2)",
    "Queue": "pool.queue()",
    "Stream": "pool.stream(depth=2)",
    "Frames": "pool.frames(None, (10,), 'u1', 2)",
    "List": "pool.list()",
    "Dict": "pool.dict()",
    "stats": "pool.stats()",
    "collect": "pool.collect()",
    "trim": "pool.member.trim()",
    "validate": "pool.validate()",
    "close": "pool.close()",
    "unlink": "pool.unlink()",
    "create": "oc.Pool.create(size='1MiB')",
    "Pool.open": "oc.Pool.open('other')",
}

NEEDS_THE_NAMES = {
    "a name": "pool['new'] = 1",
    "look a name up": "pool['known']",
    "no name": "del pool['known']",
    "names": "list(pool)",
    "open by name": "pool.queue('q')",
    "validate": "pool.validate()",
}

NEEDS_THE_DIRECTORY = {
    "create": "oc.Pool.create('new', size='1MiB')",
    "create in a memfd": "oc.Pool.create('new', size='1MiB', backing='memfd')",
    "create in a file": "oc.Pool.create('new', size='1MiB', backing=os.environ['ELSEWHERE'])",
    "open": "oc.Pool.open('stage')",
    "open a memfd": "oc.Pool.open('memfd')",
    "unlink": "pool.unlink()",
    "close": "own.close()",
    "release the last object": "global own; own = None",
    "sweep": "oc._core.stale.sweep(os.environ['ONECOPY_DIR'], remove=True)",
}


class _Program(Running):
    def __init__(self, call, prepare=PREPARE, *, ends_by_itself=False, begun="sleeps"):
        text = PROGRAM.replace("CALL", call).replace("PREPARE", prepare).replace("BEGUN", begun)
        super().__init__(f"ENDS_BY_ITSELF = {ends_by_itself}\n{text}", holding=False)
        self.says("ready")

    def outcome(self):
        """Let it make the call, and return how that ended."""
        self.signal(signal.SIGUSR1)
        said = self._process.stdout.readline()
        status, stderr = self.end()
        assert status == 0, stderr
        outcome, ended_before_the_fork = said.split()
        # The thread was still waiting when the fork had returned.
        assert (outcome, ended_before_the_fork) != ("interrupted", "True"), said
        return outcome


@pytest.fixture
def stage(pool_directory):
    with oc.Pool.create("stage", size="64MiB") as pool, oc.Pool.create("other", size="1MiB"):
        yield pool


@pytest.fixture
def stopped(start):
    """Start a function that stops its process."""

    def stop(function, *arguments):
        ours, theirs = multiprocessing.Pipe()
        child = start("fork", function, theirs, *arguments)
        theirs.close()
        assert ours.recv() == "stopped"
        ours.close()
        children.eventually(lambda: _is_stopped(child.pid), "it to be stopped")
        return child

    return stop


def _is_stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


# These only release what they have, or look: the memory is returned later.
GIVE_UP = {
    "release an array",
    "release a reference",
    "release a frame",
    "Queue.get",
    "Queue.get_many",
    "Subscription.get",
    "Frames.acquire",
    "List.pop",
    "Dict.del",
    "no name",
    "stats",
    "collect",
    "trim",
    "close",
    "unlink",
    "create",
    "Pool.open",
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("call", NEEDS_THE_HEAP)
def test_who_needs_the_heap(stage, stopped, call):
    by_itself = call in GIVE_UP
    program = _Program(NEEDS_THE_HEAP[call], ends_by_itself=by_itself)
    holder = stopped(_stop_with, HEAP_LOCK, stage.member.path)
    assert program.outcome() == ("ended" if by_itself else "interrupted")
    holder.kill()
    stage.collect()
    assert stage.validate() == []


@pytest.mark.parametrize("call", NEEDS_THE_NAMES)
def test_who_needs_the_names(stage, stopped, call):
    program = _Program(NEEDS_THE_NAMES[call])
    holder = stopped(_stop_with, NAMES_LOCK, stage.member.path)
    program.outcome()
    holder.kill()
    stage.collect()
    assert stage.validate() == []


# No name is added or removed.
DO_WITHOUT = {"open"}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("call", NEEDS_THE_DIRECTORY)
def test_who_needs_the_directory(stage, stopped, pool_directory, tmp_path, monkeypatch, call):
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "new.pool"))
    with oc.Pool.create("memfd", size="1MiB", backing="memfd"):
        program = _Program(NEEDS_THE_DIRECTORY[call], ends_by_itself=call in DO_WITHOUT)
        holder = stopped(_stop_with_directory, str(pool_directory))
        by_itself = call in DO_WITHOUT
        assert program.outcome() == ("ended" if by_itself else "interrupted")
        holder.kill()


def test_a_prefault_holds_nobody_up():
    # More than a second of work for the kernel, of which the first part is done.
    call = "oc.Pool.create(size='4GiB', prefault=True)"
    program = _Program(call, prepare="", begun="reserves")
    assert program.outcome() == "interrupted"


def test_a_large_array_holds_nobody_up():
    call = "pool.empty(4 << 30, 'u1')"
    program = _Program(call, prepare="pool = oc.Pool.create(size='5GiB')", begun="reserves")
    assert program.outcome() == "interrupted"


def test_what_was_let_go_meanwhile_is_given_back(stage, stopped):
    arrays = [stage.zeros(1 << 20, "u1") for _ in range(20)]
    before = stage.stats().used
    holder = stopped(_stop_with, HEAP_LOCK, stage.member.path)
    arrays.clear()
    os.kill(holder.pid, signal.SIGCONT)
    assert holder.wait() == 0
    stage.put(1)
    assert stage.stats().used < before - (19 << 20)
    assert stage.validate() == []


def _let_go(ready, pool, arrays):
    ready.recv()
    arrays.clear()
    ready.send("release")
    ready.recv()


def test_what_was_let_go_meanwhile_is_given_back_to_others(stage, stopped, start):
    arrays = [stage.zeros(1 << 20, "u1") for _ in range(50)]
    ours, theirs = multiprocessing.Pipe()
    start("fork", _let_go, theirs, stage, arrays)
    arrays.clear()
    theirs.close()
    holder = stopped(_stop_with, HEAP_LOCK, stage.member.path)
    ours.send("now")
    assert ours.recv() == "release"
    os.kill(holder.pid, signal.SIGCONT)
    assert holder.wait() == 0
    assert stage.zeros(40 << 20, "u1").size == 40 << 20
    ours.send("end")
    ours.close()
    assert stage.validate() == []
