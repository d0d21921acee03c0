"""Managers with a server for one test each."""

from __future__ import annotations

import certificates
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


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return certificates.Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def tls(authority):
    return authority.sign("one")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory):
    """A certificate of an authority that no server here knows; it knows the servers' one."""
    return certificates.Authority(tmp_path_factory.mktemp("other")).sign("stranger")
