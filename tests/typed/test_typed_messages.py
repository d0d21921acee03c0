"""Messages of typed channels: what arrives, and what is refused, with the name of the field."""

import enum
import gc
import weakref
from collections import namedtuple
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from messages_typed import (
    Everything,
    Frame,
    Image,
    Mapping,
    Named,
    Partial,
    Pose,
    Slotted,
    everything,
    is_equal,
)

import onecopy as oc
from onecopy import Shape


def frame(**other):
    return Frame(**{"id": 7, "image": np.ones((4, 6, 3), np.uint8), **other})


def through(pool, type, message, **options):  # noqa: A002
    """Put a message, and get it back."""
    queue = pool.queue(type=type, **options)
    queue.put(message)
    return queue.get()


# ------------------------------------------------------------------------------------ what arrives


def test_every_kind_of_field(pool):
    message = everything()
    assert is_equal(through(pool, Everything, message), message)


@pytest.mark.parametrize("nulls", [True, False])
def test_a_frame(pool, nulls):
    message = frame() if nulls else frame(pose=Pose(1.0, 2.0), tags=["a", "b"])
    assert is_equal(through(pool, Frame, message), message)


@pytest.mark.parametrize("cls", [Slotted, Named, Mapping])
def test_the_other_classes(pool, cls):
    message = cls(id=7, image=np.arange(5000, dtype=np.uint8))
    got = through(pool, cls, message)
    assert type(got) is type(message)
    assert list(got) == list(message) if isinstance(got, dict) else got.id == 7
    image = got["image"] if isinstance(got, dict) else got.image
    assert (image == np.arange(5000, dtype=np.uint8)).all()


def test_a_struct_of_msgspec(pool):
    msgspec = pytest.importorskip("msgspec")
    kinds = [
        msgspec.defstruct("Plain", [("id", int), ("image", npt.NDArray[np.uint8])]),
        msgspec.defstruct(
            "Frozen", [("id", int), ("image", npt.NDArray[np.uint8], None)], frozen=True, gc=False
        ),
    ]
    for cls in kinds:
        got = through(pool, cls, cls(3, np.arange(9, dtype=np.uint8)))
        assert type(got) is cls
        assert got.id == 3
        assert got.image.tolist() == list(range(9))
        del got
    gc.collect()


def test_arrays_in_the_pool_go_by_reference(pool):
    image = pool.array(np.ones((4, 6, 3), np.uint8))
    got = through(pool, Frame, frame(image=image))
    assert np.shares_memory(got.image, image)
    assert not image.flags.writeable


def test_numbers_arrive_as_they_were_declared(pool):
    class Level(enum.IntEnum):
        HIGH = 3

    assert type(through(pool, float, 1)) is float
    assert type(through(pool, float, np.float64(1.5))) is float
    assert type(through(pool, float, True)) is float
    assert through(pool, complex, 2) == 2 + 0j
    assert type(through(pool, complex, np.complex128(2j))) is complex
    assert type(through(pool, int, Level.HIGH)) is int
    assert type(through(pool, int, True)) is int
    assert type(through(pool, str, np.str_("text"))) is str
    assert type(through(pool, bytes, np.bytes_(b"data"))) is bytes


def test_a_type_need_not_be_a_record(pool):
    assert through(pool, list[int], [1, 2]) == [1, 2]
    assert through(pool, str | None, None) is None
    assert through(pool, dict[int, tuple[Pose, ...]], {1: (Pose(2.0),)}) == {1: (Pose(2.0),)}
    assert through(pool, Image, np.ones((4, 6, 3), np.uint8)).shape == (4, 6, 3)
    assert through(pool, npt.NDArray[np.uint8], np.uint8([1, 2])).tolist() == [1, 2]
    assert through(pool, str, "long " * 1000) == "long " * 1000
    assert through(pool, tuple[()], ()) == ()


def test_neither_the_constructor_nor_post_init_runs(pool):
    got = through(pool, Counted, Counted(1))
    assert got.id == 1
    assert Counted.made == 1


