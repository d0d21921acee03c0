"""As in a process that has not loaded torch: received memory is not private."""

import sys

import pytest


@pytest.fixture(autouse=True)
def _as_without_torch(monkeypatch):
    """Other tests of this process may have loaded it."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
