"""Each kind of event loop."""

import contextlib

import pytest
from event_loops import LOOPS

from onecopy import _native


@pytest.fixture(scope="session", autouse=True)
def _libuv():
    """libuv keeps a pipe for signals, which it opens with the first loop."""
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.new_event_loop().close()


@pytest.fixture(params=LOOPS)
def loop(request):
    """Each kind of loop; "polling": a kernel without futex_waitv."""
    _native.pretend_no_futex_waitv(request.param == "polling")
    yield request.param
    _native.pretend_no_futex_waitv(False)


@pytest.fixture
def condition(pool):
    """A condition that tasks can use."""
    return pool.condition("c", pool.lock("l"))
