"""The registry of codecs: every thread may find that a library has been loaded."""

import sys
import threading

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from onecopy._codec.registry import Registry


def test_threads_that_meet_libraries_at_the_same_time():
    expected = {np.ndarray, np.ma.MaskedArray, pa.Array, pl.DataFrame, pl.Series}
    expected.add(pd.arrays.ArrowExtensionArray)
    if int(pd.__version__.partition(".")[0]) >= 3:  # pandas 2 does not collect its blocks
        expected.add(pd.core.internals.blocks.Block)
    if (torch := sys.modules.get("torch")) is not None:  # another test of this process needed it
        expected |= {torch.Tensor, torch.storage.UntypedStorage, torch.storage.TypedStorage}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            registry, start = Registry(), threading.Barrier(4)

            def meet(registry=registry, start=start):
                start.wait()
                registry.refresh()

            threads = [threading.Thread(target=meet) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert set(registry.kinds) == expected
            assert registry.kinds.index(np.ma.MaskedArray) < registry.kinds.index(np.ndarray)
    finally:
        sys.setswitchinterval(interval)


def test_a_library_that_is_just_being_loaded_has_no_objects_yet(monkeypatch):
    registry = Registry()
    monkeypatch.setattr(pa.__spec__, "_initializing", True, raising=False)
    registry.refresh()
    assert pa.Array not in registry.kinds
    monkeypatch.setattr(pa.__spec__, "_initializing", False, raising=False)
    registry.refresh()
    assert pa.Array in registry.kinds


def test_what_was_not_registered_is_left_to_pickle():
    assert Registry().reduce(object(), None) is NotImplemented
