"""Libraries with a wrong name, libraries that do not work, and libraries while they load."""

import os
import subprocess
import sys
import textwrap

import pytest

PUT = """
import numpy as np, onecopy as oc
pool = oc.Pool.create(size="8MiB")
words = np.array([f"word {i}" for i in range(5000)], object)
for obj in ([np.arange(9)], {"a": np.arange(9000)}):
    for got in (pool.put(obj).get(), oc.writable_copy(obj)):
        assert type(got) is type(obj)
assert (pool.put([words]).get()[0] == words).all()
"""
OLD = """
for name in "DataFrame Series Boolean Int8 Object CompatLevel Array".split():
    globals()[name] = type(name, (), {})
"""
STUB = "import sys, types\nsys.modules['pyarrow'] = types.ModuleType('pyarrow')\n"
MOCK = "import sys\nfrom unittest import mock\nsys.modules['pandas'] = mock.MagicMock()\n"
MOCK_OF_A_LOADED_ONE = MOCK + "sys.modules['pandas'].__spec__ = None\n"


def run(code, directory, files):
    for name, text in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(directory)},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("first", "files"),
    [
        ("import polars", {"polars.py": "x = 1"}),
        ("import polars", {"polars/__init__.py": OLD}),
        ("import pandas", {"pandas.py": "x = 1"}),
        ("import pandas", {"pandas/data.txt": ""}),
        ("import pyarrow", {"pyarrow.py": "x = 1"}),
        ("import pyarrow", {"pyarrow.py": "Array = 1"}),
        (STUB + "import polars", {}),
        (MOCK, {}),
        (MOCK_OF_A_LOADED_ONE, {}),
    ],
    ids=[
        "polars",
        "old polars",
        "pandas",
        "namespace",
        "pyarrow",
        "no type",
        "stub",
        "mock",
        "mock without a spec",
    ],
)
def test_a_module_that_only_has_a_library_s_name_is_left_alone(
    pool_directory, tmp_path, first, files
):
    run(first + PUT, tmp_path, files)


def test_polars_pickles_itself_where_pyarrow_does_not_work(pool_directory, tmp_path):
    code = """
    import logging, sys
    logging.basicConfig(stream=sys.stdout, level=logging.INFO)
    import onecopy as oc, polars as pl
    pool = oc.Pool.create(size="8MiB")
    series = pl.Series(range(9000))
    for _ in range(2):
        assert pool.put(series).get().equals(series)
    objects = pl.DataFrame({"o": pl.Series([{1}] * 3, dtype=pl.Object)})
    assert pool.put(objects).get()["o"].to_list() == [{1}] * 3
    """
    run(code, tmp_path, {"pyarrow/__init__.py": "raise ImportError('libarrow.so is missing')"})


def test_a_library_that_is_not_the_real_one_is_told_of_once(monkeypatch, caplog):
    from onecopy._codec.registry import Registry

    monkeypatch.delitem(sys.modules, "onecopy.tables.arrow", raising=False)
    import pyarrow as pa

    monkeypatch.delattr(pa, "Array")
    registry = Registry()
    with caplog.at_level("INFO", "onecopy"):
        for _ in range(3):
            registry.refresh()
    [record] = [each for each in caplog.records if "pyarrow" in each.getMessage()]
    assert "pickled in their own way" in record.getMessage()
    assert not registry.has("pyarrow")
    assert registry.has("pandas")


@pytest.mark.parametrize("module", ["pyarrow", "onecopy.tables.arrow"])
def test_a_fork_while_a_thread_loads_a_module(pool_directory, tmp_path, module):
    """The thread does not exist in the child, so the module stays half loaded: no call waits."""
    code = f"""
    import importlib.util, os, signal, sys, threading, warnings
    import numpy as np, onecopy as oc
    if {module!r} != "pyarrow":
        import pyarrow
    pool = oc.Pool.create(size="8MiB")
    words = np.array([f"word {{i}}" for i in range(5000)], object)
    started, go = threading.Event(), threading.Event()

    class Slow:
        def find_spec(self, name, path=None, target=None):
            if name == {module!r}:
                return importlib.util.spec_from_loader(name, self)

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            started.set()
            go.wait(60)

    sys.meta_path.insert(0, Slow())
    thread = threading.Thread(target=__import__, args=({module!r},))
    thread.start()
    assert started.wait(60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        signal.alarm(20)  # not for ever, if it does wait
        os._exit(0 if (pool.put([words]).get()[0] == words).all() else 1)
    status = os.waitpid(child, 0)[1]
    go.set()
    thread.join()
    assert status == 0, status
    """
    run(code, tmp_path, {})
