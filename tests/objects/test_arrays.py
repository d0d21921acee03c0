import contextlib
import copy
import ctypes
import gc
import pickle

import numpy as np
import pytest
from pickle_errors import UNPICKLABLE

import onecopy as oc
from onecopy._codec.backing import lease_of
from onecopy._core.shapes import checked_dtype


def place(array):
    return array.__array_interface__["data"][0]


def test_arrays_of_the_pool_are_ordinary_writable_arrays(pool):
    for array in (
        pool.empty((3, 4)),
        pool.zeros((3, 4)),
        pool.full((3, 4), 2.0),
        pool.array(np.ones((3, 4))),
    ):
        assert type(array) is np.ndarray
        assert (array.shape, array.dtype) == ((3, 4), np.float64)
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert place(array) % 64 == 0
        array[:] = 5
        assert array.sum() == 60
    assert lease_of(array).member is pool.member


def test_shapes_and_dtypes_are_numpys(pool):
    assert pool.empty(3).shape == (3,)
    assert pool.empty([2, 3], "f4").dtype == np.float32
    assert pool.empty(np.int64(4), np.uint8).shape == (4,)
    assert pool.empty((), "i8").shape == ()
    assert pool.full(3, 7).dtype == np.asarray(7).dtype
    assert pool.full((2, 2), [1, 2], "u1").tolist() == [[1, 2], [1, 2]]
    assert pool.array([[1, 2], [3, 4]], "f4").tolist() == [[1, 2], [3, 4]]
    assert pool.array(5).shape == ()


def test_zeros_are_zeros_in_used_memory(pool):
    dirty = pool.full(1 << 20, 255, "u1")
    del dirty
    assert not pool.zeros(1 << 20, "u1").any()


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 0, 2)])
def test_arrays_without_elements(pool, shape):
    for array in (pool.empty(shape), pool.zeros(shape), pool.array(np.ones(shape))):
        assert array.shape == shape
    assert pool.shared_array(shape).shape == shape
    assert pool.stats().used == 0


@pytest.mark.parametrize(
    "dtype",
    [
        "?",
        "u1",
        ">i4",
        "f2",
        "c16",
        "S5",
        "U3",
        "M8[ns]",
        "m8[s]",
        "V7",
        [("a", ">i4"), ("b", "U2")],
    ],
    ids=str,
)
def test_dtypes_without_objects(pool, dtype):
    source = np.zeros((2, 3), dtype)
    array = pool.array(source)
    assert array.dtype == source.dtype
    assert array.tobytes() == source.tobytes()
    got = pool.put(array).get()
    assert got.dtype == source.dtype
    assert place(got) == place(array)


@pytest.mark.parametrize("dtype", [object, [("a", "i4"), ("b", "O")]], ids=str)
def test_dtypes_with_objects_are_refused(pool, dtype):
    for call in (pool.empty, pool.zeros, pool.shared_array):
        with pytest.raises(TypeError, match="Python objects"):
            call((2,), dtype)
    with pytest.raises(TypeError, match="Python objects"):
        pool.array(np.zeros(2, dtype))
    with pytest.raises(TypeError, match="Python objects"):
        pool.frames(None, (2,), dtype, 2)


@pytest.mark.parametrize("shape", [-1, (3, -1)])
def test_negative_shapes_are_refused(pool, shape):
    for call in (pool.empty, pool.zeros, pool.shared_array):
        with pytest.raises(ValueError, match="negative"):
            call(shape)


@pytest.mark.parametrize("shape", ["3", 2.5, None, (1, 2.5)])
def test_shapes_that_are_none_are_refused(pool, shape):
    with pytest.raises(TypeError):
        pool.empty(shape)


def test_shapes_beyond_any_memory_are_refused(pool):
    for shape in ((1 << 40,), (1 << 62,), (1 << 40, 1 << 40), (1 << 100,)):
        with pytest.raises((oc.PoolFull, ValueError, OverflowError)):
            pool.empty(shape)
    assert pool.stats().used == 0


