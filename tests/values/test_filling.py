"""Arrays made from lists are equal to those that ctypes makes of them, errors included."""

import array
import ctypes
import multiprocessing.sharedctypes as standard
import sys

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seeds import more

from onecopy.multiprocessing.sharedctypes import RawArray, RawValue

SETTINGS = settings(
    max_examples=more(200),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
TYPES = {**standard.typecode_to_type, "?": ctypes.c_bool, "g": ctypes.c_longdouble}


CODES = [pytest.param(code, marks=[pytest.mark.check] * (code not in "cidf")) for code in TYPES]


class Odd:
    """An object that ctypes asks for its number."""

    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number

    def __float__(self):
        return float(self.number) / 3

    def __repr__(self):
        return f"Odd({self.number})"


class Whole(int):
    pass


class Real(float):
    pass


edges = st.sampled_from(
    [2**n + d for n in (7, 8, 15, 16, 31, 32, 63, 64, 200, 1100) for d in (-1, 0)]
)
good = {
    "c": st.binary(min_size=1, max_size=1) | st.integers(0, 255) | st.just(bytearray(b"x")),
    "u": st.characters(),
    "?": st.booleans() | st.integers(),
    **dict.fromkeys("fdg", st.floats() | st.integers() | st.floats().map(Real)),
    **dict.fromkeys("bBhHiIlLqQ", st.integers() | edges | edges.map(lambda n: -n) | st.booleans()),
}
anything = (
    st.none()
    | st.text(max_size=2)
    | st.binary(max_size=2)
    | st.floats()
    | st.integers()
    | edges
    | st.integers(-(2**70), 2**70).map(Odd)
    | st.integers().map(Whole)
    | st.integers(-100, 100).map(np.int16)
    | st.floats().map(np.float64)
    | st.booleans().map(np.bool_)
    | st.just(1j)
)


FLOATS = {ctypes.c_float: np.dtype("f"), ctypes.c_double: np.dtype("d")}


def outcome(make):
    """Return the bytes of what is made, or the error."""
    try:
        made = make()
    except (TypeError, ValueError, OverflowError, IndexError) as error:
        return type(error), str(error)
    kind = made._type_ if isinstance(made, ctypes.Array) else type(made)
    if kind is ctypes.c_longdouble:  # of its 16 bytes, six are undefined
        return repr(made[:] if isinstance(made, ctypes.Array) else made.value)
    raw = bytes(made)
    if kind in FLOATS and raw:
        # Any NaN counts as equal: ctypes converts through a double, which may make a signaling one
        # quiet.
        numbers = np.frombuffer(raw, FLOATS[kind])
        raw = np.where(np.isnan(numbers), numbers.dtype.type(np.nan), numbers).tobytes()
    return raw


def keeps_the_bits(kind, source):
    """Floats of the array's own type are copied unchanged, also a NaN with a payload."""
    source = np.asarray(source)
    if kind in FLOATS and source.dtype == FLOATS[kind]:
        assert bytes(RawArray(kind, source)) == source.tobytes()


@pytest.mark.one_in(3)
@pytest.mark.parametrize("code", CODES)
@SETTINGS
@given(data=st.data(), container=st.sampled_from([list, tuple]))
def test_lists_of_what_fits(code, data, container):
    kind = TYPES[code]
    items = container(data.draw(st.lists(good[code], max_size=20)))
    assert outcome(lambda: RawArray(kind, items)) == outcome(lambda: (kind * len(items))(*items))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("code", CODES)
@SETTINGS
@given(data=st.data())
def test_lists_of_anything(code, data):
    kind = TYPES[code]
    items = data.draw(st.lists(good[code], max_size=3)) + data.draw(st.lists(anything, max_size=3))
    assert outcome(lambda: RawArray(kind, items)) == outcome(lambda: (kind * len(items))(*items))
    for item in items:
        assert outcome(lambda item=item: RawValue(kind, item)) == outcome(
            lambda item=item: kind(item)
        )


arrays = hnp.arrays(
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?")
    | hnp.byte_string_dtypes(max_len=1)
    | hnp.complex_number_dtypes(),
    st.integers(0, 12),
)


@pytest.mark.one_in(3)
@pytest.mark.filterwarnings("ignore:.*")  # numpy's, about a complex number's other part
@pytest.mark.parametrize("code", CODES)
@SETTINGS
@given(source=arrays, step=st.sampled_from([1, 2, -1]))
def test_arrays_of_numpy(code, source, step):
    kind = TYPES[code]
    source = source[::step]
    assert outcome(lambda: RawArray(kind, source)) == outcome(lambda: (kind * len(source))(*source))
    keeps_the_bits(kind, source)


@pytest.mark.parametrize("code", CODES)
@SETTINGS
@given(
    raw=st.binary(max_size=64).map(lambda raw: raw[: len(raw) // 8 * 8]),
    letter=st.sampled_from("bBhHiIlLqQfd"),
    wrap=st.sampled_from(
        [lambda a: a, memoryview, bytes, bytearray, lambda a: memoryview(bytes(a))]
    ),
)
def test_buffers(code, raw, letter, wrap):
    kind = TYPES[code]
    source = wrap(array.array(letter, raw))
    assert outcome(lambda: RawArray(kind, source)) == outcome(lambda: (kind * len(source))(*source))
    keeps_the_bits(kind, source)


@pytest.mark.parametrize("code", "fd")
@pytest.mark.parametrize(
    "wrap",
    [
        np.array,
        memoryview,
        lambda a: a,
        lambda a: RawArray(a.typecode, a),
        lambda a: np.repeat(a, 2)[::2],
        lambda a: np.array(a).byteswap().view(np.dtype(a.typecode).newbyteorder()),
    ],
    ids=["numpy", "memoryview", "array", "ctypes", "strided", "other byte order"],
)
def test_a_signaling_nan_keeps_its_bits(code, wrap):
    size = np.dtype(code).itemsize
    exponent, mantissa = {4: (0xFF, 23), 8: (0x7FF, 52)}[size]
    numbers = [exponent << mantissa | low for low in (0, 1, 5, 1 << mantissa - 1)]
    raw = b"".join(number.to_bytes(size, sys.byteorder) for number in numbers)
    source = array.array(code, raw)
    assert source.tobytes() == raw
    assert bytes(RawArray(code, wrap(source))) == raw
