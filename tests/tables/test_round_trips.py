"""Every kind of object: it comes back equal and in the pool, and a second put copies nothing."""

import numpy as np
import pytest
import samples
from scipy import sparse

import onecopy as oc
from onecopy._codec import pickler

pytestmark = pytest.mark.one_in(2)

every_kind = pytest.mark.parametrize("sample", samples.SAMPLES, ids=repr)


@every_kind
def test_what_is_put_comes_back_and_lies_in_the_pool(pool, sample):
    obj = sample.make()
    for got in (pool.put(obj).get(), pool.put({"nested": [obj]}).get()["nested"][0]):
        samples.assert_same(got, obj)
        if sample.stays:
            memory = samples.large(got)
            assert memory or not samples.large(obj)
            assert all(samples.lies_in(pool, part) for part in memory)
            assert not any(part.flags.writeable for part in memory)
    samples.assert_same(sample.make(), obj)


@every_kind
def test_what_was_received_is_not_copied_when_it_is_put_again(pool, sample):
    got = pool.put(sample.make()).get()
    before = pool.stats().used
    again = pool.put([got]).get()[0]
    grown = pool.stats().used - before
    samples.assert_same(again, got)
    if sample.stays:
        assert grown < 12_000, f"{grown} bytes for a reference to what is there"


@every_kind
def test_a_writable_copy_is_equal_and_lies_outside(pool, sample):
    obj = sample.make()
    got = pool.put(obj).get()
    copy = oc.writable_copy(got)
    del got
    assert pool.stats().used == 0
    samples.assert_same(copy, obj)
    memory = samples.large(copy)
    assert not any(samples.lies_in(pool, part) for part in memory)
    if isinstance(copy, np.ndarray) or sparse.issparse(copy):
        assert all(part.flags.writeable for part in memory)


def test_memory_maps_arrive_as_plain_arrays_in_the_pool(pool, tmp_path):
    mapped = np.memmap(tmp_path / "data", "i4", "w+", shape=(50, 100))
    mapped[:] = np.arange(100)
    for sent in (mapped, mapped[::2, 5:]):
        got = pool.put([sent]).get()[0]
        samples.assert_same(got, np.array(sent))
        assert samples.lies_in(pool, got)
        assert not got.flags.writeable
    assert type(oc.writable_copy([mapped])[0]) is np.ndarray


@pytest.mark.slow  # to load the library
def test_a_model_is_what_is_inside_it(pool):
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(1)
    model = linear_model.LinearRegression().fit(rng.random((20, 1000)), rng.random((20, 30)))
    got = pool.put(model).get()
    assert samples.lies_in(pool, got.coef_)
    np.testing.assert_array_equal(got.coef_, model.coef_)
    used = pool.stats().used
    again = pool.put(got)
    assert pool.stats().used - used < 16_000
    del again
    assert oc.writable_copy(got).coef_.flags.writeable


def test_what_lies_in_another_pool_is_copied(pool):
    with oc.Pool.create(size="16MiB") as other:
        theirs = [
            pool.array(np.arange(6000)),
            pool.put(samples.table_of_arrow().select(["a", "s"])).get(),
        ]
        got = other.put(theirs).get()
        assert all(samples.lies_in(other, part) for one in got for part in samples.large(one))
        samples.assert_same(got[0], theirs[0])
        samples.assert_same(got[1], theirs[1])
        del got


@every_kind
def test_an_object_can_be_taken_apart_without_a_pool(sample):
    obj = sample.make()
    data, buffers, _ = pickler.encode(obj)
    samples.assert_same(pickler.decode(data, [bytearray(part) for part in buffers]), obj)
