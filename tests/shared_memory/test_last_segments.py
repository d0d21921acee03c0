"""Segments can be used until the last step of a process; then they are removed."""

from __future__ import annotations

import atexit
import multiprocessing
import sys
import threading
from multiprocessing import util

import pytest
from children import LIMIT
from programs import Running
from segment_files import SHM, exists, fresh_name

from onecopy.multiprocessing.shared_memory import ShareableList, SharedMemory

METHODS = ["fork", "forkserver", "spawn"]
# Since Python 3.13 forked children run exit handlers too.
FORKS_RUN_HANDLERS = sys.version_info >= (3, 13)

USE = """
from onecopy.multiprocessing.shared_memory import ShareableList, SharedMemory
import builtins
shm = SharedMemory(create=True, size=100)
words = ShareableList(["a", 2.5])
shm.buf[:2] = b"ab"
def use(word):
    assert bytes(shm.buf[:2]) == b"ab" and list(words) == ["a", 2.5]
    again = SharedMemory(shm.name)
    assert bytes(again.buf[:2]) == b"ab"
    again.close()
    assert list(ShareableList(name=words.shm.name)) == ["a", 2.5]
    new = SharedMemory(create=True, size=100)
    new.close()
    new.unlink()
    SharedMemory(f"onecopy-last-{os.getpid()}-{word}", create=True, size=100)
    print(word, flush=True)
builtins.use = use
print(shm.name, words.shm.name, flush=True)
"""

LATE = {
    "an exit handler that was registered first": (
        "import atexit, builtins; atexit.register(lambda: builtins.use('handler'))",
        "",
        ["handler"],
    ),
    "finalizers of multiprocessing, imported first": (
        "import multiprocessing.util",
        """
for priority in 0, -1_000_000:
    multiprocessing.util.Finalize(None, use, (str(priority),), exitpriority=priority)
""",
        ["0", "-1000000"],
    ),
    "a thread that the interpreter waits for": (
        "import threading",
        """
def wait():
    threading.main_thread().join()
    use("thread")
threading.Thread(target=wait).start()
""",
        ["thread"],
    ),
}


UNLINK = "shm.close(); shm.unlink(); words.shm.unlink()"


# What one of several removes does not exist for the next one.
CASES = [(how, last) for how in LATE for last in ("", UNLINK) if not last or len(LATE[how][2]) == 1]


@pytest.mark.parametrize(
    ("how", "last"), CASES, ids=[f"{how}, {'unlinks' if last else 'keeps'}" for how, last in CASES]
)
def test_segments_are_there_for(how, last):
    first, arrange, words = LATE[how]
    text = USE.replace("    print(word,", f"    {last}\n    print(word,") if last else USE
    program = Running(text + arrange, first=first, flags=(), holding=False)
    names = program.line().split()
    for word in words:
        program.says(word)
    assert program.end() == (0, "")
    assert not any(exists(name) for name in names)
    assert list(SHM.glob(f"onecopy-last-{program.pid}-*")) == []


@pytest.fixture
def name():
    yield from fresh_name()


@pytest.mark.parametrize("start_method", METHODS)
def test_a_child_attaches_in_its_last_lines(name, start_method, capfd):
    shm = SharedMemory(name, create=True, size=100)
    context = multiprocessing.get_context(start_method)
    child = context.Process(target=arrange, args=(name,))
    child.start()
    child.join(LIMIT)
    assert child.exitcode == 0
    child.close()
    runs_handlers = start_method == "spawn" or FORKS_RUN_HANDLERS
    assert bytes(shm.buf[:4]) == bytes([runs_handlers, 1, 1, 1])
    assert capfd.readouterr().err == ""
    shm.close()
    shm.unlink()


def arrange(name):
    # Made here, and used last: only its parent keeps it.
    mine = ShareableList([7])
    late = (mark, (name, mine.shm.name))
    atexit.register(mark, name, mine.shm.name, 0)
    util.Finalize(None, late[0], (*late[1], 1), exitpriority=100)
    util.Finalize(None, late[0], (*late[1], 2), exitpriority=-1_000_000)
    main = threading.main_thread()
    threading.Thread(target=lambda: (main.join(LIMIT), mark(*late[1], 3))).start()


def mark(name, of_child, number):
    shm = SharedMemory(name)
    shm.buf[number] = ShareableList(name=of_child)[0] == 7
    shm.close()
