"""Values in any pool: by name, in children, and after the pool was closed."""

import ctypes

import pytest
from children import used
from structures import Number, Point, add

import onecopy as oc
from onecopy.multiprocessing.sharedctypes import Value

pytestmark = pytest.mark.one_in(2)


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


@pytest.mark.parametrize("what", NAMED, ids=lambda what: getattr(what[0], "__name__", what[0]))
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
