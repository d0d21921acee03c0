"""Programs that make a small cluster of Dask, in processes of their own.

A program is a file, because workers import it. It has `PRELUDE` before it. Its `main` gets nothing
and asserts. What it prints is shown if it fails.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 110  # seconds: a watchdog
TESTS = str(Path(__file__).parents[1])  # programs use `children`

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
    # It is not imported: distributed changes much in a process.
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        found = False
    if not found:
        reason = f"needs {module}, which is not installed: pip install 'onecopy[dask]'"
        pytest.skip(reason, allow_module_level=True)


def run(
    text: str,
    folder: Path,
    *,
    inside: Sequence[str] = (),
    limit: float = LIMIT,
    **environment: str,
) -> str:
    """Run a program that defines `main`; return what it prints.

    It is in a process group of its own with all that it starts. None of that is left.
    """
    path = folder / "program.py"
    end = '\n\nif __name__ == "__main__":\n    main()\n    print("done")\n'
    path.write_text(PRELUDE + textwrap.dedent(text) + end, encoding="utf-8")
    search = os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")])
    outputs = folder / "stdout", folder / "stderr"
    with outputs[0].open("w") as stdout, outputs[1].open("w") as stderr:
        program = subprocess.Popen(
            [*inside, sys.executable, str(path)],
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            cwd=folder,
            env={
                **os.environ,
                "PYTHONFAULTHANDLER": "1",
                "PYTHONPATH": search.rstrip(os.pathsep),
                **environment,
            },
        )
    late = False
    try:
        program.wait(limit)
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(program.pid, signal.SIGABRT)  # all say where their threads are
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(5)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
    printed, said = (path.read_text(encoding="utf-8", errors="replace") for path in outputs)
    said = f"{printed}\n{said}"
    assert not late, f"it has not ended after {limit} s\n{said[-6000:]}"
    assert program.returncode == 0, said[-6000:]
    assert printed.endswith("done\n"), said[-6000:]
    return said
