"""Objects with arrays in them: what is copied, what is not, and what comes back."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import io
import pickle

import numpy as np
import pytest

import onecopy as oc
from onecopy._codec import pickler


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Picture:
    name: str
    pixels: np.ndarray


class Tagged(np.ndarray):
    tag = None

    def __reduce__(self):
        function, arguments, state = super().__reduce__()
        return function, arguments, (*state, self.tag)

    def __setstate__(self, state):
        *state, self.tag = state
        super().__setstate__(tuple(state))


def place(array):
    return array.__array_interface__["data"][0]


@pytest.fixture(params=["queue", "put", "stream"])
def carry(request, pool):
    """Send an object and take it."""
    queue = pool.queue()
    stream = pool.stream()
    subscription = stream.subscribe()

    def carry(obj):
        if request.param == "put":
            return pool.put(obj).get()
        if request.param == "stream":
            stream.publish(obj)
            return subscription.get(timeout=10)
        queue.put(obj)
        return queue.get(timeout=10)

    yield carry
    subscription.close()


@pytest.mark.parametrize(
    "obj",
    [
        Colour.RED,
        dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
        decimal.Decimal("1.5"),
        collections.OrderedDict(a=1),
        frozenset({1, 2}),
        ("x" * 300, 1),
        tuple(range(100)),
        ((((1,),),),),
        -(2**63),
        2**63,
        2**64,
        float("inf"),
        "\ud800",
        "\0",
        "",
        b"",
        (),
        bytearray(b"x" * 5000),
        np.float32(1.5),
        np.datetime64("2024-01-02"),
        np.dtype("f4"),
        ValueError("x"),
        len,
        int,
    ],
    ids=repr,
)
def test_objects_come_back(carry, obj):
    got = carry(obj)
    assert type(got) is type(obj)
    assert got == obj or repr(got) == repr(obj)


def test_signs_and_not_a_number(carry):
    assert str(carry(-0.0)) == "-0.0"
    assert np.isnan(carry(float("nan")))


def test_subclasses_of_simple_types_keep_their_type(carry):
    assert carry(True) is True
    got = carry(collections.namedtuple("Point", "x y").__new__ and Picture("a", np.zeros(2)))
    assert type(got) is Picture


def test_a_large_array_inside_an_object_is_written_once(pool):
    image = np.arange(1_000_000, dtype="u1")
    ref = pool.put({"id": 7, "image": image, "more": [Picture("p", image[:500_000])]})
    assert 1_500_000 <= pool.stats().used < 1_510_000
    got = ref.get()
    assert got["id"] == 7
    np.testing.assert_array_equal(got["image"], image)
    np.testing.assert_array_equal(got["more"][0].pixels, image[:500_000])
    assert not got["image"].flags.writeable
    again = ref.get()
    assert place(again["image"]) == place(got["image"])
    del ref, again
    np.testing.assert_array_equal(got["image"], image)


def frozen(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="i4"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(7, "u1"),
        np.empty((0, 3), "f4"),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.longdouble([1.5]),
        frozen(np.arange(3, dtype="f2")),
        frozen(np.array(5, "i8")),
        frozen(np.asfortranarray(np.ones((2, 2)))),
    ],
    ids=lambda array: f"{array.dtype} {array.shape} {'C' if array.flags.c_contiguous else 'F'}",
)
def test_a_small_array_names_its_dtype(array):
    # A dtype that numpy pickles ends the process if there is no memory for it.
    data, buffers, _ = pickler.encode(array)
    assert buffers == []
    assert b"numpy" not in data
    back = pickler.decode(data, buffers)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.flags.c_contiguous == array.flags.c_contiguous
    assert back.flags.writeable
    assert back.tobytes() == array.tobytes()


def test_the_same_array_twice_is_sent_once(pool):
    image = np.zeros(1_000_000, "u1")
    got = pool.put([image, image]).get()
    assert got[0] is got[1]
    assert pool.stats().used < 1_100_000


def test_several_arrays_of_the_pool_in_one_object(pool):
    first, second = pool.full(10_000, 1, "u1"), pool.full(10_000, 2, "u1")
    outside = np.full(10_000, 3, "u1")
    used = pool.stats().used
    queue = pool.queue()
    queue.put({"a": first, "b": (second[::2], outside), "c": first[10:20]})
    assert pool.stats().used - used < 12_000
    places = [place(first), place(second), place(first[10:20])]
    del first, second
    got = queue.get()
    assert [place(got["a"]), place(got["b"][0]), place(got["c"])] == places
    assert [got["a"].sum(), got["b"][0].sum(), got["b"][1].sum(), got["c"].sum()] == [
        10_000,
        10_000,
        30_000,
        10,
    ]
    part = got["c"]
    del got
    assert part.tolist() == [1] * 10
    del part
    assert pool.stats().used == 0


@pytest.mark.parametrize("nbytes", [0, 1, 4095, 4096, 4097, 100_000])
@pytest.mark.parametrize("nested", [False, True], ids=["alone", "nested"])
def test_arrays_around_the_threshold(carry, nbytes, nested):
    array = np.arange(nbytes).astype("u1")
    got = carry([array])[0] if nested else carry(array)
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype
    if nbytes >= 4096:
        assert not got.flags.writeable


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "nested"])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(20_000).reshape(100, 200)[::2, ::3],
        np.asfortranarray(np.arange(20_000).reshape(100, 200)),
        np.arange(20_000)[::-1],
        np.broadcast_to(np.arange(100), (100, 100)),
        np.arange(20_000, dtype=">i4"),
        np.arange(20_000).astype("M8[s]"),
        np.arange(20).astype(">m8[s]"),
        np.arange(20, dtype=">i4")[::2],
        np.zeros((0, 3), ">i4"),
        np.zeros(3, ">U0"),
        np.zeros(5000, [("a", "i4"), ("t", "M8[ns]"), ("s", "U3", (2,))]),
        np.array(["a", "bcd"] * 5000),
        np.zeros((0, 5), "f4"),
        np.array(7.5),
        np.zeros((3, 3), "V0"),
        np.zeros(3, "S0"),
        np.array([1, "a", None], object),
        np.array([None] * 5000, object),
        np.zeros(2000, np.longdouble),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_of_every_kind(carry, array, nested):
    got = carry({"x": array})["x"] if nested else carry(array)
    assert type(got) is np.ndarray
    assert (got.shape, got.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(got, array)
    if array.flags.f_contiguous:
        assert got.flags.f_contiguous


def test_subclasses_come_back_as_such(carry):
    tagged = np.arange(10_000).view(Tagged)
    tagged.tag = "x"
    masked = np.ma.masked_greater(np.arange(10_000), 5)
    matrix = np.arange(10_000).view(np.recarray)
    for obj in (tagged, masked, matrix):
        for got in (carry(obj), carry([obj])[0]):
            assert type(got) is type(obj)
            np.testing.assert_array_equal(got, obj)
    assert carry(tagged).tag == "x"
    assert carry(masked).mask.sum() == masked.mask.sum()


def test_a_memory_mapped_array_arrives(carry, tmp_path):
    mapped = np.memmap(tmp_path / "data", "u1", "w+", shape=(10_000,))
    mapped[:] = 7
    assert carry(mapped).sum() == 70_000
    assert carry([mapped])[0].sum() == 70_000


def test_a_memoryview_arrives_as_read_only_memory(carry):
    for obj in (memoryview(b"x" * 10_000), memoryview(bytearray(b"x" * 10_000))):
        got = carry(obj)
        assert isinstance(got, memoryview)
        assert got.readonly
        assert got.tobytes() == obj.tobytes()
        got.release()


def test_what_cannot_be_pickled_is_an_error_in_the_caller(pool):
    queue, stream = pool.queue(), pool.stream()
    subscription = stream.subscribe()
    frame = pool.zeros(10_000)
    for bad in (lambda: None, open(__file__, "rb"), (x for x in [])):  # noqa: SIM115, PTH123 - closed below
        for send in (queue.put, stream.publish, pool.put):
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
                send([np.zeros(10_000), frame, bad])
        if isinstance(bad, io.IOBase):
            bad.close()
    assert queue.empty()
    assert stream.published == 0
    assert frame.flags.writeable
    del frame
    assert pool.stats().used == 0
    subscription.close()


class Exploding:
    def __reduce__(self):
        raise RuntimeError("no")


class Landmine:
    def __reduce__(self):
        return explode, ()


def explode():
    raise RuntimeError("boom")


def test_what_fails_while_it_is_pickled_is_not_sent(pool):
    queue = pool.queue()
    with pytest.raises(RuntimeError, match="no"):
        queue.put([np.zeros(10_000), Exploding()])
    assert queue.empty()
    assert pool.stats().used == 0


def test_what_fails_while_it_is_unpickled_is_gone_and_the_queue_goes_on(pool):
    queue = pool.queue()
    queue.put([np.zeros(10_000), Landmine()])
    queue.put("next")
    with pytest.raises(RuntimeError, match="boom"):
        queue.get()
    assert queue.get() == "next"
    assert pool.stats().used == 0


class Reentrant:
    """Uses the queue that it is being put on."""

    def __init__(self, queue):
        self.queue = queue

    def __reduce__(self):
        self.queue.put("from inside")
        return int, ("7",)


def test_pickling_may_use_the_same_queue(pool):
    queue = pool.queue()
    queue.put([Reentrant(queue)])
    assert [queue.get(), queue.get()] == ["from inside", [7]]


def test_pools_and_channels_travel(pool):
    queue, other = pool.queue(), pool.queue(maxsize=3)
    stream, frames, ref = pool.stream("s"), pool.frames(None, (2,), "u1", 2), pool.put([1])
    queue.put({"pool": pool, "queue": other, "stream": stream, "frames": frames, "ref": ref})
    got = queue.get()
    assert got["pool"] == pool
    assert (got["queue"].handle, got["queue"].maxsize) == (other.handle, 3)
    assert (got["stream"].handle, got["stream"].name) == (stream.handle, "s")
    assert got["frames"].handle == frames.handle
    assert got["ref"].get() == [1]


def test_a_reference_on_a_queue_holds_its_object(pool):
    queue = pool.queue()
    ref = pool.put(np.arange(10_000))
    queue.put(ref)
    ref.release()
    del ref
    assert queue.get().get()[-1] == 9999
    assert pool.stats().used == 0


def test_encoding_leaves_no_cycle():
    """A cycle would keep arrays, and so blocks, until the next garbage collection."""
    import gc

    gc.collect()
    gc.disable()
    try:
        pickler.encode([np.zeros(10_000), {"a": np.zeros(10)}])
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_deep_nesting_is_an_error_not_a_crash(pool):
    obj = None
    for _ in range(100_000):
        obj = [obj]
    with pytest.raises(RecursionError):
        pool.put(obj)
    nested = ()
    for _ in range(50_000):
        nested = (nested,)
    with pytest.raises(RecursionError):
        pool.put(nested)
    assert pool.stats().used == 0
    # Freed piece by piece here: the interpreter would use recursion for it.
    while obj:
        obj = obj.pop()


def test_frames_of_data(pool):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": np.arange(10_000), "b": np.arange(10_000.0)})
    ref = pool.put(table)
    pandas.testing.assert_frame_equal(ref.get(), table)
    assert 160_000 <= pool.stats().used < 170_000


# ---- memoryviews inside other objects ------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [0, 8, 4096, 100_000])
@pytest.mark.parametrize("item", ["B", "c", "h", "d", "?"])
def test_a_memoryview_inside_of_something(pool, nbytes, item):
    data = bytes(i % 2 for i in range(nbytes))
    for given in (memoryview(data), memoryview(bytearray(data))):
        view = given.cast(item)
        got = pool.put({"view": [view]}).get()["view"][0]
        assert (got.format, got.shape, got.tobytes()) == (item, view.shape, data)
        assert got.readonly == (nbytes >= 4096)


def test_a_memoryview_of_many_dimensions(pool):
    view = memoryview(np.arange(6000, dtype="i4").reshape(20, 300))
    (got,) = pool.put((view,)).get()
    assert (got.shape, got.format, got[3, 4]) == ((20, 300), "i", 904)
    with pytest.raises(TypeError, match="memoryview"):
        pool.put([view[::2]])
    assert oc.writable_copy([got])[0].readonly is False


def test_a_memoryview_over_memory_of_the_pool_is_not_copied(pool):
    array = pool.empty(10_000)
    before = pool.stats().used
    ref = pool.put([memoryview(array)])
    assert pool.stats().used < before + 4096
    assert np.shares_memory(np.asarray(ref.get()[0]), array)