def test_an_unknown_dtype_is_refused(pool):
    with pytest.raises(TypeError):
        pool.empty(3, "no such type")


def test_fortran_order_is_kept(pool):
    source = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    array = pool.array(source)
    assert array.flags.f_contiguous
    np.testing.assert_array_equal(array, source)


def test_a_masked_array_keeps_its_mask_or_is_refused(pool):
    masked = np.ma.masked_array(np.arange(5), mask=[0, 1, 0, 0, 1])
    with pytest.raises(TypeError, match="mask"):
        pool.array(masked)
    got = pool.put(masked).get()
    assert isinstance(got, np.ma.MaskedArray)
    assert got.mask.tolist() == masked.mask.tolist()
    assert got.sum() == masked.sum()


def test_memory_is_free_when_the_last_view_is_gone(pool):
    array = pool.zeros((100, 100))
    part = array[10:20, ::2].T
    del array
    assert pool.stats().used == 80_000
    bytes_ = memoryview(part[:1, :1])
    del part
    assert pool.stats().used == 80_000
    del bytes_
    assert pool.stats().used == 0


# ------------------------------------------------------------------------------------ being sent


def slices(array):
    return {
        "whole": array,
        "rows": array[2:5],
        "column": array[:, 1],
        "reversed": array[::-1, ::-2],
        "transposed": array.T,
        "one": array[3:4, 2:3],
        "point": array[1, 1, ...],
        "broadcast": np.broadcast_to(array[0], (5, *array[0].shape)),
        "reinterpreted": array.view("u1"),
        "negative strides": array[5:1:-2],
    }


@pytest.mark.parametrize("name", slices(np.zeros((8, 6))))
@pytest.mark.parametrize("nested", [False, True], ids=["alone", "nested"])
def test_an_array_of_the_pool_is_never_written_again(pool, name, nested):
    array = pool.array(np.arange(48.0).reshape(8, 6))
    part = slices(array)[name]
    before = pool.stats().used
    ref = pool.put({"a": [part]} if nested else part)
    assert pool.stats().used - before <= 1024
    got = ref.get()["a"][0] if nested else ref.get()
    assert type(got) is np.ndarray
    assert (got.shape, got.strides, got.dtype) == (part.shape, part.strides, part.dtype)
    assert place(got) == place(part)
    assert not got.flags.writeable
    np.testing.assert_array_equal(got, part)
    expected = part.copy()
    del array, part, ref
    np.testing.assert_array_equal(got, expected)
    del got
    assert pool.stats().used == 0


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "nested"])
def test_what_was_sent_is_read_only_for_its_sender(pool, nested):
    array = pool.zeros((8, 6))
    part = array[2:4]
    queue = pool.queue()
    queue.put({"part": part} if nested else part)
    assert not array.flags.writeable
    assert not part.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        part[0, 0] = 1


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "nested"])
def test_what_could_not_be_sent_stays_writable(pool, nested):
    array = pool.zeros(4)
    queue = pool.queue(maxsize=1)
    queue.put(0)
    import queue as standard

    with pytest.raises(standard.Full):
        queue.put([array] if nested else array, timeout=0)
    array[0] = 1
    with pytest.raises(UNPICKLABLE):
        pool.put([array, lambda: None])
    array[0] = 2


def test_an_array_of_another_pool_is_copied_and_stays_writable(pool):
    with oc.Pool.create(size="16MiB") as other:
        array = other.array(np.arange(10_000))
        for obj in (array, array[::2]):
            got = pool.put(obj).get()
            assert lease_of(got).member is pool.member
            np.testing.assert_array_equal(got, obj)
        nested = pool.put([array[::2]]).get()[0]
        np.testing.assert_array_equal(nested, array[::2])
        del got, nested, array, obj
        gc.collect()


# --------------------------------------------------------------------------------- shared arrays


