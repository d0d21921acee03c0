"""CPython's own tests: a slice of them always, all of them in `make test-all`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stdlib import futures, translate

ROOT = Path(__file__).resolve().parents[2]

needs_suite = pytest.mark.skipif(
    translate.source_of_the_suite() is None, reason="this interpreter came without its tests"
)
needs_futures = pytest.mark.skipif(
    futures.source() is None, reason="no interpreter here came with test_concurrent_futures"
)

SLICE = {
    "fork": ["_TestQueue", "_TestValue", "_TestArray", "_TestRemoteManager", "_TestMyManager"],
    "spawn": ["_TestLock", "_TestSemaphore", "_TestSharedMemory", "_TestSharedCTypes"],
    "forkserver": ["TestSimpleQueue", "_TestPoolWorkerErrors", "_TestPoolWorkerLifetime"],
}
EXECUTORS = [  # those that do not wait for seconds
    "init",
    "deadlock",
    "test_submit",
    "test_submit_keyword",
    "test_map",
    "test_map_exception",
    "test_no_stale_references",
    "test_free_reference",
    "test_killed_child",
    "test_map_chunksize",
    "test_traceback",
    "test_ressources_gced_in_workers",
    "test_saturation",
    "test_cancel_futures",
    "test_del_shutdown",
    "test_shutdown_no_wait",
]
IN_ALL = 175  # that are not skipped by CPython itself; early releases have fewest
AT_LEAST = {"fork": 20, "spawn": 20, "forkserver": 8}


def run(method, names, tmp_path, seconds, suite="tests.stdlib"):
    done = subprocess.run(
        [sys.executable, "-m", suite, "--method", method, *names],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    print(done.stdout)
    return json.loads(next(line for line in done.stdout.splitlines() if line[:1] == "{"))


@needs_suite
@pytest.mark.parametrize("method", SLICE)
def test_a_slice(method, tmp_path):
    counts = run(method, SLICE[method], tmp_path, 110)
    assert counts["ran"] - counts["skipped"] >= AT_LEAST[method]


@needs_suite
@pytest.mark.check
def test_a_run_that_a_shell_has_put_in_the_background(tmp_path):
    # Such a shell makes the program ignore SIGINT, and programs inherit that.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        counts = run("fork", ["_TestCondition.test_wait_result"], tmp_path, 110)
    finally:
        signal.signal(signal.SIGINT, before)
    assert counts["ran"] == 2


@needs_suite
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("method", SLICE)
def test_all_of_it(method, tmp_path):
    counts = run(method, [], tmp_path, 1100)
    assert counts["ran"] - counts["skipped"] >= IN_ALL


def test_names_that_are_imported_beside_a_replaced_one_stay(tmp_path):
    lines = (
        "from test.support import Py_GIL_DISABLED\nfrom test.support import Py_GIL_DISABLED, a\n"
    )
    assert futures.translate(lines, tmp_path) == (
        "Py_GIL_DISABLED = False\nPy_GIL_DISABLED = False; from test.support import a\n"
    )


@pytest.mark.check
@needs_futures
def test_a_slice_of_the_executors(tmp_path):
    counts = run("fork", EXECUTORS, tmp_path, 110, "tests.stdlib.futures")
    assert counts["ran"] - counts["skipped"] >= 25


@needs_futures
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", SLICE)
def test_all_of_the_executors(method, tmp_path):
    counts = run(method, [], tmp_path, 500, "tests.stdlib.futures")
    assert counts["ran"] - counts["skipped"] >= 55
