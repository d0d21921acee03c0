"""Tables between processes that are newly started, so that a received table loads its library."""

import subprocess
import sys

import children
import numpy as np
import pytest
import samples

from onecopy._codec import pickler

NAMES = [
    "numeric",
    "str",
    "zone",
    "rows by words",
    "object",
    "table",
    "polars frame",
    "csr",
    "masked array",
]
A_FEW = [sample for sample in samples.SAMPLES if sample.name in NAMES]


def send_back(jobs, answers):
    """Take objects and send them back, with whether their memory is read-only."""
    while (obj := jobs.get(timeout=60)) is not None:
        answers.put((obj, not any(part.flags.writeable for part in samples.large(obj))))


def test_objects_go_to_another_process_and_back_without_a_copy(pool, start):
    once = sum(pool.put(sample.make()).nbytes for sample in A_FEW)
    jobs, answers = pool.queue(), pool.queue()
    child = start("spawn", send_back, jobs, answers)
    for sample in A_FEW:
        jobs.put(sample.make())
    jobs.put(None)
    received = [answers.get(timeout=60) for _ in A_FEW]
    assert child.wait() == 0
    assert children.used(pool) < 1.1 * once
    for sample, (got, read_only) in zip(A_FEW, received, strict=True):
        assert read_only or not sample.stays
        samples.assert_same(got, sample.make())
        if sample.stays:
            assert all(samples.lies_in(pool, part) for part in samples.large(got))


@pytest.mark.parametrize("library", ["pandas", "pyarrow", "polars"])
def test_a_library_that_the_receiver_lacks(pool, monkeypatch, library):
    sample = {"pandas": "numeric", "pyarrow": "table", "polars": "polars series"}[library]
    [sample] = [each for each in samples.SAMPLES if each.name == sample]
    pool["table"] = sample.make()
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)  # as if it could not be found
    if library == "polars":
        monkeypatch.delitem(sys.modules, "onecopy.tables.polars_frames")
    with pytest.raises(ModuleNotFoundError, match=r"onecopy\[tables\]") as caught:
        pool["table"]
    assert caught.value.name.partition(".")[0] == library
    assert sys.executable in str(caught.value)


class Elsewhere:
    """Its module does not exist any more when it is received."""


def test_a_module_that_the_receiver_lacks(pool, monkeypatch):
    monkeypatch.setattr(Elsewhere, "__module__", "module_of_the_sender")
    module = type(sys)("module_of_the_sender")
    module.Elsewhere = Elsewhere
    monkeypatch.setitem(sys.modules, "module_of_the_sender", module)
    pool["object"] = Elsewhere()
    monkeypatch.delitem(sys.modules, "module_of_the_sender")
    with pytest.raises(ModuleNotFoundError, match=r"module_of_the_sender.*install"):
        pool["object"]


def test_none_of_the_libraries_is_loaded_by_ourselves(pool_directory):
    code = """
import sys, numpy as np, onecopy as oc
pool = oc.Pool.create(size="8MiB")
text = np.array([str(i) for i in range(10_000)], object)
got = pool.put({"a": np.zeros(10_000), "m": np.arange(5000).view(np.recarray), "t": text}).get()
oc.writable_copy(got)
assert (got["t"] == text).all()
print(sorted({"pandas", "pyarrow", "polars", "scipy"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_libraries_may_be_loaded_at_any_time(pool_directory):
    code = """
import sys, numpy as np, onecopy as oc
pool = oc.Pool.create(size="8MiB")
pool.put([np.zeros(10_000)])
import polars as pl
series = pl.Series("x", np.arange(10_000))
got = pool.put(series).get()
buffers = got.to_frame().to_arrow()["x"].chunk(0).buffers()
assert pool.member.where(buffers[1]) is not None
import pandas as pd
got = pool.put(pd.Series(["word"] * 10_000, dtype="string[pyarrow]")).get()
used = pool.stats().used
again = pool.put(got)
assert pool.stats().used - used < 4000
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_taking_apart_leaves_no_cycle():
    """A cycle would keep memory of a pool until the next garbage collection."""
    import gc

    objects = [sample.make() for sample in A_FEW] + [np.arange(20_000)[::2]]
    pickler.encode(objects)
    gc.collect()
    gc.disable()
    try:
        for obj in objects:
            if type(obj).__module__.partition(".")[0] != "scipy":
                pickler.encode([obj])
        assert gc.collect() == 0
    finally:
        gc.enable()
