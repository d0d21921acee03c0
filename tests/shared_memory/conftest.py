"""Names and pipes for tests of segments."""

import os

import pytest
from segment_files import fresh_name


@pytest.fixture
def name():
    yield from fresh_name()


@pytest.fixture
def pipes(tmp_path):
    for pipe in ("ready", "go_on"):
        os.mkfifo(tmp_path / pipe)
    return str(tmp_path / "ready"), str(tmp_path / "go_on")
