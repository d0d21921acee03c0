"""Executors for tests."""

import multiprocessing

import pytest

import onecopy as oc


@pytest.fixture
def executor(pool):
    """Two forked workers on a pool of 64 MiB."""
    with oc.Executor(2, pool, multiprocessing.get_context("fork")) as executor:
        yield executor


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request):
    """Each way to start workers."""
    return multiprocessing.get_context(request.param)
