"""A process is killed after each store of ``list[i] = x``; natively: shareable_test.cpp."""

import os
import signal

import pytest

from onecopy import _native
from onecopy.multiprocessing.shared_memory import ShareableList

if not hasattr(_native, "crash_after"):
    pytest.skip("needs a fault build: make faults", allow_module_level=True)

CHANGES = [
    ("x" * 60, "y" * 50),
    (b"x" * 60, "é" * 20),
    (1, 2),
    (None, 1.5),
    ("text", True),
    ("text", None),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_killed_while_setting_an_item(before, after):
    items = ShareableList(["room" * 20, 0, "neighbour"])
    at = 0 if isinstance(before, str | bytes) else 1
    found, step = [], 1
    while True:
        items[at] = before
        child = os.fork()
        if child == 0:
            _native.crash_after(step)
            items[at] = after
            _native.crash_after(0)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            break
        assert status == -signal.SIGKILL
        found.append(items[at])
        items[at] = before  # another process takes over the claim
        assert items[at] == before
        assert items[2] == "neighbour"
        step += 1
    assert set(map(repr, found)) == {repr(before), repr(after)}
    assert sorted(found, key=lambda item: item == after) == found  # after the commit, it stays
    items.shm.unlink()
