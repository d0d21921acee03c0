"""Value, Array and their raw kin: the standard library's, by reference, whoever dies."""

import array
import copy as copy_module
import ctypes
import gc
import multiprocessing
import multiprocessing.sharedctypes as standard
import pickle
import signal
import sys
import threading
import warnings
from contextlib import suppress

import numpy as np
import pytest
from children import LIMIT, asleep, eventually, used

import onecopy as oc
from onecopy.multiprocessing import sharedctypes
from onecopy.multiprocessing.sharedctypes import Array, RawArray, RawValue, Value, copy
from onecopy.values import SynchronizedBase, synchronized

pytestmark = pytest.mark.one_in(2)

CODES = "cubBhHiIlLqQfd"


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Point3(Point):
    _fields_ = [("z", ctypes.c_short)]


class Number(ctypes.Union):
    _fields_ = [("i", ctypes.c_longlong), ("d", ctypes.c_double)]


class Linked(ctypes.Structure):
    _fields_ = [("next", ctypes.c_void_p), ("name", ctypes.c_char_p)]


@pytest.fixture(scope="module", autouse=True)
def _heap_of_the_standard_library():
    """Have its descriptors open before anybody counts them."""
    multiprocessing.get_context("fork").Value("d")


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
    """Give what is made, or the error."""
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


# ----------------------------------------------------------------------------- who keeps it alive


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


def add(obj, lock, rounds):
    for _ in range(rounds):
        with lock:
            obj.value += 1


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
    if last == "theirs":  # who made the last one says how all of the type are sent
        context.Value("d")
    child = context.Process(target=set_both, args=(ours, theirs))
    child.start()
    child.join(LIMIT)
    child.close()
    assert (ours.value, theirs.value) == (7, 8)


# ----------------------------------------------------------------------------------- with a lock


def test_which_lock():
    assert isinstance(Value("i").get_lock(), oc.RLock)
    assert isinstance(Array("i", 3, lock=None).get_lock(), oc.RLock)
    for lock in (oc.Lock(), threading.Lock(), multiprocessing.get_context("fork").RLock()):
        assert Value("i", lock=lock).get_lock() is lock
        assert Array("i", 3, lock=lock).get_lock() is lock
    assert type(Value("i", lock=False)) is ctypes.c_int
    assert type(Array("i", 3, lock=False)) is ctypes.c_int * 3
    context = multiprocessing.get_context("fork")
    assert isinstance(Value("i", ctx=context).get_lock(), multiprocessing.synchronize.RLock)
    for make in (lambda lock: Value("i", lock=lock), lambda lock: Array("i", 1, lock=lock)):
        with pytest.raises(AttributeError, match="has no method 'acquire'"):
            make("notalock")
    with pytest.raises(AttributeError, match="has no method 'acquire'"):
        synchronized(ctypes.c_int(), 5)
    with pytest.raises(AssertionError):
        synchronized(Value("i"))


LOCKS = [oc.RLock, oc.Lock, threading.RLock, threading.Lock, None]


class Counting:
    """Another's lock, which says what was done with it."""

    def __init__(self):
        self.said = []

    def acquire(self):
        self.said.append("acquire")

    def release(self):
        self.said.append("release")

    def __enter__(self):
        self.said.append("enter")
        return "entered"

    def __exit__(self, *error):
        self.said.append(error[0])


class Derived(oc.RLock):
    def acquire(self, *args):
        said.append("acquire")
        return super().acquire(*args)


said = []


