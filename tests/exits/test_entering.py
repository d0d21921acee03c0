"""A signal handler that raises when a ``with`` statement begins or ends: all is released.

The exception comes at each bytecode of the package's Python code in turn, because an interpreter
runs signal handlers there. (Inside of a native function it runs them only in waits; those are
tested with real signals in test_interrupts.)
"""

from __future__ import annotations

import fcntl
import gc
import os
import sys
import threading
from pathlib import Path

import pytest

import onecopy as oc
from onecopy import _native
from onecopy import multiprocessing as dropin
from onecopy._core import keepalive, paths

PACKAGE = str(Path(oc.__file__).parent)


class _Interrupted(BaseException):
    """The exception that the handler raises."""


class _At:
    """Raises at the n-th bytecode of the package that this thread runs inside of it."""

    def __init__(self, n):
        self.left = n

    def __enter__(self):
        sys.settrace(self._called)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _called(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        return self._runs

    def _runs(self, frame, event, argument):
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise _Interrupted
        return self._runs


def _elsewhere(act):
    """Run it in another thread, which has nothing of this thread."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(act()))
    thread.start()
    thread.join()
    return answers[0]


def _taken_elsewhere(lock):
    def take():
        if not lock.acquire(False):
            return False
        lock.release()
        return True

    return _elsewhere(take)


def _lock(lock):
    return lambda: lock, lambda: _taken_elsewhere(lock)


def _of_container(container):
    return container.lock, lambda: _taken_elsewhere(container.lock())


def _guarded(value):
    return lambda: value, lambda: _taken_elsewhere(value.get_lock())


def _side(rwlock, side):
    return getattr(rwlock, side), lambda: _taken_elsewhere(rwlock.write())


def _frames():
    frames = oc.Frames((100,), "u1", 2)

    def at_home():
        gc.collect()
        return frames.available == 2

    return frames.lend, at_home


def _directory():
    oc.put(1)  # makes the directory
    directory = paths.pool_directory()

    def is_free():
        fd = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        return True

    return lambda: _native.DirectoryLock(directory), is_free


def _message():
    queue = oc.default_pool().queue(redeliver=True)
    queue.put(1)

    def is_free():
        """Tell whether each message is queued or finished, and no process has it."""
        gc.collect()
        if queue.empty():
            queue.put(1)
        with pytest.raises(TimeoutError) as caught:
            queue.join(timeout=0)
        return int(str(caught.value).split()[0]) == queue.qsize() == 1

    return queue.get_message, is_free


def _keeping():
    return keepalive.Keeping, lambda: keepalive._keeping() is None


MANAGERS = {
    "Lock": lambda: _lock(oc.Lock()),
    "RLock": lambda: _lock(oc.RLock()),
    "Semaphore": lambda: _lock(oc.Semaphore(1)),
    "BoundedSemaphore": lambda: _lock(oc.BoundedSemaphore(1)),
    "Condition": lambda: _lock(oc.Condition()),
    "Condition of a Lock": lambda: _lock(oc.Condition(oc.Lock())),
    "RWLock.read": lambda: _side(oc.RWLock(), "read"),
    "RWLock.write": lambda: _side(oc.RWLock(), "write"),
    "List.lock": lambda: _of_container(oc.List([1])),
    "Dict.lock": lambda: _of_container(oc.Dict(a=1)),
    "Value": lambda: _guarded(dropin.Value("i", 1)),
    "Value of a Lock": lambda: _guarded(dropin.Value("i", 1, lock=dropin.Lock())),
    "Value.get_lock": lambda: _lock(dropin.Value("i", 1).get_lock()),
    "Array": lambda: _guarded(dropin.Array("i", 4)),
    "drop-in Lock": lambda: _lock(dropin.Lock()),
    "drop-in RLock": lambda: _lock(dropin.RLock()),
    "drop-in Semaphore": lambda: _lock(dropin.Semaphore(1)),
    "drop-in BoundedSemaphore": lambda: _lock(dropin.BoundedSemaphore(1)),
    "drop-in Condition": lambda: _lock(dropin.Condition()),
    "Frames.lend": _frames,
    "Queue.get_message": _message,
    "the pool directory": _directory,
    "Keeping": _keeping,
}


def _interrupted_at(n, manager):
    """Tell whether the exception was raised."""
    try:
        with _At(n), manager():
            pass
    except _Interrupted:
        return True
    return False


@pytest.mark.parametrize("name", MANAGERS)
def test_nothing_stays_taken(name):
    manager, is_free = MANAGERS[name]()
    assert is_free()
    n = 1
    while _interrupted_at(n, manager):
        assert is_free(), f"taken after an exception at bytecode {n}"
        n += 1
    assert is_free()


@pytest.mark.parametrize("name", MANAGERS)
def test_nothing_stays_taken_after_a_block_that_raised(name):
    manager, is_free = MANAGERS[name]()

    def interrupted_at(n):
        try:
            with _At(n), manager():
                int("no number")
        except ValueError:
            return False
        except _Interrupted:
            return True

    n = 1
    while interrupted_at(n):
        assert is_free(), f"taken after an exception at bytecode {n}"
        n += 1
    assert is_free()


def test_acquire_has_the_lock_only_if_it_returns():
    for make in (oc.Condition, oc.List([1]).lock, oc.Dict(a=1).lock):
        lock, n = make(), 1
        while True:
            try:
                with _At(n):
                    lock.acquire()
            except _Interrupted:
                assert _taken_elsewhere(lock)
                n += 1
            else:
                lock.release()
                break
