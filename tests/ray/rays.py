"""Programs that start Ray on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import clustered

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 300  # seconds: a watchdog. Ray starts ten processes, each of which loads much

PRELUDE = """
import contextlib, gc, os, shutil, signal, sys, tempfile, warnings
import numpy as np
from children import eventually
import ray
import onecopy as oc
import onecopy.ray

N = 300_000  # numbers of an array: 2.4 MB


@contextlib.contextmanager
def started(pool=None, **options):
    # Sockets lie in there, whose paths have to be short.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    try:
        options |= {"num_cpus": 2, "include_dashboard": False, "log_to_driver": False}
        options |= {"object_store_memory": 100 << 20, "logging_level": "ERROR"}
        for attempt in range(8):
            try:
                onecopy.ray.init(pool=pool, _temp_dir=folder, **options)
                break
            except Exception as error:  # Ray gives up after 30 s, on a machine that is busy
                if "timed out during startup" not in str(error):
                    raise
                ray.shutdown()
        yield pool_of_it()
        ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pool_of_it():
    from onecopy.ray.sharing import sharing
    return sharing.pool


def holder():
    from onecopy.ray.sharing import sharing
    return sharing.holder(sharing.pool.id)


def kept():
    return ray.get(holder().held.remote())[0]


def full(value, n=N):
    array = oc.empty(n)
    array[:] = value
    return array


def by_place(array):
    return pool_of_it().where(array) is not None


def sent():
    return onecopy.ray.counts.sent


def is_dead(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            ended = file.read().rpartition(")")[2].split()[0] == "Z"
        # Its first thread may have ended before the others.
        return ended and len(os.listdir(f"/proc/{pid}/task")) == 1
    except FileNotFoundError:
        return True


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: is_dead(pid), "its death")


def nothing_is_left():
    gc.collect()
    eventually(lambda: kept() == 0, "the holder")
    pool_of_it().collect()
    assert pool_of_it().stats().blocks == 0, pool_of_it().stats()


@ray.remote
def total(array):
    return float(array.sum())


@ray.remote
def make(value):
    return full(value), os.getpid(), sent()


@ray.remote
class Actor:
    def make(self, value):
        return full(value)

    def keep(self, what):
        self.what = what
        return os.getpid()

    def total(self):
        return float(ray.get(self.what[0]).sum())
"""


def needs() -> None:
    """Skip the tests, if Ray is not installed."""
    clustered.needs("ray", "ray")


def run(text: str, folder: Path, **environment: str) -> str:
    """Run a program that defines `main`; return what it prints."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "ONECOPY_POOL_SIZE": "256MiB", **environment}
    return clustered.run_main(PRELUDE, text, folder, quiet, limit=LIMIT)
