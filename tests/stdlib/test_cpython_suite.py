"""CPython's own tests: a slice of them always, all of them in `make test-all`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stdlib import translate

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    translate.source_of_the_suite() is None, reason="this interpreter came without its tests"
)

SLICE = {
    "fork": ["_TestQueue", "_TestValue", "_TestArray", "_TestRemoteManager", "_TestMyManager"],
    "spawn": ["_TestLock", "_TestSemaphore", "_TestSharedMemory", "_TestSharedCTypes"],
    "forkserver": ["TestSimpleQueue", "_TestPoolWorkerErrors", "_TestPoolWorkerLifetime"],
}
IN_ALL = 175  # that are not skipped by CPython itself; early releases have fewest
AT_LEAST = {"fork": 20, "spawn": 20, "forkserver": 8}


def run(method, names, tmp_path, seconds):
    done = subprocess.run(
        [sys.executable, "-m", "tests.stdlib", "--method", method, *names],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    print(done.stdout)
    return json.loads(next(line for line in done.stdout.splitlines() if line[0] == "{"))


@pytest.mark.parametrize("method", SLICE)
def test_a_slice(method, tmp_path):
    counts = run(method, SLICE[method], tmp_path, 110)
    assert counts["ran"] - counts["skipped"] >= AT_LEAST[method]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("method", SLICE)
def test_all_of_it(method, tmp_path):
    counts = run(method, [], tmp_path, 1100)
    assert counts["ran"] - counts["skipped"] >= IN_ALL
