"""As in a process that has not loaded torch: received memory is not private."""

import pytest

from onecopy import _native


@pytest.fixture(autouse=True)
def _as_without_torch():
    """Other tests of this process may have loaded it."""
    before = _native.guard_writes(False)
    yield
    _native.guard_writes(before)
