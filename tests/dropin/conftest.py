"""What goes on for a moment after a test of the drop-in, and is waited for."""

import gc
import threading

import pytest
from children import eventually

from onecopy import default


def _only_this_process():
    pool = default._pool
    if pool is None or pool.closed:
        return True
    pool.collect()
    return pool.stats().processes == 1


@pytest.fixture(autouse=True)
def _the_last_have_left(_nothing_left_behind):
    """Wait for threads that were told to end, and for workers that have lost their parent."""
    yield
    gc.collect()
    eventually(
        lambda: all(thread.name != "onecopy-queue-bell" for thread in threading.enumerate()),
        "the bells' threads to end",
    )
    eventually(_only_this_process, "other processes to leave the pool")