def test_each_access_takes_the_lock_of_whoever_it_is():
    lock = Counting()
    number = Value("i", 3, lock=lock)
    pair = ["acquire", "release"]
    assert number.value == 3
    number.value = 4
    with pytest.raises(TypeError):
        number.value = "x"
    assert lock.said == pair * 3
    with suppress(KeyError), number as entered:
        assert entered == "entered"
        raise KeyError
    assert lock.said[6:] == ["enter", KeyError]
    row = Array("i", [1, 2, 3], lock=lock)
    lock.said.clear()
    assert row[1] == 2
    assert row[1:] == [2, 3]
    row[0] = 7
    row[1:] = [8, 9]
    with pytest.raises(IndexError):
        row[3]
    assert lock.said == pair * 5
    assert len(row) == 3
    assert list(row) == [7, 8, 9]
    text = Array("c", b"ab", lock=lock)
    lock.said.clear()
    text.value = b"x"
    assert (text.value, text.raw) == (b"x", b"x\0")
    assert lock.said == pair * 3
    derived = Value("i", lock=Derived())
    derived.value = 5
    assert said == ["acquire"]


def test_errors_between_leave_the_lock_free():
    for lock in (oc.RLock(), oc.Lock(), Counting()):
        number = Value("i", lock=lock)
        with pytest.raises(TypeError, match="str"):
            number.value = "x"
        with pytest.raises(AttributeError):
            synchronized(Point(), lock).value  # noqa: B018 - structures have no value
        with pytest.raises(AttributeError):
            del number.value
        if not isinstance(lock, Counting):
            assert not lock.locked()


def test_an_error_of_both_has_a_context():
    class Fails(Counting):
        def release(self):
            raise RuntimeError("not released")

    number = Value("i", lock=Fails())
    with pytest.raises(RuntimeError, match="not released") as caught:
        number.value = "x"
    assert isinstance(caught.value.__context__, TypeError)
    with pytest.raises(RuntimeError, match="not released"):
        number.value = 1


def test_fields_of_structures_and_unions_are_attributes():
    point = Value(Point3, 1, 2.5, 3)
    assert (point.x, point.y, point.z) == (1, 2.5, 3)
    point.y = 7
    assert point.get_obj().y == 7
    assert type(point) is type(Value(Point3))
    assert type(point).__name__ == "SynchronizedPoint3"
    number = Value(Number)
    number.d = 1.0
    assert number.i == 0x3FF0000000000000


def test_held_it_is_held_for_all():
    number = Value("i", 5)
    with number as got:
        assert got is True
        assert number.get_lock()._mine
        assert number.value == 5  # the same thread may
        seen = []
        thread = threading.Thread(target=lambda: seen.append(number.acquire(False)))
        thread.start()
        thread.join(LIMIT)
        assert seen == [False]
    assert number.acquire(True, 1.0) is True
    number.release()
    with pytest.raises(RuntimeError):
        number.release()


def test_without_a_lock_it_says_so():
    with pytest.raises(TypeError, match="__init__"):
        SynchronizedBase.__new__(SynchronizedBase).get_lock()


def hold(number, ready):
    number.get_lock().acquire()
    number.value = 1
    ready.put(None)
    threading.Event().wait()


