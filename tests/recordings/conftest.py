"""Tests of recordings need the package mcap, which the extra `record` installs."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("mcap") else ["test_*.py"]
