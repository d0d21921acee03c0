"""A process ends while a daemon thread of it is held at any step of a call; see `crash_ends`.

It needs a fault build: `make faults`, then ``PYTHONPATH=build/faults/site``.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from programs import left

from onecopy import _native

if not hasattr(_native, "stall_at"):
    pytest.skip("needs a fault build: make faults", allow_module_level=True)

from crash_ends import CALLS

LIMIT = 300  # seconds: a watchdog


@pytest.mark.one_in(5)
@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("call", CALLS)
def test_ended_in(call, record_property):
    script = Path(__file__).with_name("crash_ends.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", script, call],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 0
    record_property("steps", int(done.stdout))
    assert left() == []
