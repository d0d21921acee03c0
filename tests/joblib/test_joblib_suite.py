"""joblib's own tests of parallel calls: a slice of them, and all of them, in `make test-all`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("suite.py")
SLICE = "onecopy and (test_error_capture or test_nested_exception_dispatch or test_simple_parallel)"
IN_ALL = 690  # that pass with joblib 1.6; some are skipped where optional packages are missing


def run(*arguments, seconds):
    done = subprocess.run(
        [sys.executable, RUNNER, *arguments],
        env=os.environ | {"ONECOPY_POOL_SIZE": "256MiB"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_slice():
    counts = run("-k", SLICE, seconds=110)
    assert counts["failed"] == 0
    assert counts["passed"] >= 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_of_it():
    counts = run(seconds=850)
    assert counts["failed"] == 0
    assert counts["passed"] >= IN_ALL
    assert counts["unknown exclusions"] == []
