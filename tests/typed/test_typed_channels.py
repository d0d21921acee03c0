"""Typed channels between processes: the schema in the pool, and openers that agree or do not."""

import mmap
import pickle
import re
import sys
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, NamedTuple, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
import pytest
from children import eventually
from messages_typed import Frame, Image, Partial, Pose, Slotted, everything, is_equal

import onecopy as oc
from onecopy import Shape

OTHERS = 0o666


@pytest.fixture(params=["queue", "stream"])
def kind(request):
    return request.param


def opened(pool, kind, **options):
    return getattr(pool, kind)("frames", **options)


# ------------------------------------------------------------------------------------- agreement


def test_the_schema_as_text(pool, kind):
    assert opened(pool, kind, type=Frame).schema == (
        "Frame(id: int, image: uint8[4, 6, 3], pose: Pose | None, tags: list[str])"
    )
    assert pool.queue().schema is None
    assert pool.stream().schema is None
    assert pool.queue(type=Partial).schema == "Partial(id: int, note?: str)"
    assert pool.validate() == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax came with Python 3.12")
def test_aliases_with_parameters(pool):
    """numpy's `NDArray` is one since numpy 2.5."""
    names = {"np": np, "npt": npt}
    exec(  # noqa: S102 - older versions cannot read it
        "type Image = npt.NDArray[np.uint8]\n"
        "type Same[T] = T\n"
        "type Swapped[A, B] = dict[B, A]\n"
        "type Pixels[T: np.generic] = np.ndarray[tuple[int, int], np.dtype[T]]\n"
        "type Always[T] = int\n",
        names,
    )
    image, same, swapped, pixels, always = (
        names[each] for each in ("Image", "Same", "Swapped", "Pixels", "Always")
    )
    for alias, plain in (
        (image, npt.NDArray[np.uint8]),
        (same[int], int),
        (same[image], npt.NDArray[np.uint8]),
        (swapped[float, str], dict[str, float]),
        (pixels[np.uint8], np.ndarray[tuple[int, int], np.dtype[np.uint8]]),
        (always[str], int),
        (list[same[int]], list[int]),
    ):
        said = pool.queue(type=make_dataclass("Message", [("a", alias)])).schema
        assert said == pool.queue(type=make_dataclass("Message", [("a", plain)])).schema


def test_the_same_type_again(pool, kind):
    opened(pool, kind, type=Frame)
    assert opened(pool, kind, type=Frame).schema == opened(pool, kind).schema


class AsTuple(NamedTuple):
    id: int
    image: npt.NDArray[np.uint8]


class AsDict(TypedDict):
    id: int
    image: npt.NDArray[np.uint8]


@pytest.mark.parametrize("sender", [AsTuple, AsDict, Slotted])
@pytest.mark.parametrize("receiver", [AsTuple, AsDict, Slotted])
def test_the_kind_and_the_name_of_the_class_do_not_count(pool, sender, receiver):
    pool.queue("frames", type=sender).put(sender(id=1, image=np.ones(2, np.uint8)))
    got = pool.queue("frames", type=receiver).get()
    assert type(got) is (dict if receiver is AsDict else receiver)
    assert (got["id"] if isinstance(got, dict) else got.id) == 1


def other_frame(**changed):
    fields = {"id": int, "image": Image, "pose": Pose | None, "tags": list[str], **changed}
    return make_dataclass("Frame", [(name, of) for name, of in fields.items() if of is not None])


