"""Threads that are coroutines (eventlet, gevent): waiting for workers does not stop the program."""

import importlib.util
import queue
import subprocess
import sys
import threading
import time

import pytest
from children import LIMIT

import onecopy as oc
from onecopy import coroutines

pytestmark = pytest.mark.one_in(2)

PATCHES = {
    "eventlet": "import eventlet; eventlet.monkey_patch()",
    "gevent": "from gevent import monkey; monkey.patch_all()",
}

PROGRAM = """
{patch}
import multiprocessing, onecopy as oc
from onecopy import coroutines
def more(number): return number + 1
def fail(): raise LookupError("no such thing")
if __name__ == "__main__":
    assert coroutines.are_threads()
    context = multiprocessing.get_context({method!r})
    with oc.Executor(2, mp_context=context, **{options}) as executor:
        assert executor.submit(more, 1).result() == 2
        assert list(executor.map(more, range(20), chunksize=3)) == list(range(1, 21))
        assert isinstance(executor.submit(fail).exception(), LookupError)
        assert executor.submit(sum, [bytes(100_000)]).exception() is not None
    print("done")
"""


@pytest.mark.parametrize("options", [{}, {"restart_workers": True}], ids=["", "restarting"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("library", PATCHES)
def test_an_executor_where_threads_are_coroutines(tmp_path, library, method, options):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(patch=PATCHES[library], method=method, options=options))
    done = subprocess.run(
        # Both print warnings about themselves and about each other's age.
        [sys.executable, "-W", "ignore", str(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_threads_are_told_from_coroutines(monkeypatch):
    assert not coroutines.are_threads()

    class Lock:
        """As eventlet and gevent do it: a lock between coroutines."""

    monkeypatch.setattr(threading, "Lock", Lock)
    assert coroutines.are_threads()


@pytest.fixture
def one_thread(monkeypatch):
    """All threads are coroutines, and others run only while this one waits through `threading`."""
    others = []

    class Event:
        def wait(self, seconds):
            time.sleep(seconds)
            if others:
                others.pop(0)()

    monkeypatch.setattr(coroutines, "are_threads", lambda: True)
    monkeypatch.setattr(threading, "Event", Event)
    return others


def test_what_another_coroutine_is_going_to_put_arrives(pool, one_thread):
    """The reason: during a wait in the native core no other coroutine runs, so none puts a task."""
    channel = pool.queue()
    one_thread += [lambda: None, lambda: channel.put(7)]
    assert coroutines.take(channel.get, None) == 7
    one_thread += [lambda: None, lambda: channel.put(8)]
    assert coroutines.take(channel.get_message, LIMIT).item == 8
    channel.put(9)
    assert coroutines.take(channel.get, 0) == 9


def test_the_time_is_up_there_too(pool, one_thread):
    channel = pool.queue()
    for seconds in (0, 0.01):
        with pytest.raises(queue.Empty):
            coroutines.take(channel.get, seconds)
    channel.close()
    with pytest.raises(oc.OneCopyError):
        coroutines.take(channel.get, None)