def test_a_shared_array_is_writable_wherever_it_is(pool):
    shared = pool.shared_array((3, 4), "i4")
    assert type(shared) is oc.SharedArray
    assert not shared.any()
    ref, nested = pool.put(shared), pool.put({"x": shared[1:]})
    shared[0, 0], shared[2, 3] = 1, 2
    got, part = ref.get(), nested.get()["x"]
    assert type(got) is oc.SharedArray
    assert type(part) is oc.SharedArray
    got[0, 1], part[0, 0] = 3, 4
    assert shared.tolist() == [[1, 3, 0, 0], [4, 0, 0, 0], [0, 0, 0, 2]]
    assert shared.flags.writeable


def test_a_shared_array_is_pickled_by_reference(pool):
    shared = pool.shared_array((4, 6), "f4")
    for view in (shared, shared[1:3, ::-2], shared.T, shared[2, 3, ...]):
        for twin in (pickle.loads(pickle.dumps(view)), pickle.loads(pickle.dumps(view, 2))):
            assert type(twin) is oc.SharedArray
            assert (twin.shape, twin.strides, place(twin)) == (
                view.shape,
                view.strides,
                place(view),
            )
    twin[...] = 9
    assert shared[2, 3] == 9
    data = pickle.dumps(shared)
    del shared, view, twin
    with pytest.raises(oc.StaleRef):
        pickle.loads(data)


def test_a_shared_array_goes_through_another_pool_by_reference(pool):
    shared = pool.shared_array((4, 6), "f4")
    with oc.Pool.create(size="8MiB") as other:
        queue = other.queue("q")
        for item in (shared, shared[1:, ::-2]):
            queue.put(item)
            queue.put({"x": item})
            queue.put((1, [item]))
            for got in (queue.get(), queue.get()["x"], queue.get()[1][0]):
                assert type(got) is oc.SharedArray
                assert place(got) == place(item)
                np.add(got, 1, out=got)
        assert shared.sum() == 3 * 24 + 3 * 9
        queue.put(np.asarray(shared))  # another array over the same memory
        assert not queue.get().flags.writeable
        queue.put(shared)
        del shared, item, got
        with pytest.raises(oc.StaleRef):
            queue.get()
        assert queue.empty()


def test_what_is_computed_from_a_shared_array_is_an_ordinary_array(pool):
    shared = pool.shared_array((3, 4))
    for result in (shared + 1, np.sqrt(shared), shared.sum(axis=0), shared.copy(), shared[[0, 1]]):
        assert type(result) is np.ndarray
    assert type(shared.astype("f4")) is type(shared.astype(shared.dtype)) is np.ndarray
    assert shared.astype(shared.dtype, copy=False) is shared
    assert type(copy.copy(shared)) is type(copy.deepcopy(shared)) is np.ndarray
    assert np.isscalar(shared.sum())
    assert np.isscalar(shared[0, 0])
    shared += 1
    assert type(shared) is oc.SharedArray
    assert type(np.add(shared, 1, out=shared)) is oc.SharedArray
    assert shared.sum() == 24
    for view in (shared[1:], shared.T, shared.reshape(-1), shared.view("u1")):
        assert type(view) is oc.SharedArray
        assert lease_of(view) is not None


def test_a_copy_under_the_class_is_pickled_by_value(pool):
    shared = pool.shared_array((3, 4))
    flat = np.asfortranarray(shared)
    other = pickle.loads(pickle.dumps(flat))
    assert type(other) is np.ndarray
    assert other.shape == (3, 4)