DIFFERENT = {
    "type": (other_frame(id=float), [("id", "int", "float", "differs")]),
    "shape": (
        other_frame(image=Annotated[npt.NDArray[np.uint8], Shape(4, 7, 3)]),
        [("id", "int", "int"), ("image", "uint8[4, 6, 3]", "uint8[4, 7, 3]", "differs")],
    ),
    "missing": (other_frame(tags=None), [("tags", "list[str]", "—", "differs")]),
    "more": (other_frame(score=float), [("score", "—", "float", "differs")]),
    "nested": (
        other_frame(pose=make_dataclass("Pose", [("x", float), ("y", int)]) | None),
        [("pose.x", "float", "float"), ("pose.y", "float", "int", "differs")],
    ),
    "absent": (
        TypedDict("Frame", {"id": NotRequired[int]}),
        [("id", "int", "int (may be absent)", "differs")],
    ),
    "no record": (int, [("(message)", "—", "int", "differs"), ("id", "int", "—", "differs")]),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_another_type_gets_both_field_by_field(pool, kind, case):
    other, rows = DIFFERENT[case]
    opened(pool, kind, type=Frame)
    before = pool.stats().used
    with pytest.raises(oc.OneCopyError) as raised:
        opened(pool, kind, type=other)
    text = str(raised.value)
    assert text.startswith(f"{kind} 'frames' exists with messages of another type:\n")
    table = [tuple(re.split(r"\s{2,}", line.strip())) for line in text.splitlines()]
    assert ("field", "in the pool", "in this call") in table
    assert set(rows) <= set(table)
    assert pool.stats().used == before


def test_another_order(pool):
    pool.queue("frames", type=make_dataclass("A", [("x", int), ("y", float)]))
    with pytest.raises(oc.OneCopyError, match="another order, from 'x' on"):
        pool.queue("frames", type=make_dataclass("A", [("y", float), ("x", int)]))


def test_a_type_for_a_channel_without_one(pool, kind):
    opened(pool, kind)
    with pytest.raises(oc.OneCopyError, match="exists without a type, so it may contain messages"):
        opened(pool, kind, type=Frame)
    pool.delete("frames", kind)
    assert opened(pool, kind, type=Frame).schema is not None


def test_an_opener_without_a_type_gets_dicts_and_is_checked(pool):
    typed = pool.queue("frames", type=Frame)
    plain = pool.queue("frames")
    image = np.ones((4, 6, 3), np.uint8)
    typed.put(Frame(1, image, Pose(2.0), ["a"]))
    got = plain.get()
    assert list(got) == ["id", "image", "pose", "tags"]
    assert (got["id"], got["pose"], got["tags"]) == (1, {"x": 2.0, "y": 0.0}, ["a"])
    plain.put({"id": 2, "image": image, "pose": None, "tags": []})
    assert is_equal(typed.get(), Frame(2, image))
    with pytest.raises(TypeError, match=r"field 'pose\.x' must be float, not str"):
        plain.put({"id": 2, "image": image, "pose": {"x": "1", "y": 2.0}, "tags": []})
    with pytest.raises(TypeError, match="a message must be Frame, not Frame"):
        plain.put(Frame(1, image))


def test_an_opener_without_a_type_sees_every_kind_of_field(pool):
    typed, plain = pool.queue("all", type=type(everything())), pool.queue("all")
    typed.put(everything())
    got = plain.get()
    plain.put(got)
    assert is_equal(typed.get(), everything())


# ------------------------------------------------------------------------------ between processes


def answer(pool_name):
    pool = oc.Pool.open(pool_name)
    frame = pool.queue("frames", type=Frame).get()
    pool.queue("poses", type=Pose).put(Pose(float(frame.id), float(frame.image.sum())))


def say_what_is_wrong(pool_name):
    pool = oc.Pool.open(pool_name)
    try:
        pool.queue("frames", type=Slotted)
    except oc.OneCopyError as error:
        pool.queue("errors").put(str(error))


def test_a_process_that_is_no_relative(start, method):
    with oc.Pool.create("camera", size="8MiB") as pool:
        frames, poses = pool.queue("frames", type=Frame), pool.queue("poses", type=Pose)
        frames.put(Frame(3, np.ones((4, 6, 3), np.uint8)))
        process = start(method, answer, "camera")
        assert poses.get(timeout=60) == Pose(3.0, 72.0)
        assert process.wait() == 0
        process = start(method, say_what_is_wrong, "camera")
        assert process.wait() == 0
        text = pool.queue("errors").get()
        assert "uint8[4, 6, 3]" in text
        assert "uint8[...]" in text


def echo(frames, poses):
    for frame in frames:
        poses.publish(Pose(float(frame.id)))


def test_channels_are_sent_with_their_type(start, method):
    with oc.Pool.create("camera", size="8MiB") as pool:
        frames, poses = pool.queue(type=Frame), pool.stream(type=Pose)
        subscription = poses.subscribe()
        process = start(method, echo, frames, poses)
        frames.put(Frame(3, np.ones((4, 6, 3), np.uint8)))
        frames.shutdown()
        assert subscription.get(timeout=60) == Pose(3.0)
        assert process.wait() == 0


def test_pickled_and_back(pool, kind):
    channel = opened(pool, kind, type=Pose)
    again = pickle.loads(pickle.dumps(channel))
    assert again._typed.annotation is Pose
    dicts = pickle.loads(pickle.dumps(opened(pool, kind)))
    assert dicts.schema == again.schema == "Pose(x: float, y: float)"


def make_and_wait(pool_name, ready):
    pool = oc.Pool.open(pool_name)
    pool.queue("frames", type=Pose).put(Pose(1.0))
    pool.queue("ready").put(True)
    pool.queue("never").get()


def test_the_schema_outlives_the_process_that_made_the_queue(start, method):
    with oc.Pool.create("camera", size="8MiB") as pool:
        process = start(method, make_and_wait, "camera", None)
        assert pool.queue("ready").get(timeout=60)
        process.kill()
        eventually(lambda: pool.collect() >= 0 and pool.validate() == [], "a sound pool")
        assert pool.queue("frames").schema == "Pose(x: float, y: float)"
        assert pool.queue("frames", type=Pose).get() == Pose(1.0)


# ------------------------------------------------------------------ what others could have written


def test_a_pool_that_others_may_write_passes_typed_messages():
    with oc.Pool.create("camera", size="16MiB", mode=OTHERS) as pool:
        queue = pool.queue("all", type=type(everything()))
        queue.put(everything())
        assert is_equal(queue.get(), everything())
        frames = pool.queue(type=Frame)
        frames.put(Frame(1, pool.array(np.ones((4, 6, 3), np.uint8))))
        assert frames.get().image.sum() == 72


def write_untyped(queue, message):
    """Put a message into a typed queue, as a process does that does not keep to the type."""
    from onecopy._native import QueueBase

    other = QueueBase.__new__(QueueBase)
    QueueBase.__init__(other, queue.member.hold(queue.handle), queue.member, 0, False)
    other.put(message)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (1, "it must be Pose, not int"),
        ((1.0,), "it must be Pose, not tuple"),
        ((1.0, 2), "field 'y' must be float, not int"),
        (Pose(1.0), "it has a part that runs code when it is read"),
        (range(3), "it has a part that runs code when it is read"),
        ([range(3)] * 1000, "it has a part that runs code when it is read"),
        ((1.0, range(3)), "it has a part that runs code when it is read"),
        ((1.0, np.zeros(3)), r"field 'y' must be float, not float64\[3\]"),
    ],
)
def test_a_receiver_refuses_what_does_not_fit(pool, message, why):
    queue = pool.queue("poses", type=Pose)
    write_untyped(queue, message)
    with pytest.raises(oc.PoolCorrupted, match=f"queue 'poses': a message does not fit .*: {why}"):
        queue.get()
    queue.put(Pose(1.0))
    assert queue.get() == Pose(1.0)
    assert pool.validate() == []


