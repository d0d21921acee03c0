"""The libraries of tables open descriptors of their own when they are first used; they stay."""

import gc

import pytest


@pytest.fixture(scope="session", autouse=True)
def _libraries_have_started():
    for library in ("pandas", "polars", "pyarrow", "scipy.sparse"):
        pytest.importorskip(library)
    import samples

    from onecopy._codec import pickler

    for make in (samples.frame_of_polars, samples.table_of_arrow):
        data, buffers, _ = pickler.encode(make())
        samples.assert_same(pickler.decode(data, buffers), make())
    gc.collect()
    gc.freeze()  # as the session does it with what pytest has loaded
