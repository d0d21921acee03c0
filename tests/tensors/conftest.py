"""torch, where it is installed."""

import gc
import warnings

import pytest

from onecopy import _native


@pytest.fixture(scope="session")
def torch():
    """Imported only when a test needs it: it takes seconds, and then the process guards writes."""
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own warnings, about its own functions
        import torch

        torch.zeros(1).numpy()
    torch.set_num_threads(1)  # its threads do not survive a fork, and other tests fork
    return torch


@pytest.fixture(autouse=True)
def _as_without_torch():
    """Other tests of this process continue as in one that has not loaded torch."""
    _native.guard_writes(None)
    before = _native.private_mappings()
    yield
    _native.guard_writes(False)
    gc.collect()
    assert _native.private_mappings() <= before
