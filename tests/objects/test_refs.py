import copy
import gc
import pickle

import numpy as np
import pytest
from pickle_errors import UNPICKLABLE

import onecopy as oc


@pytest.mark.parametrize(
    "obj",
    [
        None,
        True,
        7,
        -(1 << 80),
        1.5,
        "text",
        "x" * 100_000,
        b"bytes",
        b"x" * 100_000,
        (1, ("a", b"b"), None),
        [1, 2],
        {"a": {"b": {1, 2}}},
        3 + 4j,
        range(5),
    ],
    ids=lambda obj: type(obj).__name__,
)
def test_what_is_put_comes_back(pool, obj):
    ref = pool.put(obj)
    assert ref.get() == obj
    assert type(ref.get()) is type(obj)
    assert ref.nbytes > 0
    ref.release()
    assert pool.stats().used == 0


def test_a_reference_holds_its_object(pool):
    ref = pool.put(np.arange(10_000))
    assert pool.stats().used >= 80_000
    array = ref.get()
    del ref
    assert pool.stats().used >= 80_000
    assert array[-1] == 9999
    del array
    assert pool.stats().used == 0


def test_a_released_reference_says_so(pool):
    ref = pool.put(1)
    assert not ref.released
    ref.release()
    ref.release()
    assert ref.released
    with pytest.raises(oc.StaleRef):
        ref.get()
    with pytest.raises(oc.OneCopyError):
        pickle.dumps(ref)


def test_a_released_reference_lets_go_of_its_pool(pool_directory):
    with oc.Pool.create(size="16MiB") as pool:
        ref = pool.put(1)
    del pool
    assert list(pool_directory.iterdir()) != []
    ref.release()
    assert list(pool_directory.iterdir()) == []
    assert ref.released


def test_what_is_got_shares_its_memory(pool):
    ref = pool.put({"image": np.zeros((100, 100))})
    first, second = ref.get()["image"], ref.get()["image"]
    assert first.__array_interface__["data"] == second.__array_interface__["data"]
    assert not first.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_a_reference_is_pickled_by_reference(pool):
    ref = pool.put([1, 2])
    for twin in (pickle.loads(pickle.dumps(ref)), copy.copy(ref), copy.deepcopy(ref)):
        assert twin.get() == [1, 2]
        assert twin.handle == ref.handle
    ref.release()
    assert twin.get() == [1, 2]


def test_a_pickle_that_comes_too_late_is_stale(pool):
    ref = pool.put([1, 2])
    data = pickle.dumps(ref)
    ref.release()
    with pytest.raises(oc.StaleRef):
        pickle.loads(data)
    again = [pool.put(index) for index in range(100)]
    with pytest.raises(oc.StaleRef):
        pickle.loads(data)
    del again


def test_a_pickle_of_a_pool_that_is_gone_is_stale(pool_directory):
    with oc.Pool.create(size="16MiB") as pool:
        data = pickle.dumps(pool.put(1))
    gc.collect()
    assert list(pool_directory.iterdir()) == []
    with pytest.raises(oc.StaleRef, match="reference is stale"):
        pickle.loads(data)


def test_what_cannot_be_pickled_leaves_nothing(pool):
    with pytest.raises(UNPICKLABLE, match="pickle"):
        pool.put({"array": np.zeros(10_000), "bad": lambda: None})
    gc.collect()
    assert pool.stats().used == 0
    assert pool.stats().blocks == 0


def test_an_object_larger_than_the_pool_is_refused_at_once(pool):
    for obj in (np.zeros(65 << 20, "u1"), b"x" * (65 << 20), {"a": np.zeros(65 << 20, "u1")}):
        with pytest.raises(oc.PoolFull, match="can never fit"):
            pool.put(obj)
    assert pool.stats().used == 0


def test_a_full_pool_recovers(pool):
    kept = []
    with pytest.raises(oc.PoolFull, match="no room"):
        kept.extend(pool.put(np.zeros(1 << 20, "u1")) for _ in range(65))
    assert len(kept) > 50
    kept.clear()
    assert pool.stats().used == 0
    pool.put(np.zeros(32 << 20, "u1"))
    assert pool.validate() == []


def test_what_is_taken_belongs_to_the_taker(pool):
    array, mine = np.arange(10_000), pool.array(np.arange(10_000))
    ref = pool.put(array)
    taken = ref._take()
    assert ref.released
    taken[0] = 5  # it was copied for this reference
    again = pool.put(taken).get()
    taken[1] = 6  # and is copied when it is put
    assert list(again[:2]) == [5, 1]
    assert not pool.put(mine)._take().flags.writeable  # this was not
    assert pool.put({"deep": array})._take()["deep"].flags.writeable
    with pytest.raises(oc.StaleRef):
        ref._take()
    del taken, again, mine
    assert pool.stats().used == 0