def test_named_shared_arrays(pool):
    first = pool.shared_array((3, 4), "i4", name="grid")
    second = pool.shared_array((3, 4), "i4", name="grid")
    third = pool.shared_array(name="grid")
    first[1, 2] = 7
    assert second[1, 2] == third[1, 2] == 7
    assert type(third) is oc.SharedArray
    assert third.dtype == np.int32
    with pytest.raises(oc.OneCopyError, match=r"shared array 'grid'.*shape=\(3, 4\).*\(4, 3\)"):
        pool.shared_array((4, 3), "i4", name="grid")
    with pytest.raises(oc.OneCopyError, match=r"shared array 'grid'.*dtype"):
        pool.shared_array((3, 4), "f4", name="grid")
    with pytest.raises(oc.OneCopyError, match="no shared array 'none'"):
        pool.shared_array(name="none")


def write_part(shared, index):
    shared[index] = index + 1


def test_processes_write_into_one_shared_array(pool, method, start):
    shared = pool.shared_array((2, 1000), "i4")
    child = start(method, write_part, shared, 1)
    write_part(shared, 0)
    assert child.wait() == 0
    assert shared.sum(axis=1).tolist() == [1000, 2000]


WRITTEN = [
    ("?", True, False),
    *((code, 1, 2) for code in (*"bBhHiIlLqQefdg", ">i4", "<u2", ">f8")),
    *((code, 1 + 2j, 3 - 4j) for code in "FDG"),
    ("M8[ns]", np.datetime64("2024-02-29"), np.datetime64("NaT", "ns")),
    ("m8[us]", np.timedelta64(5, "us"), np.timedelta64(-5, "us")),
    ("S5", b"abc", b"vwxyz"),
    ("U3", "\N{EURO SIGN}", "xyz"),
    ("V6", b"abcdef", b"uvwxyz"),
    ([("a", "i4"), ("b", "f8", (2,))], (1, (2.0, 3.0)), (4, (5.0, 6.0))),
    (np.dtype({"names": ["a"], "formats": ["u1"], "offsets": [3], "itemsize": 8}), (1,), (2,)),
    (np.dtype(("i4", (2, 3))), 7, 8),
]


def elements(array):
    """Return its contents, without the bytes between them, which may have any value."""
    return repr(array.view(np.ndarray).tolist())


def test_shared_arrays_of_each_dtype_are_written_by_all(pool, method, start):
    shared = [pool.shared_array(4, dtype, str(n)) for n, (dtype, *_) in enumerate(WRITTEN)]
    for array, (dtype, before, _) in zip(shared, WRITTEN, strict=True):
        expected = np.zeros(4, dtype)
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
        assert elements(array) == elements(expected)
        array[1] = before
    assert start(method, write_each, shared).wait() == 0
    for n, (array, (dtype, before, after)) in enumerate(zip(shared, WRITTEN, strict=True)):
        expected = np.zeros(4, dtype)
        expected[1], expected[2] = before, after
        assert elements(array) == elements(expected)
        assert elements(pool.shared_array(name=str(n))) == elements(expected)


def write_each(shared):
    for array, (dtype, before, after) in zip(shared, WRITTEN, strict=True):
        expected = np.zeros(4, dtype)
        expected[1] = before
        assert array.dtype == expected.dtype
        assert elements(array) == elements(expected)
        array[2] = after


def test_a_shared_array_of_objects_is_refused(pool):
    for dtype in (object, [("a", "O")]):
        with pytest.raises(TypeError, match="Python objects"):
            pool.shared_array(4, dtype)


@pytest.mark.parametrize(("kind", "right"), [(ctypes.c_double, "f8"), (ctypes.c_ushort, "u2")])
def test_a_dtype_of_ctypes_is_right_or_there_is_no_memory(kind, right):
    # numpy takes the type for one of Python objects when it has no memory to check it.
    memory = pytest.importorskip("_testcapi")
    failed = 0
    for nth in range(1, 100):
        made = None
        with contextlib.suppress(MemoryError):
            memory.set_nomemory(nth, nth + 1)  # the nth allocation fails
            try:
                made = checked_dtype(kind)
            finally:
                memory.remove_mem_hooks()
        failed += made is None
        assert made in (None, right)
    assert failed > 0
    assert made == right