@dataclass
class Counted:
    """Counts its objects."""

    id: int
    made = 0

    def __post_init__(self):
        Counted.made += 1


def test_what_an_object_has_beside_its_fields_does_not_travel(pool):
    message = Pose(1.0)
    message.extra = 5
    assert not hasattr(through(pool, Pose, message), "extra")


def test_a_list_without_records_stays_the_same_object(pool):
    tags = ["a"]
    got = through(pool, tuple[list[str], list[str]], (tags, tags))
    assert got[0] is got[1]


@pytest.mark.parametrize("n", [1, 70])
def test_many_at_once(pool, n):
    queue = pool.queue(type=Frame)
    sent = [frame(id=i, pose=Pose(float(i))) for i in range(n)]
    queue.put_many(sent)
    got = queue.get_many(n)
    assert len(got) == n
    assert all(map(is_equal, got, sent))


def test_each_way_to_receive_from_a_queue(pool):
    queue = pool.queue(type=Pose, redeliver=True)
    queue.put_many([Pose(float(i)) for i in range(4)])
    assert queue.get_nowait() == Pose(0.0)
    queue.task_done()
    message = queue.get_message()
    assert message.item == Pose(1.0)
    message.give_back()
    with queue.get_message() as message:
        assert message.redelivered
        assert message.item == Pose(1.0)
    queue.shutdown()
    assert list(queue) == [Pose(2.0), Pose(3.0)]


def test_a_typed_stream(pool):
    stream = pool.stream("poses", type=Pose)
    subscription = stream.subscribe()
    stream.publish(Pose(1.0))
    assert stream.latest() == Pose(1.0)
    assert subscription.get() == Pose(1.0)
    with pytest.raises(TypeError, match=r"stream 'poses': field 'x' must be float, not str"):
        stream.publish(Pose("1"))
    assert stream.published == 1


def test_writable_copies(pool):
    queue = pool.queue(type=Frame)
    queue.put(frame(image=pool.array(np.ones((4, 6, 3), np.uint8))))
    got = queue.get(copy="on_write")
    got.image[0, 0, 0] = 9


# ---------------------------------------------------------------------------------- what is refused


