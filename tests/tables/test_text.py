"""Arrays of Python strings: through Arrow where that is better, and always as they were."""

import numpy as np
import pytest

from onecopy._codec import pickler

N = 5000
WORDS = [f"word {i} \N{GREEK SMALL LETTER ALPHA}\0" for i in range(N)]


class Word(str):
    """A string of a type of its own."""

    __slots__ = ()


def objects(values):
    array = np.empty(len(values), object)
    for i, value in enumerate(values):  # from a list, numpy would make plain strings of them
        array[i] = value
    return array


def is_arrow(array):
    return b"onecopy._codec.text" in pickler.encode([array])[0]


def same(got, array):
    assert (got.shape, got.dtype, got.flags.f_contiguous) == (
        array.shape,
        array.dtype,
        array.flags.f_contiguous,
    )
    assert got.flags.writeable
    for one, other in zip(got.ravel().tolist(), array.ravel().tolist(), strict=True):
        assert type(one) is type(other)
        assert one == other or repr(one) == repr(other) == "nan"


@pytest.mark.parametrize(
    "array",
    [
        objects(WORDS),
        objects([None, *WORDS[1:]]),
        objects([*WORDS, ""]),
        objects(WORDS).reshape(50, 100),
        np.asfortranarray(objects(WORDS).reshape(50, 100)),
    ],
    ids=["words", "none", "empty", "c", "f"],
)
def test_text_goes_by_way_of_arrow(pool, array):
    assert is_arrow(array)
    same(pool.put([array]).get()[0], array)
    same(pool.put(array).get(), array)


@pytest.mark.parametrize(
    "array",
    [
        objects(["a", "b"] * N),  # the same objects again and again
        objects(WORDS[:100]),
        objects(WORDS)[::-1],
        objects([*WORDS, 1]),
        objects([*WORDS, float("nan")]),
        objects([*WORDS, Word("x")]),
        objects([*WORDS, "\ud800"]),
        objects([[1], *WORDS]),
        np.zeros(N, [("a", object)]),
    ],
    ids=["same", "few", "backwards", "number", "nan", "subclass", "surrogate", "list", "fields"],
)
def test_other_objects_are_pickled(pool, array):
    assert not is_arrow(array)
    got = pool.put([array]).get()[0]
    assert got.dtype == array.dtype
    if array.dtype == object:
        same(got, array if array.flags.c_contiguous else array.copy())


def test_repeated_strings_are_one_object_for_the_receiver(pool):
    word = WORDS[7]
    got = pool.put([objects([word, "other"] * N)]).get()[0]
    assert got[0] is got[2]
