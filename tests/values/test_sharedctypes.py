"""Value, Array and their raw versions: what they hold, what keeps them alive, how they are sent."""

import array
import copy as copy_module
import ctypes
import gc
import multiprocessing
import multiprocessing.sharedctypes as standard
import pickle
import sys
import warnings

import numpy as np
import pytest
from children import LIMIT, used
from structures import Linked, Number, Point, add

import onecopy as oc
from onecopy.multiprocessing import sharedctypes
from onecopy.multiprocessing.sharedctypes import Array, RawArray, RawValue, Value, copy
from onecopy.values import SynchronizedBase

pytestmark = pytest.mark.one_in(2)

CODES = "cubBhHiIlLqQfd"


# ------------------------------------------------------------------------------------- the face


def test_the_names_of_the_standard_library():
    public = set(standard.__all__) | {
        "Synchronized",
        "SynchronizedArray",
        "SynchronizedBase",
        "SynchronizedString",
        "typecode_to_type",
    }
    assert public <= set(sharedctypes.__all__)
    assert sharedctypes.typecode_to_type == standard.typecode_to_type


@pytest.mark.parametrize("code", CODES)
def test_every_type_code(code):
    kind = standard.typecode_to_type[code]
    raw = RawValue(code)
    assert type(raw) is kind
    assert raw.value == kind().value
    row = RawArray(code, 3)
    assert type(row) is kind * 3
    assert row[:] == (kind * 3)()[:]
    value = {"c": b"x", "u": "\N{EURO SIGN}"}.get(code, 65)
    assert RawValue(code, value).value == kind(value).value
    assert RawArray(code, [value] * 3)[:] == (kind * 3)(*[value] * 3)[:]
    assert Value(code, value).value == kind(value).value
    assert Array(code, [value] * 3)[:] == (kind * 3)(*[value] * 3)[:]


@pytest.mark.parametrize("make", [RawValue, Value])
def test_an_unknown_type_code_is_called_so(make):
    with pytest.raises(TypeError, match="bad typecode"):
        make("x", None)


@pytest.mark.parametrize("make", [RawArray, Array])
def test_an_unknown_type_code_of_items_is_called_so(make):
    with pytest.raises(TypeError, match="bad typecode"):
        make("x", [])


def test_memory_is_zero_also_when_it_was_used():
    full = RawArray("B", b"\xff" * 5000)
    del full
    assert bytes(RawArray("B", 5000)) == bytes(5000)
    assert RawArray("i", []).__len__() == 0
    assert RawValue(Point, 3).y == 0


@pytest.mark.parametrize("make", [RawArray, Array])
def test_lengths_that_will_not_do(make):
    with pytest.raises(ValueError, match="-1"):
        make("i", -1)
    with pytest.raises(TypeError):
        make("i", 2.5)
    with pytest.raises(TypeError):
        make("i", iter([1]))


@pytest.mark.parametrize("code", ["x", "", "dd"])
def test_type_codes_that_are_none(code):
    with pytest.raises(TypeError):
        RawValue(code)
    with pytest.raises(TypeError):
        RawArray(code, 3)


def test_what_does_not_fit_says_so_and_leaves_nothing():
    pool = oc.default_pool()
    before = used(pool)
    with pytest.raises(oc.PoolFull):
        RawArray("d", 1 << 30)
    with pytest.raises(MemoryError):
        Value(ctypes.c_double * (1 << 30))
    with pytest.raises(TypeError):
        RawArray("i", [1, 2, "three"])
    assert used(pool) == before


SOURCES = [
    [1, 2, 250],
    (1, 2, 250),
    range(3),
    {1: 2, 3: 4},
    b"abc",
    bytearray(b"abc"),
    memoryview(b"abcdef")[::2],
    memoryview(np.arange(6, dtype="i2"))[::2],
    memoryview(b"abcd").cast("h"),
    memoryview(b"abc").cast("c"),
    array.array("i", [-1, 1 << 30, 70000]),
    array.array("d", [1.5, -2.5, 1e300]),
    array.array("f", [1.5, -2.5, float("nan")]),
    array.array("w" if sys.version_info >= (3, 13) else "u", "xyz"),
    (ctypes.c_int * 3)(1, -2, 3),
    (ctypes.c_char * 3)(b"x", b"y", b"z"),
    np.arange(3),
    np.arange(3, dtype=">i4"),
    np.array([1 << 63, (1 << 64) - 1, (1 << 53) + 1], "u8"),
    np.array([(1 << 24) + 1, (1 << 54) + (1 << 30) + 1, -5], "i8"),
    np.array([1e300, 1e-300, np.inf]),
    np.array([1.5, np.nan, -0.0], "f4"),
    np.array([1.5, np.nan, -0.0], "f2"),
    np.array([1.5, 1e-4900, -0.0], "g"),
    np.array([True, False]),
    np.array([b"a", b""]),
    np.array([1 + 2j]),
    np.zeros((2, 2)),
    np.zeros((2, 1)),
    np.ma.masked_array([1.0, 2.0], [True, False]),
    np.array(["2020-01-01"], "M8[D]"),
    "xyz",
    ["x", "yz"],
    [b"x", b"yz"],
    [None],
    [1.0],
    [True, False],
    [np.int64(3), np.float64(2.5)],
    [1 << 200, -(1 << 200)],
    [10**400],
]


