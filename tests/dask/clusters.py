"""Programs that make a small cluster of Dask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import clustered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PRELUDE = """
import contextlib, gc, logging, os, signal, sys, time, warnings
import numpy as np
from children import eventually

MIB = 1 << 20


def filled(nbytes, value=3):
    return np.full(nbytes, value, "u1")


def total(array):
    return int(array.sum())


def add_one(array):
    array += 1
    return int(array[0]), int(array[-1])


def counted():
    import onecopy.dask
    return onecopy.dask.counts


def places_of(counted):
    return sum(each.messages for each in counted.values())


@contextlib.contextmanager
def cluster(workers=2, **options):
    from distributed import Client, LocalCluster

    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0", **options}
    with LocalCluster(n_workers=workers, **options) as made, Client(made) as client:
        yield client, list(client.scheduler_info(n_workers=-1)["workers"])


def pool():
    from onecopy.dask.membership import membership
    return membership.pool


def is_empty():
    gc.collect()
    pool().collect()
    return pool().stats().blocks == 0


def addresses(client):
    return list(client.scheduler_info(n_workers=-1)["workers"])


def replaced(client, dead, workers):
    found = addresses(client)
    return len(found) == workers and dead not in found


def nanny_is_running(dask_worker=None):
    return dask_worker.status.name == "running"


def pids_to_kill(client):
    # Dask does not restart a worker that dies before its nanny knows that it has started.
    everywhere = lambda: all(client.run(nanny_is_running, nanny=True).values())
    eventually(everywhere, "nannies that know of their workers")
    return client.run(os.getpid)
"""


def needs(module: str) -> None:
    """Skip the test, if a library is not installed."""
    clustered.needs(module, "dask")


def run(
    text: str,
    folder: Path,
    *,
    inside: Sequence[str] = (),
    limit: float = clustered.LIMIT,
    **environment: str,
) -> str:
    """Run a program that defines `main`; return what it prints."""
    return clustered.run_main(PRELUDE, text, folder, environment, inside, limit)