def read(number, ready):
    ready.put(None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = number.value
    ready.put((value, [warning.category is oc.OwnerDiedWarning for warning in caught]))


def test_a_holder_that_is_killed(start, method):
    number, ready = Value("i"), oc.default_pool().queue()
    holder = start(method, hold, number, ready)
    ready.get(timeout=LIMIT)
    reader = start(method, read, number, ready)
    ready.get(timeout=LIMIT)
    eventually(lambda: asleep(reader.pid), "the child to wait")
    holder.kill()
    assert ready.get(timeout=LIMIT) == (1, [True])
    assert reader.wait() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert number.value == 1  # told once


@pytest.mark.parametrize(
    "use", [lambda n: n.value, lambda n: setattr(n, "value", 3), lambda n: n.__enter__()]
)
def test_a_dead_holder_is_told_as_the_lock_was_told_to(use, start):
    ready = oc.default_pool().queue()
    number = Value("i", lock=oc.RLock(on_owner_death="raise"))
    child = start("fork", hold, number, ready)
    ready.get(timeout=LIMIT)
    child.kill()
    with pytest.raises(oc.OwnerDied):
        use(number)
    assert number.get_lock()._mine  # to repair
    number.release()
    assert number.value == 1


def test_a_signal_ends_a_wait(start):
    number, ready = Value("i"), oc.default_pool().queue()
    child = start("fork", hold, number, ready)
    ready.get(timeout=LIMIT)

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        with pytest.raises(KeyboardInterrupt):
            number.value  # noqa: B018 - it waits
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    child.kill()


def test_threads_lose_no_update():
    number = Value("i")
    threads = [threading.Thread(target=add, args=(number, number, 500)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert number.value == 2000


# --------------------------------------------------------------------------------- in any pool


def test_a_value_of_a_pool(pool):
    number = pool.value("d", 1.5)
    number.value += 1
    assert number.value == 2.5
    assert used(pool) == 8
    assert type(pool.value(Point, 1, lock=False)) is Point
    with pytest.raises(oc.OneCopyError, match="no value None"):
        pool.value()
    lock = oc.Lock()
    assert oc.Value("i", lock=lock).get_lock() is lock


NAMED = [
    ("d", 1.5),
    ("c", b"x"),
    ("u", "\N{EURO SIGN}"),
    (ctypes.c_bool, True),
    (ctypes.c_longdouble, 2.5),
    (Point, 1, 2.5),
    (Number, 5),
    (ctypes.c_int * 3, 1, 2, 3),
    ((Point * 2) * 3,),
    (ctypes.c_char * 5, b"a", b"b"),
    (ctypes.c_int.__ctype_be__, 7),
]


@pytest.mark.parametrize("what", NAMED, ids=lambda what: str(what[0]))
def test_named_values(pool, what):
    first = pool.value(*what, name="it")
    again = pool.value(what[0], name="it")
    assert bytes(again.get_obj()) == bytes(first.get_obj())
    ctypes.memset(ctypes.addressof(again.get_obj()), 1, 1)
    assert bytes(first.get_obj())[0] == 1
    unknown = pool.value(name="it", lock=False)  # in a process without the type
    assert bytes(unknown) == bytes(first.get_obj())
    assert first.get_lock().handle == again.get_lock().handle
    with pytest.raises(oc.OneCopyError, match="type="):
        pool.value("h", name="it")
    assert pool.validate() == []


def test_names_that_will_not_do(pool):
    with pytest.raises(oc.OneCopyError, match="no value 'it'"):
        pool.value(name="it")

    class Bits(ctypes.Structure):
        _fields_ = [("a", ctypes.c_int, 3)]

    for kind in (Bits, ctypes.c_char_p, ctypes.py_object):
        with pytest.raises(TypeError, match="cannot have a name"):
            pool.value(kind, name="it")
    with pytest.raises(ValueError, match="no bytes"):
        pool.value(ctypes.c_int * 0, name="it")
    with pytest.raises(AttributeError):
        pool.value("i", name="it", lock="x")
    with pytest.raises(oc.OneCopyError):
        pool.value(name="it")  # nothing was made


def count_by_name(name):
    with oc.Pool.open(name) as pool:
        number = pool.value("i", name="count")
        add(number, number, 200)


def test_unrelated_processes_count_together(start, method):
    with oc.Pool("values-of-a-test", "8MiB") as pool:
        children = [start(method, count_by_name, pool.name) for _ in range(2)]
        assert [child.wait() for child in children] == [0, 0]
        assert pool.value(name="count").value == 400


def test_a_closed_pool_says_so(pool):
    number = pool.value("i", 5)
    pool.close()
    with pytest.raises(oc.OneCopyError, match="closed"):
        number.value  # noqa: B018 - it raises
    with pytest.raises(oc.OneCopyError, match="closed"):
        pool.value("i")
    assert number.get_obj().value == 5


def test_a_fork_has_the_values_of_its_parent(start):
    number = Value("i", 5)
    child = start("fork", add, number, number, 1)
    assert child.wait() == 0
    assert number.value == 6
