"""Everything that is sent comes back: objects and arrays of every shape, order and dtype."""

import dataclasses
import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seeds import more

import onecopy as oc

SETTINGS = settings(
    max_examples=more(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(), max_size=300)
    | st.binary(max_size=300)
)
dtypes = (
    hnp.scalar_dtypes()
    | hnp.unicode_string_dtypes(max_len=4)
    | hnp.byte_string_dtypes(max_len=4)
    | hnp.array_dtypes(max_size=3)
)
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)


@st.composite
def views(draw):
    """An array, and how to view it: any order, any slice, both directions."""
    dtype, shape = draw(dtypes), draw(shapes)
    count = math.prod(shape)
    raw = draw(st.binary(min_size=64, max_size=64))
    nbytes = count * dtype.itemsize
    data = (raw * (nbytes // 64 + 1))[:nbytes]
    if dtype.kind in "USMmfcb" or dtype.names:
        # Bytes that are not valid elements (surrogates, padding) are a matter of numpy, not of
        # onecopy.
        data = np.resize(np.arange(7), shape).astype("i1").tobytes()
        array = np.zeros(shape, dtype)
        if dtype.names is None:
            array[...] = np.frombuffer(data, "i1").reshape(shape).astype(dtype, copy=True)
    else:
        array = np.frombuffer(data, dtype).reshape(shape).copy()
    order = draw(st.permutations(range(array.ndim)))
    index = tuple(
        slice(
            draw(st.none() | st.integers(0, length)),
            draw(st.none() | st.integers(0, length)),
            draw(st.sampled_from([None, 1, 2, 3, -1, -2])),
        )
        for length in array.shape
    )
    return array, order, index


@dataclasses.dataclass
class Box:
    """An object with another inside."""

    inside: object


def same(one, other):
    return (
        type(one) is type(other)
        and one.dtype == other.dtype
        and one.shape == other.shape
        and np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()
    )


def equal(one, other):
    if isinstance(one, np.ndarray):
        return same(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(equal, one.values(), other.values()))
    if isinstance(one, Box):
        return equal(one.inside, other.inside)
    return repr(one) == repr(other)


objects = st.recursive(
    scalars | hnp.arrays(st.sampled_from(["u1", "f8", ">i4"]), shapes),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def scattered(view):
    """Return the array of a view, in its order and direction; elements may lie anywhere."""
    array, order, index = view
    return array.transpose(order)[index] if array.ndim else array


containers = st.recursive(
    views().map(scattered) | hnp.arrays("f8", st.integers(500, 600)).map(lambda a: a[::-1]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.integers() | st.text(max_size=5), inner, max_size=4)
        | inner.map(Box)
        | inner.map(lambda one: [one, one])
    ),
    max_leaves=8,
)


@SETTINGS
@given(objects)
def test_objects(pool, obj):
    queue, stream = pool.queue(), pool.stream()
    subscription = stream.subscribe()
    queue.put(obj)
    stream.publish(obj)
    pool["name"] = obj
    for got in (queue.get(), subscription.get(), pool.put(obj).get(), pool.pop("name")):
        assert equal(got, obj)
    subscription.close()
    del got, queue, stream, subscription
    assert pool.stats().used == 0


def arrays_of(obj):
    """List the arrays inside an object."""
    if isinstance(obj, np.ndarray):
        return [obj]
    if isinstance(obj, dict):
        obj = list(obj.values())
    elif isinstance(obj, Box):
        obj = [obj.inside]
    return [array for part in obj for array in arrays_of(part)]


@settings(SETTINGS, max_examples=more(60))
@given(containers)
def test_arrays_of_any_order_in_containers(pool, obj):
    got = pool.put(obj).get()
    used = pool.stats().used
    again = pool.put(got)
    assert equal(got, obj)
    assert equal(again.get(), obj)
    assert pool.stats().used - used < used / 2 + 8192 * max(1, len(arrays_of(obj)))
    copy = oc.writable_copy(got)
    del got, again
    assert pool.stats().used == 0
    assert equal(copy, obj)
    assert all(array.flags.writeable for array in arrays_of(copy))


@SETTINGS
@given(views())
def test_arrays_from_outside(pool, view):
    array, order, index = view
    sent = array.transpose(order)[index] if array.ndim else array
    for got in (pool.put(sent).get(), pool.put([sent]).get()[0]):
        assert same(got, sent)
    del got
    assert pool.stats().used == 0


@SETTINGS
@given(views())
def test_arrays_of_the_pool(pool, view):
    array, order, index = view
    inside = pool.array(array)
    sent = inside.transpose(order)[index] if array.ndim else inside
    expected = sent.copy()
    for got in (pool.put(sent).get(), pool.put({"x": sent}).get()["x"]):
        assert same(got, sent)
        if sent.size and sent.itemsize:
            assert got.strides == sent.strides
            place, other = got.__array_interface__["data"], sent.__array_interface__["data"]
            assert place == other
    del inside, sent, array
    assert same(np.ascontiguousarray(got).reshape(expected.shape), np.asarray(expected))
    del got
    assert pool.stats().used == 0


@SETTINGS
@given(st.lists(st.integers(0, 100_000), max_size=40), st.randoms(use_true_random=False))
def test_allocations_do_not_overlap(pool, sizes, randomness):
    arrays = []
    for number, size in enumerate(sizes):
        arrays.append((number % 256, pool.full(size, number % 256, "u1")))
        if randomness.random() < 0.4:
            arrays.pop(randomness.randrange(len(arrays)))
    for number, array in arrays:
        assert (array == number).all()
    assert pool.validate() == []
    assert pool.stats().used == sum(-(-array.nbytes // 1) for _, array in arrays)
    arrays.clear()
    number = array = None
    assert pool.stats().used == 0


@pytest.mark.stress
@settings(SETTINGS, max_examples=more(3000))
@given(objects)
def test_many_objects(pool, obj):
    queue = pool.queue("round", maxsize=1)
    queue.put(obj)
    assert equal(queue.get(), obj)
    assert isinstance(queue, oc.Queue)
