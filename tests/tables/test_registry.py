"""The registry of codecs: every thread may find that a library has been loaded."""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from onecopy._codec.registry import Registry, codecs, has_tables, register


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


def test_a_package_registers_the_codec_of_a_library(pool_directory, tmp_path):
    """The codec is imported when the program has loaded the library and sends something."""
    (tmp_path / "library_of_dots.py").write_text("class Dots:\n    pass\n")
    (tmp_path / "codec_of_dots.py").write_text(
        textwrap.dedent(
            """
            import numpy as np
            from library_of_dots import Dots

            def types_of(library):
                assert library == "library_of_dots"
                return ((Dots, lambda dots, packing: (rebuild, (dots.array,))),)

            def rebuild(array):
                dots = Dots()
                dots.array, dots.rebuilt = array, True
                return dots
            """
        )
    )
    code = """
    import sys
    import numpy as np, onecopy as oc
    from onecopy._codec.registry import register
    register("library_of_dots", reducers="codec_of_dots")
    pool = oc.Pool.create(size="8MiB")
    pool.put([np.zeros(9)])
    assert not {"library_of_dots", "codec_of_dots"} & {*sys.modules}
    import library_of_dots
    dots = library_of_dots.Dots()
    dots.array = pool.array(np.arange(9000))
    [got] = pool.put([dots]).get()
    assert got.rebuilt
    assert (got.array == dots.array).all()
    assert not got.array.flags.writeable
    """
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_library_and_a_number_are_registered_once():
    before = dict(codecs)
    with pytest.raises(ValueError, match=r"'pandas'.*is registered already"):
        register("pandas", reducers="another")
    with pytest.raises(ValueError, match=r"\[1\], is registered already"):
        register("a_library", built="another", builders={1: "frame_of"})
    assert codecs == before


def test_the_libraries_that_have_tables():
    assert {library for library in codecs if has_tables(library)} == {"pandas", "polars", "pyarrow"}
    assert not has_tables("a_library")
