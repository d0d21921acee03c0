"""No object has two weak references with callbacks that we made.

CPython 3.11 does not clear several, if the object is destroyed while the process has no
memory for a list of them. Each of them then has a pointer to freed memory.
"""

from __future__ import annotations

import weakref

import numpy as np
import pytest

import onecopy as oc
from onecopy._core.weak_tables import remove_if


def with_callbacks(obj):
    return [known for known in weakref.getweakrefs(obj) if known.__callback__ is not None]


def of_a_member(pool, tmp_path):
    pool.put(1)
    oc.Pool.open(pool.name)
    return pool.member


def of_a_file(pool, tmp_path):
    np.save(tmp_path / "a.npy", np.arange(10))
    array = oc.open_array(tmp_path / "a.npy")
    pool.put(array).get()
    while isinstance(array, np.ndarray):
        array = array.base
    return array


def of_an_executor(pool, tmp_path):
    executor = oc.Executor(1, pool=pool)
    assert executor.submit(abs, -1).result() == 1
    return executor


@pytest.mark.parametrize("make", [of_a_member, of_a_file, of_an_executor])
def test_there_is_at_most_one_callback(make, pool, tmp_path):
    obj = make(pool, tmp_path)
    assert weakref.getweakrefs(obj)
    assert len(with_callbacks(obj)) <= 1
    if isinstance(obj, oc.Executor):
        obj.shutdown()


def test_a_membership_is_forgotten_with_its_last_object():
    from onecopy._core import membership

    with oc.Pool.create(f"forgotten-{id(object())}", size="1MiB") as pool:
        key = membership.key_of(pool.member)
        known = weakref.ref(pool.member)
        assert membership._members[key]() is pool.member
        at = id(pool.member)
    assert known() is None
    assert key not in membership._members
    assert at not in membership._known


def test_a_mapping_is_forgotten_with_its_last_array(tmp_path):
    from onecopy.files import mapping

    np.save(tmp_path / "a.npy", np.arange(10))
    before = set(mapping._shared), len(mapping._entries)
    array = oc.open_array(tmp_path / "a.npy")
    assert oc.open_array(tmp_path / "a.npy").base is not None
    assert len(mapping._shared) == len(before[0]) + 1
    del array
    assert (set(mapping._shared), len(mapping._entries)) == before


@pytest.mark.parametrize("step", ["get", "pop"])
@pytest.mark.parametrize("change", ["nothing", "replaced", "removed", "removed and made again"])
def test_an_entry_is_removed_whatever_a_signal_handler_does_meanwhile(step, change):
    old, new = object(), object()

    class Interrupted(dict):
        """A dict whose user is interrupted after one step."""

        def interrupt(self, at):
            if at == step and change != "nothing":
                if change != "replaced":
                    super().pop("key", None)
                if change != "removed":
                    super().__setitem__("key", new)

        def get(self, key):
            value = super().get(key)
            self.interrupt("get")
            return value

        def pop(self, key, default):
            value = super().pop(key, default)
            self.interrupt("pop")
            return value

    table = Interrupted(key=old, other=old)
    remove_if(table, "key", old)
    expected = {"other": old}
    if change in {"replaced", "removed and made again"}:
        expected["key"] = new
    assert dict(table) == expected


def test_an_entry_with_another_value_stays():
    table = {"key": 1}
    remove_if(table, "key", 2)
    remove_if(table, "none", 2)
    assert table == {"key": 1}
