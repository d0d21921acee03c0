"""The libraries of tables open descriptors of their own at their first use, and keep them open."""

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
    gc.freeze()  # as the session does for what pytest has loaded
