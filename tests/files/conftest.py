"""The folder of the files of these tests: not the pool directory, which must stay empty."""

import pytest
from mappings import fingerprint


@pytest.fixture
def elsewhere(tmp_path):
    """A directory that may have pools: owned by this user, and closed to others."""
    directory = tmp_path / "elsewhere"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def unchanged():
    """Fail if a file, given by ``unchanged(path)``, has been changed by the end of the test."""
    seen = []

    def watch(path):
        seen.append((path, fingerprint(path)))

    yield watch
    for path, before in seen:
        assert fingerprint(path) == before, f"{path} was changed"
