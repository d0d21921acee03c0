"""Tests of recordings need the package mcap, which the extra `record` installs."""

import pytest

pytest.importorskip("mcap")
