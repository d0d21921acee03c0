"""Every kind of object: what comes back is equal and in the pool, and is put again for nothing."""

import numpy as np
import pytest
import samples
from scipy import sparse

import onecopy as oc
from onecopy import codecs

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


@every_kind
def test_an_object_can_be_taken_apart_without_a_pool(sample):
    obj = sample.make()
    data, buffers, _ = codecs.encode(obj)
    samples.assert_same(codecs.decode(data, [bytearray(part) for part in buffers]), obj)
