"""What a receiver may write of arrays in files; and files that change on the way."""

import copy
import os
import pickle
import threading

import numpy as np
import pytest

import onecopy as oc
from onecopy.files import mapping


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(20_000.0))
    return path


def test_a_read_only_view_stays_one(path, pool):
    array = oc.open_array(path, mode="r+")
    view = array[5:]
    view.flags.writeable = False
    plain = np.asarray(array)[:]
    plain.flags.writeable = False
    queue = pool.queue()
    for sent in (view, plain, [view], {"a": plain}):
        queue.put(sent)
        got = queue.get()
        got = got[0] if isinstance(got, list) else got["a"] if isinstance(got, dict) else got
        assert not got.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            got.flags.writeable = True
    assert not pickle.loads(pickle.dumps(view)).flags.writeable
    assert pool.put(array[5:]).get().flags.writeable
    assert not pool.put(np.asarray(array)).get().flags.writeable
    assert pool.stats().used < 10_000


def test_a_frame_over_a_file_that_may_be_written(path, pool):
    pandas = pytest.importorskip("pandas")
    array = oc.open_array(path, mode="r+")
    frame = pandas.DataFrame({"a": np.asarray(array)}, copy=False)
    got = pool.put(frame).get()
    assert pool.stats().used < 10_000
    with pytest.raises(ValueError, match="read-only"):
        got.iloc[0, 0] = 7.0
    assert (array[0], frame["a"][0]) == (0.0, 0.0)


def test_a_pool_that_others_may_write_gets_a_copy(path, elsewhere):
    array = np.asarray(oc.open_array(path))
    with oc.Pool.create(size="8MiB", mode=0o666) as shared:
        queue = shared.queue()
        queue.put(array)
        assert np.array_equal(queue.get(), array)
    with oc.Pool.create(size="8MiB", backing=elsewhere / "t.pool") as written:
        written["a"] = np.arange(5000)
    with oc.Pool.open(elsewhere / "t.pool", mode="r") as read:
        inside = read["a"]
        with oc.Pool.create(size="8MiB", mode=0o666) as shared:
            assert np.array_equal(shared.put(inside).get(), np.arange(5000))


def test_a_file_that_is_cut_short_while_it_is_mapped(path, pool):
    array = oc.open_array(path)
    refs = [pool.put(array), pool.put([np.asarray(array)])]
    start = pool.put(array[:10])
    data = pickle.dumps(array)
    os.truncate(path, 4096)
    for receive in (refs[0].get, refs[1].get, lambda: pickle.loads(data)):
        with pytest.raises(oc.StaleRef, match="cut short: it has 4096 bytes"):
            receive()
    assert start.get()[3] == 3.0


def test_an_order_made_while_another_thread_maps_is_not_kept(path, tmp_path, monkeypatch):
    """The change comes after the entries were read, and before their order is stored."""
    np.save(tmp_path / "b.npy", np.zeros(1000))
    arrays = [oc.open_array(path)]
    come = threading.Event()

    def late(entries, **how):
        result = sorted(entries, **how)
        if not come.is_set():
            come.set()
            arrays.append(oc.open_array(tmp_path / "b.npy"))
        return result

    with monkeypatch.context() as patch:
        patch.setattr(mapping, "sorted", late, raising=False)
        mapping.contains(arrays[0].__array_interface__["data"][0], 8)
    assert len(arrays) == 2
    assert all(mapping.contains(a.__array_interface__["data"][0], 8) for a in arrays)


def test_copies_are_ordinary_arrays(path):
    array = oc.open_array(path)
    made = (array.copy(), copy.copy(array), copy.deepcopy(array), array.astype("f4"))
    assert {type(each) for each in (*made, np.sort(array), np.copy(array))} == {np.ndarray}
    assert array.astype("f8", copy=False) is array


def test_values_and_shared_arrays_of_a_pool_that_is_read(elsewhere):
    with oc.Pool.create(size="8MiB", backing=elsewhere / "t.pool") as pool:
        pool.value("i", 3, name="v")
        pool.shared_array(2000, "f8", name="s")[:] = 4
    with oc.Pool.open(elsewhere / "t.pool", mode="r") as pool:
        with pytest.raises(oc.OneCopyError, match="mode='r'"):
            pool.value("i", name="v")
        shared = pool.shared_array(name="s")
        got = pickle.loads(pickle.dumps(shared))
        assert got.sum() == 8000
        assert not got.flags.writeable
