"""Pools can be used until the last step of a process: exit handlers, finalizers, children."""

import atexit
import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import util

import pytest
from children import LIMIT
from programs import Running, left, run

pytestmark = pytest.mark.one_in(2)

METHODS = ["fork", "forkserver", "spawn"]
# Since Python 3.13 forked children run exit handlers too.
FORKS_RUN_HANDLERS = sys.version_info >= (3, 13)

# `use` is called as late as possible; `arrange` is called after the pools were made.
LATE = {
    "an exit handler that was registered first": (
        """
        import atexit, builtins
        atexit.register(lambda: builtins.use("handler"))
        """,
        "",
        ["handler"],
    ),
    "finalizers of multiprocessing, imported first": (
        "import multiprocessing.util",
        """
        for priority in 100, 0, -10, -1_000_000:
            multiprocessing.util.Finalize(None, use, (str(priority),), exitpriority=priority)
        """,
        ["100", "0", "-10", "-1000000"],
    ),
    "finalizers of multiprocessing, imported last": (
        "",
        """
        import multiprocessing.util
        for priority in 100, -1_000_000:
            multiprocessing.util.Finalize(None, use, (str(priority),), exitpriority=priority)
        """,
        ["100", "-1000000"],
    ),
    "a weakref's finalizer, used first": (
        """
        import weakref
        class Thing: pass
        first = Thing(); weakref.finalize(first, lambda: None)
        """,
        "thing = Thing(); weakref.finalize(thing, use, 'finalizer')",
        ["finalizer"],
    ),
    "a logging handler, imported first": (
        "import logging",
        """
        class Handler(logging.Handler):
            def close(self): use("logging")
        handler = Handler()
        """,
        ["logging"],
    ),
    "the end of an idle executor's thread": (
        "import concurrent.futures.thread",
        """
        executor = concurrent.futures.thread.ThreadPoolExecutor(
            1, initializer=lambda: setattr(executor, "last", Last())
        )
        class Last:
            def __del__(self): use("executor")
        executor.submit(int).result()
        atexit.register(executor.__dict__.clear)
        """,
        ["executor"],
    ),
    "the end of a module": (
        "",
        """
        class Last:  # when modules are cleared nothing can be pickled any more
            def __init__(self): self.queue, self.array, self.write = pool.queue(), array, os.write
            def __del__(self):
                self.queue.put(self.array)
                assert self.queue.get(timeout=60)[-1] == 7
                self.write(1, b"module\\n")
        last = Last()
        """,
        ["module"],
    ),
}

USE = """
import builtins
event, lock, shared_dict = pool.event(), pool.lock(), pool.dict()
def use(word, array=array, event=event, lock=lock, mine=pool.queue(), pool=pool, ones=np.ones,
        write=os.write, shared_dict=shared_dict):
    mine.put([array, ones(5000)])
    assert mine.get(timeout=60)[1].sum() == 5000
    event.set()
    with lock: shared_dict[word] = array
    assert event.is_set() and shared_dict[word].sum() == 700_000
    assert pool.zeros(1000).sum() == 0
    write(1, word.encode() + b"\\n")
builtins.use = use
"""


@pytest.mark.parametrize("how", LATE)
def test_pools_are_there_for(how):
    first, arrange, words = LATE[how]
    program = Running(f"{USE}{_flat(arrange)}", first=first, flags=())
    for word in words:
        program.says(word)
    assert program.end() == (0, "")
    assert left() == []


def _flat(text):
    return "\n".join(line[8:] if line.startswith(" " * 8) else line for line in text.split("\n"))


@pytest.mark.parametrize("start_method", METHODS)
def test_a_child_uses_its_pool_in_its_last_lines(pool, capfd, start_method):
    queue = pool.queue()
    child = multiprocessing.get_context(start_method).Process(target=arrange, args=(queue,))
    child.start()
    child.join(LIMIT)
    assert child.exitcode == 0
    child.close()
    runs_handlers = start_method == "spawn" or FORKS_RUN_HANDLERS
    expected = {"first finalizer", "last finalizer"} | ({"handler"} if runs_handlers else set())
    assert set(queue.get_many(5)) == expected
    assert pool.stats().processes == 1  # it left the pool itself
    assert capfd.readouterr().err == ""


def arrange(queue):
    atexit.register(queue.put, "handler")
    util.Finalize(None, queue.put, ("first finalizer",), exitpriority=100)
    util.Finalize(None, queue.put, ("last finalizer",), exitpriority=-1_000_000)


@pytest.mark.parametrize("start_method", METHODS)
def test_a_child_with_an_idle_executor_ends(pool, capfd, start_method):
    """`threading`, not multiprocessing, tells the executor's thread to end."""
    queue = pool.queue()
    child = multiprocessing.get_context(start_method).Process(target=keep_idle, args=(queue,))
    child.start()
    child.join(LIMIT)
    assert child.exitcode == 0
    child.close()
    assert queue.get(timeout=LIMIT) == "done"
    assert pool.stats().processes == 1
    assert pool.validate() == []
    assert capfd.readouterr().err == ""


def keep_idle(queue):
    idle = ThreadPoolExecutor(2)
    idle.submit(queue.put, "done").result()
    kept.append(idle)


kept = []  # until the process ends


@pytest.mark.parametrize("first", ["", "import multiprocessing.util\n"])
@pytest.mark.parametrize("start_method", METHODS)
def test_an_abandoned_worker_pool(start_method, first):
    text = f"""
    from onecopy import multiprocessing as dropin
    workers = dropin.get_context({start_method!r}).Pool(2)
    assert workers.map(abs, range(-9, 1)) == list(range(9, -1, -1))
    busy = workers.map_async(abs, range(1000))
    """
    assert run(text, first=first, flags=(), holding=False) == (0, "")
    assert left() == []


@pytest.mark.parametrize("start_method", METHODS)
def test_an_abandoned_worker_pool_whose_result_a_daemon_thread_waits_for(start_method):
    text = f"""
    import threading, time
    from onecopy import multiprocessing as dropin
    workers = dropin.get_context({start_method!r}).Pool(2)
    waiting = threading.Thread(target=workers.map, args=(time.sleep, [0.05] * 400), daemon=True)
    waiting.start()
    while not workers._cache:
        time.sleep(0.001)
    """
    assert run(text, flags=(), holding=False) == (0, "")
    assert left() == []


@pytest.mark.parametrize("first", ["", "import multiprocessing.util\n"])
@pytest.mark.parametrize("start_method", METHODS)
def test_a_child_that_nobody_joined_finds_its_pool(start_method, first):
    """multiprocessing joins it at exit. Until then only the parent has the pool."""
    text = f"""
    import multiprocessing.util, operator
    def look():
        assert queue.get(timeout=60) == "from the child"
        os.write(1, b"it came\\n")
    pool = oc.Pool.create("theirs", size="16MiB")
    queue = pool.queue()
    context = multiprocessing.get_context({start_method!r})
    put = operator.methodcaller("put", "from the child")
    context.Process(target=put, args=(queue,)).start()
    multiprocessing.util.Finalize(None, look, exitpriority=-10)  # after it was joined
    """
    program = Running(text, first=first, holding=False)
    program.says("it came")
    assert program.end() == (0, "")
    assert left() == []
