"""For tests of managers: servers, and a check that something has come by reference."""

from __future__ import annotations

import contextlib
import queue

import children
import numpy as np
import pytest

from onecopy import multiprocessing as mp
from onecopy.multiprocessing import _wire_objects
from onecopy.multiprocessing.managers import SyncManager

KEY = b"only for this test"
LARGE = 500_000  # bytes
START_METHODS = ["fork", "forkserver", "spawn"]


@contextlib.contextmanager
def started(address=None, *, kind=SyncManager, start_method="fork", **options):
    """A manager with a server, which leaves no descriptor of its process."""
    manager = kind(address, KEY, ctx=mp.get_context(start_method), **options)
    manager.start()
    server = manager._process
    try:
        yield manager
    finally:
        manager.shutdown()
        server.join()
        server.close()


def numbers(count=LARGE // 8):
    return np.random.default_rng(7).random(count)


def by_reference(_array):
    """Tell whether anything has come to this process through the pool in this test."""
    return _wire_objects.arrivals > by_reference.before


by_reference.before = 0


def use_queue(manager):
    jobs = manager.Queue(1)
    jobs.put("a")
    with pytest.raises(queue.Full):
        jobs.put_nowait("b")
    assert jobs.get() == "a"
    children.eventually(jobs.empty, "the server to take the other")
    with pytest.raises(queue.Empty):
        jobs.get(timeout=0.01)


def remember(word):
    assert word == "told"
