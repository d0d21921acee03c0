"""A signal handler uses the package while the same thread runs the package's own code.

It runs at each bytecode in turn of the code that makes the default pool, maps a file or reads a
table.
"""

from __future__ import annotations

import signal
import sys

import numpy as np
import pytest

import onecopy as oc
from onecopy import default
from onecopy.files import mapping


class _Handled:
    """Sends this process a signal at the n-th bytecode of a file's code that runs inside of it."""

    def __init__(self, file, n):
        self._file, self.left = file, n

    def __enter__(self):
        sys.settrace(self._called)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _called(self, frame, event, argument):
        if frame.f_code.co_filename != self._file:
            return None
        frame.f_trace_opcodes = True
        return self._runs

    def _runs(self, frame, event, argument):
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGUSR1)
        return self._runs


@pytest.fixture
def handler():
    """Install a function as handler of the signal."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda function: signal.signal(signal.SIGUSR1, lambda *_: function())
    signal.signal(signal.SIGUSR1, before)


def _at_each_bytecode(file, act):
    # Once without a signal: Python 3.12 and 3.13 report the bytecodes of a function only after a
    # run in which it was asked for.
    with _Handled(file, 0):
        act()
    n = 1
    while True:
        with _Handled(file, n) as at:
            act()
        if at.left > 0:
            return n
        n += 1


def test_the_default_pool(handler, monkeypatch):
    monkeypatch.setenv("ONECOPY_POOL_SIZE", "1MiB")
    seen = []
    handler(lambda: seen.append(oc.put(1)))

    def make():
        if default._pool is not None:
            default._pool.close()
            default._pool = None
        seen.clear()
        pool = oc.default_pool()
        assert pool is oc.default_pool()
        assert all(ref.get() == 1 for ref in seen)
        if seen and default._pool is pool:
            pool.put(2)

    assert _at_each_bytecode(default.__file__, make) > 20


def test_adopting_the_default_pool(handler, pool):
    handler(lambda: oc.put(1))

    def adopt():
        if default._pool is not None:
            default._pool.close()
            default._pool = None
        default.adopt(pool.member)
        assert oc.default_pool() is oc.default_pool()
        if default._pool == pool:
            default._pool = None  # the fixture closes it

    assert _at_each_bytecode(default.__file__, adopt) > 5


def test_mapping_a_file(handler, tmp_path):
    path = tmp_path / "numbers.npy"
    np.save(path, np.arange(1000))
    handler(lambda: oc.open_array(path))

    def map_it():
        array = oc.open_array(path)
        assert array.sum() == 499500
        assert len(mapping._shared) == 1

    assert _at_each_bytecode(mapping.__file__, map_it) > 50


def test_reading_a_table(handler, tmp_path, pool):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.ipc

    from onecopy.files import table

    path = tmp_path / "numbers.arrow"
    content = pa.table({"a": [1, 2, 3]})
    with pyarrow.ipc.new_file(path, content.schema) as file:
        file.write_table(content)
    handler(lambda: oc.open_table(path, pool=pool))

    def read():
        assert oc.open_table(path, pool=pool).equals(content)

    assert _at_each_bytecode(table.__file__, read) > 50