REFUSED = {
    "x": (Pose, Pose("1"), "field 'x' must be float, not str"),
    "missing": (Pose, Pose.__new__(Pose), "field 'x' is missing; it must be float"),
    "class": (Pose, {"x": 1.0}, "a message must be Pose, not dict"),
    "none": (Pose, None, "a message must be Pose, not None"),
    "nested": (Frame, frame(pose=Pose(1.0, None)), "field 'pose.y' must be float, not None"),
    "optional": (Frame, frame(pose=1), "field 'pose' must be Pose or None, not int"),
    "element": (Frame, frame(tags=["a", 1]), r"field 'tags[1]' must be str, not int"),
    "list": (Frame, frame(tags=("a",)), r"field 'tags' must be list[str], not tuple"),
    "shape": (
        Frame,
        frame(image=np.zeros((4, 5, 3), np.uint8)),
        "field 'image' must be uint8[4, 6, 3], not uint8[4, 5, 3]",
    ),
    "dimensions": (
        Frame,
        frame(image=np.zeros((4, 6), np.uint8)),
        "field 'image' must be uint8[4, 6, 3], not uint8[4, 6]",
    ),
    "dtype": (
        Frame,
        frame(image=np.zeros((4, 6, 3), np.int8)),
        "field 'image' must be uint8[4, 6, 3], not int8[4, 6, 3]",
    ),
    "no array": (Frame, frame(image=[1]), "field 'image' must be uint8[4, 6, 3], not list"),
    "byte order": (npt.NDArray[np.uint16], np.zeros(1, ">u2"), "in the other byte order"),
    "objects": (np.ndarray, np.zeros(1, object), "must be ndarray[...], not object[1]"),
    "kind": (npt.NDArray[np.floating], np.zeros(2, int), "must be floating[...], not int64[2]"),
    "metadata": (
        npt.NDArray[np.float64],
        np.zeros(1, np.dtype("f8", metadata={"a": 1})),
        "only pickle can describe a dtype with metadata",
    ),
    "aligned": (
        npt.NDArray[np.void],
        np.zeros(1, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        "only pickle can describe that dtype",
    ),
    "numpy's bool": (bool, np.bool_(True), "must be bool, not numpy.bool: bool(x) makes a bool"),
    "numpy's int": (int, np.int64(1), "must be int, not numpy.int64: int(x) makes an int"),
    "numpy's float": (float, np.float32(1), "must be float, not numpy.float32: float(x)"),
    "float for int": (int, 1.0, "must be int, not float"),
    "huge": (float, 10**400, "too large for a float"),
    "scalar": (np.float32, 1.0, "must be numpy.float32, not float"),
    "length": (tuple[int, str], (1,), "must be tuple[int, str], not a tuple of 1"),
    "tuple": (tuple[int, Pose], (1, Pose(None)), "field '[1].x' must be float, not None"),
    "key": (dict[str, int], {1: 1}, "field '[1]' must be str, not int"),
    "key's class": (dict[int, int], {True: 1}, "keys are of exactly that class"),
    "value": (dict[str, Pose], {"a": 1}, "field '['a']' must be Pose, not int"),
    "key missing": (Mapping, {"id": 1}, "field 'image' is missing"),
    "one key more": (Partial, {"id": 1, "nope": 2}, "has the key 'nope', which Partial does not"),
    "needed key": (Partial, {"note": "a"}, "field 'id' is missing; it must be int"),
    "absent's type": (Partial, {"id": 1, "note": 2}, "field 'note' must be str, not int"),
    "plain tuple": (Named, (1, np.zeros(1, np.uint8)), "a message must be Named, not tuple"),
    "subclass": (np.ndarray, np.ma.zeros(3), "np.asarray(x) makes a plain array"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("put", ["put", "put_many"])
def test_a_wrong_message_is_refused_before_anything_is_written(pool, case, put):
    kind, message, why = REFUSED[case]
    queue = pool.queue("frames", type=kind)
    before = pool.stats()
    with pytest.raises(TypeError) as raised:
        getattr(queue, put)(message if put == "put" else [message])
    assert str(raised.value).startswith("queue 'frames': ")
    assert why in str(raised.value)
    assert queue.empty()
    assert pool.stats() == before


def test_an_object_of_a_subclass_is_refused(pool):
    class More(Pose):
        pass

    with pytest.raises(TypeError, match="a subclass: it would arrive as the class itself"):
        pool.queue(type=Pose).put(More(1.0))


def test_messages_before_a_wrong_one_are_sent(pool):
    queue = pool.queue(type=int)
    with pytest.raises(TypeError):
        queue.put_many([1, 2, "3", 4])
    assert queue.get_many(9) == [1, 2]


def test_named_dimensions_are_the_same_in_one_message(pool):
    image = Annotated[npt.NDArray[np.uint8], Shape("height", "width")]
    queue = pool.queue(type=tuple[image, image])
    for size in (3, 4):
        queue.put((np.zeros((2, size), np.uint8), np.ones((2, size), np.uint8)))
        assert queue.get()[1].shape == (2, size)
    with pytest.raises(TypeError, match=r"uint8\[height, width\], not uint8\[2, 5\]"):
        queue.put((np.zeros((2, 4), np.uint8), np.zeros((2, 5), np.uint8)))


@pytest.mark.parametrize(
    ("shape", "fit", "other"),
    [
        (Shape(None, 3), [(0, 3), (9, 3)], [(3,), (3, 4), (1, 2, 3)]),
        (Shape(..., 3), [(3,), (1, 2, 3)], [(), (3, 4)]),
        (Shape(2, ..., 3), [(2, 3), (2, 9, 9, 3)], [(2,), (3, 2)]),
        (Shape("n", ..., "n"), [(2, 2), (3, 1, 3)], [(2, 3), (2,)]),
        (Shape(), [()], [(1,)]),
        (Shape(...), [(), (1, 2)], []),
    ],
)
def test_shapes(pool, shape, fit, other):
    queue = pool.queue(type=Annotated[npt.NDArray[np.float64], shape])
    for one in fit:
        queue.put(np.zeros(one))
        assert queue.get().shape == one
    for one in other:
        with pytest.raises(TypeError):
            queue.put(np.zeros(one))


def test_arrays_of_mapped_files_are_copied(pool, tmp_path):
    np.save(tmp_path / "array.npy", np.arange(1000))
    array = np.asarray(oc.open_array(tmp_path / "array.npy"))
    assert type(array) is np.ndarray
    queue = pool.queue(type=npt.NDArray[np.int64])
    queue.put(array)
    pairs = pool.queue(type=tuple[npt.NDArray[np.int64], int])
    pairs.put((array, 1))
    assert queue.get().tolist() == list(range(1000))
    assert pairs.get()[0].tolist() == list(range(1000))


def test_a_class_and_its_queue_can_refer_to_each_other(pool):
    @dataclass
    class Circle:
        id: int

    Circle.queue = pool.queue(type=Circle)
    Circle.stream = pool.stream(type=Circle)
    Circle.subscription = Circle.stream.subscribe()
    gone = weakref.ref(Circle)
    del Circle
    gc.collect()
    assert gone() is None


# ------------------------------------------------------------------------- what cannot be a type


class Cyclic(NamedTuple):
    next: "Cyclic | None"


@dataclass
class Computed:
    x: int


Computed.x = property(lambda self: 1, lambda self, value: None)


@dataclass
class OfDict(dict):
    x: int


@dataclass
class Deep:
    inner: "Inner"


@dataclass
class Inner:
    what: list[Any]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Any, "cannot be the type of a message"),
        (object, "object cannot be the type of a message"),
        (int | str, "is a union of several types"),
        (list, "list needs the type of its elements"),
        (set[int], "cannot be the type of a message"),
        (Cyclic, "field 'next': Cyclic contains itself"),
        (Computed, "field 'x': in Computed it is a property, which runs code"),
        (OfDict, "derived from dict, which is no class written in Python"),
        (namedtuple("Bare", "x y"), "field 'x': Bare has no annotation for it"),
        (Deep, r"field 'inner.what\[\]': Any cannot be the type"),
        (dict[Pose, int], "is no key of a dict in a message"),
        (npt.NDArray[np.object_], "is no dtype of an array"),
        (Annotated[int, Shape(3)], "is no array, and has neither shape nor dtype"),
        (np.ma.MaskedArray, "messages have plain arrays"),
        (Annotated[np.ndarray, np.dtype("O")], "has Python objects"),
        (oc.Queue, "Queue cannot be the type of a message"),
        ("Frame", "cannot be the type of a message"),
    ],
)
def test_what_cannot_be_a_type(pool, kind, why):
    with pytest.raises(TypeError, match=why) as raised:
        pool.queue("frames", type=kind)
    assert str(raised.value).startswith("Pool.queue() argument 'type': ")
    assert pool.stats().structures == 0


def test_a_class_in_a_function_with_names_that_are_only_there(pool):
    @dataclass
    class There:
        x: int

    @dataclass
    class Here:
        there: "There"

    with pytest.raises(TypeError, match="a class that is defined in a function is not"):
        pool.queue(type=Here)


@pytest.mark.parametrize("wrong", [(2.5,), ((480, 640),), (True,), (-1,), ("a b",), (..., ...)])
def test_wrong_shapes(wrong):
    with pytest.raises((TypeError, ValueError), match=r"Shape\(\)"):
        Shape(*wrong)


def test_shapes_are_values():
    assert Shape(1, "a", ...) == Shape(1, "a", ...) != Shape(1)
    assert len({Shape(1), Shape(1)}) == 1
    assert repr(Shape(1, None, "a", ...)) == "Shape(1, None, 'a', ...)"
    assert Shape(480).dimensions == (480,)