def test_a_list_that_contains_itself_and_one_that_is_there_twice(pool):
    queue = pool.queue(type=list[list[list[int]]])
    circle = []
    circle.append(circle)
    write_untyped(queue, circle)
    with pytest.raises(oc.PoolCorrupted, match=r"field '\[0\]\[0\]\[0\]' must be int, not list"):
        queue.get()
    twice = [(1.0, 2.0)]
    poses = pool.queue(type=tuple[list[Pose], list[Pose]])
    write_untyped(poses, (twice, twice))
    first, second = poses.get()
    assert first == second == [Pose(1.0, 2.0)]


@dataclass
class Marked:
    """Its name is found in the memory of the pool."""

    x_of_marked: int


def damage_schema(pool, text):
    """Write over the schema of `Marked`, where it lies in the body of the queue."""
    with Path(pool.member.path).open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        at = memory.find(b'{"record":"Marked"')
        memory[at : at + len(text)] = text


@pytest.mark.parametrize(
    "text",
    [
        b'{"record":"Narked"',
        b"\xff",
        b"[" * 18,
        b"1",
    ],
)
def test_a_damaged_schema(text):
    with oc.Pool.create("camera", size="8MiB") as pool:
        pool.queue("marked", type=Marked)
        damage_schema(pool, text)
        assert any("its schema is damaged" in line for line in pool.validate())
        with pytest.raises(oc.PoolCorrupted):
            pool.queue("marked")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 500,
        '{"list":' * 33 + '"int"' + "}" * 33,
        '"nope"',
        "12",
        "null",
        '{"array":"object_"}',
        '{"array":{"dtype":"O"}}',
        '{"array":{"dtype":"[(\'a\',\'O\')]"}}',
        '{"array":{"dtype":"__import__(1)"}}',
        '{"array":"uint8","shape":[-1]}',
        '{"array":"uint8","shape":[99999999999999999999999]}',
        '{"array":"uint8","shape":["...","..."]}',
        '{"array":"uint8","more":1}',
        '{"scalar":"object_"}',
        '{"record":"A","fields":[["x","int"],["x","int"]]}',
        '{"record":"A","fields":[["x"]]}',
        '{"dict":["int"]}',
        "{}",
        "not json",
    ],
)
def test_a_schema_that_another_process_made_up(pool, text):
    """Its hash is right."""
    from onecopy._native import QueueBase

    forged = QueueBase.__new__(QueueBase)
    QueueBase.__init__(forged, None, pool.member, 4, False, text.encode())
    from onecopy._core.kinds import Kind

    pool.member.name_set(Kind.QUEUE, "forged", forged, True)
    with pytest.raises(oc.PoolCorrupted, match="the schema in the pool makes no sense"):
        pool.queue("forged")
    with pytest.raises(oc.PoolCorrupted, match="the schema in the pool makes no sense"):
        pool.queue("forged", type=Pose)
    assert pool.validate() == []


def test_a_schema_that_is_too_long(pool):
    wide = make_dataclass("Wide", [(f"field_{i}_{'x' * 100}", int) for i in range(600)])
    with pytest.raises(TypeError, match=r"its schema has .* bytes, and a pool takes 65536"):
        pool.queue("wide", type=wide)
