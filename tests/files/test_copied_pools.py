"""A pool whose file was copied: the copy has the same id, and is another pool."""

import pickle
import shutil

import numpy as np
import pytest

import onecopy as oc
from onecopy._core import membership


@pytest.fixture
def copies(elsewhere):
    """The paths of a pool and of its copy; ``pool["x"]`` is all 2.0 in one and 3.0 in the other."""
    one, two = elsewhere / "a.pool", elsewhere / "b.pool"
    with oc.Pool.create(size="8MiB", backing=one) as pool:
        pool["x"] = np.full(10_000, 1.0)
        pool.queue("q")
    shutil.copy(one, two)
    for path, value in ((one, 2.0), (two, 3.0)):
        with oc.Pool.open(path) as pool:
            pool["x"] = np.full(10_000, value)
    return one, two


def there_and_back(obj):
    return pickle.loads(pickle.dumps(obj))


def test_both_are_members(copies):
    a, b = map(oc.Pool.open, copies)
    assert a.id == b.id
    assert a != b
    assert len({a, b, oc.Pool.open(copies[0])}) == 2
    assert [there_and_back(pool).name for pool in (a, b)] == [a.name, b.name]
    refs = [pool.put(np.full(2000, value)) for pool, value in ((a, 5.0), (b, 6.0))]
    assert [there_and_back(ref).get()[0] for ref in refs] == [5.0, 6.0]
    there_and_back(a.queue("q")).put("for a")
    assert (a.queue("q").qsize(), b.queue("q").qsize()) == (1, 0)
    shared = [pool.shared_array(3000, "f8") for pool in (a, b)]
    there_and_back(shared[0])[0] = 7
    assert (shared[0][0], shared[1][0]) == (7, 0)


def test_both_are_read(copies, pool):
    a, b = (oc.Pool.open(path, mode="r") for path in copies)
    assert a != b
    queue = pool.queue()
    queue.put(a["x"])
    queue.put([b["x"]])
    assert (queue.get()[0], queue.get()[0][0]) == (2.0, 3.0)
    assert there_and_back(a).name == a.name


def test_a_table_is_decoded_into_the_pool_that_was_asked_for(copies, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": np.arange(10_000)}), tmp_path / "t.parquet")
    a, b = map(oc.Pool.open, copies)
    tables = [oc.open_table(tmp_path / "t.parquet", pool=pool) for pool in (a, b)]
    where = [table["a"].chunk(0).buffers()[1] for table in tables]
    assert a.member.where(where[0]) is not None
    assert b.member.where(where[1]) is not None


def test_a_file_that_was_renamed_is_the_same_pool(copies):
    path = copies[0]
    a = oc.Pool.open(path)
    ref = a.put(np.full(2000, 5.0))
    data = pickle.dumps(ref)
    other = path.rename(path.with_name("c.pool"))
    assert pickle.loads(data).get()[0] == 5.0
    assert oc.Pool.open(other) == a
    # A copy that takes its place is not confused with it, for any combination of members.
    copies[1].rename(path)
    b = oc.Pool.open(path)
    assert b != a
    assert pickle.loads(data).get()[0] == 5.0
    assert there_and_back(b)["x"][0] == 3.0


def rebuild(data, answers):
    try:
        answers.put(pickle.loads(data).get()[0])
    except oc.OneCopyError as error:
        answers.put(str(error))


def test_a_copy_that_has_taken_its_place_is_not_joined_instead(copies, pool, start):
    a = oc.Pool.open(copies[0])
    data = pickle.dumps(a.put(np.full(2000, 5.0)))
    copies[0].rename(copies[0].with_name("c.pool"))
    copies[1].rename(copies[0])
    answers = pool.queue()
    child = start("stranger", rebuild, data, answers)
    assert "there is now a copy of it" in answers.get(timeout=60)
    assert child.wait() == 0


@pytest.mark.parametrize("backing", ["shm", "memfd"])
def test_a_pool_without_a_name_is_found_by_its_members(backing):
    with oc.Pool.create(size="8MiB", backing=backing) as pool:
        ref = pool.put([1])
        pool.unlink()
        assert there_and_back(ref).get() == [1]
        assert there_and_back(pool) == pool
        identity, path, *_ = membership.handle_of(pool.member)
        assert membership.join((identity, path, False, 0, 0)) is pool.member
