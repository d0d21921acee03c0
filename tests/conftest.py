"""Each test has its own pool directory, and leaves no file, descriptor or child behind.

It does not change the process for later tests either.
"""

from __future__ import annotations

import gc
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import warnings
import zlib
from collections import defaultdict
from pathlib import Path

import children
import hypothesis
import pytest
import seeds

import onecopy as oc
from onecopy import _native, default
from onecopy._core import stale

# A shell that runs this in the background makes it ignore Ctrl-C. All processes that tests start
# would inherit this.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Many accounts have 0002. Then others may write in the directories that tests make for pools.
os.umask(0o022)

# Examples follow from the text of the test, or, in `make explore`, from --hypothesis-seed. Nothing
# is remembered between runs.
hypothesis.settings.register_profile(
    "onecopy", derandomize=not seeds.EXPLORED, database=None, print_blob=True
)
hypothesis.settings.load_profile("onecopy")


def pytest_collection_modifyitems(items):
    """Leave all but one way to start a process to `make check`, for each test that has several.

    Which one it is follows from the test's name: so each of them has its tests in each file. The
    name of the file does not count: a test that moves keeps its variants.
    """
    variants = defaultdict(list)
    way = re.compile(rf"\b({'|'.join(children.METHODS)})\b")
    for item in items:
        test, _, chosen = item.nodeid.partition("[")
        if way.search(chosen):
            variants[test, way.sub("*", chosen)].append(item)
    for (_, chosen), items_of_one in variants.items():
        core = zlib.crc32(f"{items_of_one[0].originalname}{chosen}".encode()) % len(items_of_one)
        for number, item in enumerate(items_of_one):
            if number != core:
                item.add_marker("check")
    _thin_out(items)


def _thin_out(items):
    """Leave all but one in n variants to `make check`, for each test that says `one_in(n)`.

    Which ones stay is drawn from their names, without the file's: always the same, and of a test
    with two parameters no value of one of them is left out because of where it stands. With
    ``check=m``, all but one in m of those that are left out are `slow`: not in continuous
    integration either.
    """
    variants = defaultdict(list)
    for item in items:
        mark = item.get_closest_marker("one_in")
        if mark is not None and item.get_closest_marker("check") is None:
            share = mark.kwargs.get("check", 1)
            variants[item.nodeid.partition("[")[0], mark.args[0], share].append(item)
    for (_, step, share), items_of_one in variants.items():
        items_of_one.sort(key=lambda item: zlib.crc32(item.name.encode()))
        stay = -(-len(items_of_one) // step)
        for number, item in enumerate(items_of_one[stay:]):
            item.add_marker("slow" if number % share else "check")


@pytest.fixture(scope="session", autouse=True)
def _helpers_of_multiprocessing():
    """Start multiprocessing's own helpers now. They stay, so they must not count as a leak."""
    multiprocessing.resource_tracker.ensure_running()
    multiprocessing.forkserver.ensure_running()


_loaded = 0  # the number of modules when `gc.freeze` was last called


def _spare_the_collector():
    """Each test collects garbage twice. Objects of pytest and pandas are not scanned each time."""
    global _loaded  # noqa: PLW0603
    gc.collect()
    if len(sys.modules) > _loaded + 50:
        gc.freeze()
        _loaded = len(sys.modules)


def _collect_all():
    """Also collect frozen objects: they may have become garbage, and keep a pool."""
    global _loaded  # noqa: PLW0603
    gc.unfreeze()
    gc.collect()
    _loaded = 0


@pytest.fixture(autouse=True)
def pool_directory(monkeypatch, _helpers_of_multiprocessing):
    """A pool directory for this test alone; in memory, if there is room."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of its own is made in it
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30
    directory = Path(tempfile.mkdtemp(prefix="onecopy-test-", dir=memory if roomy else None))
    monkeypatch.setenv("ONECOPY_DIR", str(directory))
    monkeypatch.setenv("ONECOPY_POOL_SIZE", "256MiB")
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(autouse=True)
def _nothing_left_behind(pool_directory, request):
    _as_without_torch()  # a fixture of the session has loaded it
    _spare_the_collector()
    descriptors_before = children.descriptors()
    started = children.descendants()
    process_before = _state_of_process()
    yield
    if default._pool is not None:
        default._pool.close()
        default._pool = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unraisable errors of objects that a failed test left
        gc.collect()
    # A killed process leaves its file to the next process that uses the directory.
    children.eventually(lambda: not (children.descendants() - started), "children to be gone")
    stale.sweep(str(pool_directory), remove=True)
    _as_without_torch()
    if request.session.testsfailed == request.node.session._failed_before:
        assert _state_of_process() == process_before
        if not children.soon(lambda: _swept(pool_directory)):
            _collect_all()
        # Workers whose parent was killed are not our children. They end within a second.
        children.eventually(lambda: _swept(pool_directory), "the files of pools to be gone")
        # Threads of libraries may close a file a moment later.
        children.eventually(
            lambda: children.descriptors() == descriptors_before,
            f"{descriptors_before} descriptors; there are {children.descriptors()}",
        )


def _as_without_torch():
    """Receive arrays as before, if a test has loaded torch: it would change the tests after it."""
    if "torch" in sys.modules:
        _native.guard_writes(False)


def _state_of_process():
    """Return what a test must not change: umask, signal handlers, and how arrays are received."""
    umask = os.umask(0o022)
    os.umask(umask)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return umask, handlers, _native.guards_writes()


def _swept(directory):
    stale.sweep(str(directory), remove=True)
    return not any(directory.iterdir())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    item.session._failed_before = item.session.testsfailed


@pytest.fixture
def pool():
    """A pool of 64 MiB."""
    with oc.Pool.create(size="64MiB") as pool:
        yield pool


@pytest.fixture
def the_last_have_left(_nothing_left_behind):
    """After a test of the drop-in, wait for threads and workers that end a moment later."""
    yield
    gc.collect()
    children.eventually(
        lambda: all(thread.name != "onecopy-queue-readiness" for thread in threading.enumerate()),
        "the bells' threads to end",
    )
    children.eventually(_only_this_process, "other processes to leave the pool")


def _only_this_process():
    pool = default._pool
    if pool is None or pool.closed:
        return True
    pool.collect()
    return pool.stats().processes == 1


@pytest.fixture
def start():
    """Start a child: ``start("spawn", function, *arguments)``. It is ended with the test."""
    running = []

    def start(method, function, *arguments):
        child = children.start(method, function, *arguments)
        running.append(child)
        return child

    yield start
    for child in running:
        child.end()


@pytest.fixture(params=children.METHODS)
def method(request):
    """Each way to start a process."""
    return request.param
