"""Daemon threads are active when their process ends: no other process notices it.

A program forks processes that end normally. Their daemon threads work in a pool of the program, and
continue to work while the interpreter ends.
"""

import pytest
from programs import Running, left, run

pytestmark = pytest.mark.one_in(2)

ENDS = 5

# `work` is what each of three daemon threads of an ending process repeats. `feed` is what the
# program does in the meantime, so that the threads have work.
WORK = {
    "Queue.get": ("work = queue.get", "feed = put"),
    "Queue.get_many": ("work = lambda: queue.get_many(3)", "feed = put"),
    "Queue.put": ("work = lambda: queue.put(large())", "feed = take"),
    "Queue.get, redelivered": (
        "queue = pool.queue(maxsize=8, redeliver=True)\nwork = queue.get",
        "feed = put",
    ),
    "Subscription.get": (
        "stream = pool.stream(depth=4)\nwork = lambda: stream.subscribe().get()",
        "feed = lambda: stream.publish(large())",
    ),
    "Frames.acquire": (
        """
frames = pool.frames(None, (500, 500), "u1", 4)
def work(): frames.acquire()[:] = 7
        """,
        "feed = lambda: None",
    ),
    "multiprocessing.Queue.get": (
        "queue = dropin.get_context('fork').Queue(8)\nwork = queue.get",
        "feed = put",
    ),
    "multiprocessing.SimpleQueue.get": (
        "simple = dropin.get_context('fork').SimpleQueue()\nwork = simple.get",
        """
def feed():
    if simple.empty(): simple.put(large())
        """,
    ),
    "Dict": (
        """
shared = pool.dict()
def work():
    with shared.lock(): shared["a"] = large()
    shared.get("a"), list(shared.items())
        """,
        "feed = lambda: shared.get('a')",
    ),
    "List": (
        """
shared = pool.list()
def work():
    shared.append(large())
    with shared.lock(): del shared[:]
        """,
        "feed = lambda: list(shared)",
    ),
    "objects": (
        "def work(): pool['a'] = pool.put(large()); pool['a'].get()",
        "feed = lambda: pool.get('a')",
    ),
    "locks": (
        """
lock, condition, tokens = pool.rlock(), pool.condition(), pool.semaphore(None, 2)
def work():
    with lock, tokens: pass
    with condition: condition.notify_all(); condition.wait(0.001)
        """,
        "feed = lambda: None",
    ),
    "copies of numpy": (
        "wide = pool.zeros((2000, 2000))\ndef work(): wide[:] = wide.T + 1",
        "feed = lambda: None",
    ),
}

PROGRAM = """
import contextlib, queue as standard, time, warnings
from onecopy import multiprocessing as dropin
warnings.simplefilter("ignore")  # OwnerDiedWarning: their owners do die
pool = oc.Pool.create("theirs", size="64MiB", max_processes=8)
queue = pool.queue(maxsize=8)
def large(): return [np.full(5000, 255, "u1"), {"text": "y" * 3000}, np.full(40_000, -1)]
def put():
    with contextlib.suppress(standard.Full, oc.PoolFull): queue.put(large(), timeout=0.001)
def take():
    with contextlib.suppress(standard.Empty): queue.get(timeout=0.001)
"""

RUN = f"""
def end():
    begun = threading.Barrier(4)
    def repeat():
        work(); begun.wait()
        while True: work()
    for _ in range(3): threading.Thread(target=repeat, daemon=True).start()
    begun.wait()
    sys.exit()
for _ in range({ENDS}):
    child = os.fork()
    if child == 0: end()
    while (status := os.waitpid(child, os.WNOHANG))[0] == 0: feed()
    assert status[1] == 0, status
    pool.collect()
    assert pool.validate() == [], pool.validate()
    assert pool.stats().processes == 1, pool.stats()
"""


@pytest.mark.parametrize("what", WORK)
def test_ends_with_daemons_in(what):
    work, feed = WORK[what]
    text = f"{PROGRAM}{work}\n{feed}\n{RUN}"
    assert run(text, flags=(), holding=False) == (0, "")
    assert left() == []


# What a daemon thread waits for, and what ends its wait while modules are cleared.
WAITS = {
    "Queue.get": ("queue = pool.queue()", "queue.get", "self.queue.put(1)"),
    "Queue.get_many": ("queue = pool.queue()", "queue.get_many, (5,)", "self.queue.put(1)"),
    "Queue.put": (
        "queue = pool.queue(maxsize=1); queue.put(1)",
        "queue.put, ({'text': 'y' * 3000},)",
        "self.queue.get()",
    ),
    "Queue.join": ("queue = pool.queue(); queue.put(1)", "queue.join", "self.queue.task_done()"),
    "Subscription": (
        "queue = pool.stream(); subscription = queue.subscribe()",
        "subscription.__next__",
        "self.queue.publish(1)",
    ),
    "Lock": ("queue = pool.lock(); queue.acquire()", "queue.acquire", "self.queue.release()"),
    "RLock": ("queue = pool.rlock(); queue.acquire()", "queue.acquire", "self.queue.release()"),
    "Semaphore": ("queue = pool.semaphore(None, 0)", "queue.acquire", "self.queue.release()"),
    "Event": ("queue = pool.event()", "queue.wait", "self.queue.set()"),
    "RWLock": (
        "rwlock = pool.rwlock(); queue = rwlock.write(); queue.acquire()",
        "rwlock.read().acquire",
        "self.queue.release()",
    ),
}


@pytest.mark.parametrize("what", WAITS)
def test_a_wait_that_ends_while_the_interpreter_ends(what):
    """The thread then requests the GIL, which it never gets."""
    make, wait, wake = WAITS[what]
    function, _, arguments = wait.partition(", ")
    target = f"{function}, None, {arguments or '()'}"
    text = f"""
    pool = oc.Pool.create("theirs", size="16MiB")
    {make}
    # A function of this module would keep the module's globals alive.
    thread = threading.Thread(None, {target}, daemon=True)
    thread.start()
    stat = os.open(f"/proc/self/task/{{thread.native_id}}/stat", os.O_RDONLY)
    class Last:
        def __init__(self):
            self.queue, self.stat, self.pread, self.write = queue, stat, os.pread, os.write
        def waits(self, often):
            seen = 0
            while seen < often:
                state = self.pread(self.stat, 500, 0).rpartition(b")")[2].split()[0]
                seen = seen + 1 if state == b"S" else 0
        def __del__(self):
            {wake}
            self.waits(1000)
            self.write(1, b"the last one\\n")
    last = Last(); last.waits(1000)
    """
    program = Running(text, flags=(), holding=False)
    program.says("the last one")
    assert program.end() == (0, "")
    assert left() == []
