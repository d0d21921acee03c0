"""No test leaves workers; what joblib starts once for each process is started before the tests."""

import gc
import threading

import children
import pytest

pytest.importorskip("joblib")

from joblib.externals.loky.backend import resource_tracker

import onecopy.joblib


@pytest.fixture(scope="session", autouse=True)
def _helper_of_joblib(_helpers_of_multiprocessing):
    resource_tracker.ensure_running()


@pytest.fixture(autouse=True)
def _no_workers_left(_nothing_left_behind, _helper_of_joblib):
    yield
    onecopy.joblib.shutdown()
    children.eventually(
        lambda: not any(thread.name.startswith("onecopy") for thread in threading.enumerate()),
        "workers that were replaced to end, and the threads that look after them",
    )
    gc.collect()
