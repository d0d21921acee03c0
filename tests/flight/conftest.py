"""Certificates, a pool and a server for one test each."""

from __future__ import annotations

import certificates
import pytest

import onecopy as oc


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return certificates.Authority(tmp_path_factory.mktemp("flight"))


@pytest.fixture(scope="session")
def tls(authority):
    return authority.sign("server")


@pytest.fixture(scope="session")
def foreign(tmp_path_factory):
    """A certificate of an authority that no server here knows."""
    return certificates.Authority(tmp_path_factory.mktemp("foreign")).sign("foreign")


@pytest.fixture
def here():
    """The pool of the server."""
    with oc.Pool.create("here", size="64MiB") as pool:
        yield pool


@pytest.fixture
def there():
    """A pool that stands for one of another host."""
    with oc.Pool.create("there", size="64MiB") as pool:
        yield pool


@pytest.fixture
def server(here):
    with oc.serve(here) as server:
        yield server