@pytest.mark.parametrize("code", CODES)
def test_items_are_converted_as_ctypes_converts_them(code):
    for source in SOURCES:
        kind = standard.typecode_to_type[code] * len(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numpy, about a masked item
            wanted, complaint = outcome(lambda kind=kind, source=source: kind(*source))
            got, same = outcome(lambda source=source: RawArray(code, source))
        assert same == complaint, source
        assert bytes(got or b"") == bytes(wanted or b""), source
        assert type(got) is type(wanted), source


def outcome(make):
    """Return what is made, or the error."""
    try:
        return make(), None
    except (TypeError, ValueError, OverflowError) as error:
        return None, (type(error), str(error))


def test_items_that_change_the_list_while_they_are_read():
    class Shrinks:
        def __index__(self):
            items.clear()
            return 7

    items = [1, Shrinks(), 3]
    assert RawArray("i", items)[:] == [1, 7, 3]


def test_numpy_sees_the_memory():
    raw = RawArray("d", 4)
    view = np.asarray(raw)
    view[:] = range(4)
    assert raw[:] == [0, 1, 2, 3]
    np.frombuffer(raw)[1] = 9
    assert raw[1] == 9
    np.asarray(Array("i", 3).get_obj())[:] = 5


# ----------------------------------------------------------------------------- what keeps it alive


@pytest.mark.parametrize(
    "look",
    [
        np.asarray,
        np.frombuffer,
        memoryview,
        lambda raw: raw[0],
        lambda raw: ctypes.cast(raw, ctypes.POINTER(ctypes.c_double)),
        lambda raw: np.asarray(raw)[1:],
    ],
)
def test_a_view_keeps_the_memory(look):
    pool = oc.default_pool()
    raw = RawArray(ctypes.c_double * 2, 1000)
    view = look(raw)
    del raw
    gc.collect()
    assert used(pool) == 16_000
    del view
    gc.collect()
    assert used(pool) == 0


def test_a_pointer_that_is_set_does_not_lose_the_memory():
    raw = RawValue(ctypes.c_char_p)
    raw.value = b"elsewhere"
    assert used(oc.default_pool()) == 8
    assert raw.value == b"elsewhere"


@pytest.mark.parametrize("make", [RawArray, Array])
def test_without_a_cycle(make):
    gc.disable()
    try:
        made = make("d", 100)
        del made
        assert used(oc.default_pool()) == 0
    finally:
        gc.enable()


# -------------------------------------------------------------------------------------- pickling

KINDS = [
    lambda: RawValue("i", 5),
    lambda: RawArray("h", range(5)),
    lambda: RawArray("c", b"hello"),
    lambda: RawValue(Point, 1, 2.5),
    lambda: RawValue(Number, 5),
    lambda: RawArray(Point, [(1, 2.0), (3, 4.0)]),
    lambda: RawArray(ctypes.c_int * 3, 2),
    lambda: RawValue((ctypes.c_double * 2) * 3),
    lambda: RawValue(Linked),
    lambda: RawValue(ctypes.c_longdouble, 1.5),
    lambda: RawValue(ctypes.c_bool, True),
    lambda: RawValue(ctypes.c_int.__ctype_be__, 7),
    lambda: Value("d", 0.5),
    lambda: Array("c", b"hello"),
    lambda: Value(Point, 1, 2.5),
    lambda: Array("i", 4, lock=False),
    lambda: Value("i", lock=oc.Lock()),
]


def bare(obj):
    return obj.get_obj() if isinstance(obj, SynchronizedBase) else obj


def on_a_queue(obj):
    queue = oc.default_pool().queue()
    queue.put({"it": obj})
    return queue.get()["it"]


def by_forking_pickler(obj):
    return pickle.loads(multiprocessing.reduction.ForkingPickler.dumps(obj))


@pytest.mark.parametrize(
    "send",
    [lambda obj: pickle.loads(pickle.dumps(obj)), on_a_queue, by_forking_pickler],
    ids=["pickle", "queue", "multiprocessing"],
)
@pytest.mark.parametrize("make", KINDS)
def test_by_reference_at_any_time(make, send):
    obj = make()
    again = send(obj)
    assert type(again) is type(obj)
    assert type(bare(again)) is type(bare(obj))
    assert bytes(bare(again)) == bytes(bare(obj))
    ctypes.memset(ctypes.addressof(bare(obj)), 3, 1)
    assert bytes(bare(again))[0] == 3


def test_a_pickle_keeps_nothing_alive_and_a_queue_does():
    data = pickle.dumps(RawArray("d", 10))
    with pytest.raises(oc.StaleRef):
        pickle.loads(data)
    queue = oc.default_pool().queue()
    queue.put(RawArray("d", range(10)))
    assert queue.get()[:] == list(range(10))


def test_other_objects_of_the_type_are_pickled_as_before():
    RawValue("i"), RawValue(Point), RawArray("i", 3), RawValue(Linked)
    assert pickle.loads(pickle.dumps(ctypes.c_int(5))).value == 5
    assert pickle.loads(pickle.dumps(Point(1, 2))).y == 2
    with pytest.raises(ValueError, match="pointers cannot be pickled"):
        pickle.dumps(Linked())


@pytest.mark.parametrize("duplicate", [copy_module.copy, copy_module.deepcopy])
def test_copies_of_the_module_copy_are_copies(duplicate):
    raw = RawArray("i", [1, 2, 3])
    twin = duplicate(raw)
    raw[0] = 9
    assert type(twin) is type(raw)
    assert twin[:] == [1, 2, 3]
    point = RawValue(Point, 1)
    twin = pickle.loads(pickle.dumps(duplicate(point)))
    point.x = 9
    assert twin.x == 1


def test_copies_into_the_pool():
    for original in (RawValue(Point, 3, 4.5), Point(3, 4.5)):
        twin = copy(original)
        original.x = 0
        assert (twin.x, twin.y) == (3, 4.5)
        assert pickle.loads(pickle.dumps(twin)).x == 3
    with pytest.raises(TypeError):
        copy(Value("i"))
    with pytest.raises(TypeError):
        copy(5)


def test_every_start_method(start, method):
    number, point = Value("i"), Value(Point, 5, 0.5)
    raw, lock, text = RawValue("q"), oc.RLock(), Array("c", 10)
    children = [start(method, work, number, point, raw, lock, text) for _ in range(2)]
    add(number, number.get_lock(), 300)
    assert [child.wait() for child in children] == [0, 0]
    assert number.value == 900
    assert (point.x, point.y) == (7, 1.5)
    assert raw.value == 600
    assert text.value == b"child"


def work(number, point, raw, lock, text):
    add(number, number.get_lock(), 300)
    add(raw, lock, 300)
    with point:
        point.x += 1
        point.y += 0.5
    text.value = b"child"


def put_value(queue, value):
    queue.put(value.get_obj()[:] if isinstance(value, SynchronizedBase) else value[:])


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_an_argument_stays_alive_until_it_has_arrived(method, start):
    queue = oc.default_pool().queue()
    children = [
        start(method, put_value, queue, RawArray("i", range(4))),
        start(method, put_value, queue, Array("i", range(4))),
    ]
    gc.collect()
    assert [queue.get(timeout=LIMIT) for _ in children] == [[0, 1, 2, 3]] * 2


def set_both(ours, theirs):
    ours.value, theirs.value = 7, 8


@pytest.mark.parametrize("last", ["ours", "theirs"])
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_next_to_those_of_the_standard_library(method, last):
    context = multiprocessing.get_context(method)
    theirs = context.Value("d", 2)
    ours = Value("d", 1, ctx=context)
    if last == "theirs":  # the class made last decides how all objects of the type are sent
        context.Value("d")
    child = context.Process(target=set_both, args=(ours, theirs))
    child.start()
    child.join(LIMIT)
    child.close()
    assert (ours.value, theirs.value) == (7, 8)
