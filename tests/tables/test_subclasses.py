"""Subclasses of ndarray come back as from pickle, but over memory of the pool."""

import pickle

import numpy as np
import pytest
import samples

import onecopy as oc


class Unit(np.ndarray):
    """Treats a view of a plain array as a reason to reset its attribute."""

    unit = "m"

    def __array_finalize__(self, obj):
        if obj is not None:
            self.unit = obj.unit if type(obj) is Unit else "reset"


class Heir(np.ndarray):
    """Refuses arrays that are not of its own class."""

    history = ()

    def __array_finalize__(self, obj):
        if obj is not None:
            self.history = list(obj.history)


class Pairs(np.ndarray):
    """Refuses other shapes."""

    def __array_finalize__(self, obj):
        if self.ndim == 2 and self.shape[1] != 2:
            raise ValueError("pairs only")


class Stateful(np.ndarray):
    """Defines how it is pickled."""

    def __reduce__(self):
        rebuild, arguments, state = super().__reduce__()
        return rebuild, arguments, (state, self.note)

    def __setstate__(self, state):
        super().__setstate__(state[0])
        self.note = state[1]


def make(kind, array):
    result = np.ndarray.__new__(kind, array.shape, array.dtype)
    result[...] = array
    if kind is Stateful:
        result.note = "kept"
    return result


SHAPES = {
    "small": lambda: np.arange(10.0).reshape(5, 2),
    "large": lambda: np.arange(20_000.0).reshape(-1, 2),
    "fortran": lambda: np.asfortranarray(np.arange(20_000.0).reshape(-1, 2)),
    "dates": lambda: np.arange(20_000).reshape(-1, 2).astype("M8[s]"),
    "swapped": lambda: np.arange(20_000).reshape(-1, 2).astype(">i4"),
    "empty": lambda: np.empty((0, 2)),
}


@pytest.mark.parametrize("kind", [Unit, Heir, Pairs, Stateful])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_comes_back_as_from_pickle(pool, kind, shape):
    sent = make(kind, SHAPES[shape]())
    expected = pickle.loads(pickle.dumps(sent))
    queue = pool.queue()
    queue.put({"inside": sent})
    for got in (pool.put(sent).get(), queue.get()["inside"], oc.writable_copy([sent])[0]):
        assert type(got) is kind
        assert got.dtype == (expected if kind is Stateful else sent).dtype
        assert np.array_equal(np.asarray(got), np.asarray(sent))
        assert vars(got) == vars(expected)


@pytest.mark.parametrize("kind", [Unit, Heir, Pairs])
@pytest.mark.parametrize("cut", [np.s_[:], np.s_[100:5000], np.s_[::3], np.s_[::-1]])
def test_one_that_lies_in_the_pool_is_not_copied(pool, kind, cut):
    plain = pool.array(np.arange(20_000.0).reshape(-1, 2))
    sent = np.ndarray.__new__(kind, plain.shape, plain.dtype, plain)[cut]
    before = pool.stats().used
    got = pool.put([sent]).get()[0]
    assert samples.lies_in(pool, np.asarray(got))
    assert np.array_equal(np.asarray(got), np.asarray(plain)[cut])
    again = pool.put([got]).get()[0]
    assert samples.lies_in(pool, np.asarray(again))
    assert pool.stats().used - before < 4096


@pytest.mark.parametrize("dimensions", [31, 33, 64])
def test_as_many_dimensions_as_numpy_has(pool, dimensions):
    if dimensions > 32 and np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("numpy 1 has 32 dimensions")
    shape = (2,) * 3 + (1,) * (dimensions - 3)
    array = pool.array(np.arange(8.0).reshape(shape))
    queue = pool.queue()
    for sent in (array, array[1]):
        queue.put_many([sent, [sent]])
        for got in (queue.get(), queue.get()[0]):
            assert got.shape == sent.shape
            assert np.array_equal(got, sent)
            assert samples.lies_in(pool, np.asarray(got))
    with pytest.raises(ValueError, match="64"):
        pool.empty((1,) * 65)
