"""Managers with a server for one test each."""

from __future__ import annotations

import pytest
from serving import by_reference, started

from onecopy.multiprocessing import _wire_objects


@pytest.fixture
def manager():
    with started() as manager:
        yield manager


@pytest.fixture
def tcp():
    """A manager that listens on a port."""
    with started(("127.0.0.1", 0)) as manager:
        yield manager


@pytest.fixture(autouse=True)
def _nothing_has_come_yet():
    by_reference.before = _wire_objects.arrivals
