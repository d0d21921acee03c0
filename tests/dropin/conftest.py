"""Each test of the drop-in waits until its processes and threads have ended."""

import pytest


@pytest.fixture(autouse=True)
def _all_have_left(the_last_have_left):
    """See tests/conftest.py."""
