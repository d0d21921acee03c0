"""The next messages of a queue, without taking them: what is shown, and that nothing is changed."""

import collections
import datetime as dt
import enum
import json
import os
import queue
import random
import re
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from children import LIMIT, eventually
from seeds import SEED, more
from stage import Stage
from terminals import COLOURS, onecopy_in_a_terminal

import onecopy as oc
from onecopy.cli import peek as command
from onecopy.observer import Peek, decoding, peeking


@dataclass
class Pose:
    x: float
    y: float


@dataclass
class Frame:
    id: int
    image: np.ndarray
    poses: list[Pose]
    note: str | None


class Color(enum.Enum):
    RED = 1


Point = collections.namedtuple("Point", "x y")
IMAGE = (np.add.outer(np.arange(480), np.arange(640)) % 200).astype("u1")


class Odd(list):
    """Only pickle knows it."""


class Runs:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def peek(pool, name="jobs", n=100):
    with oc.observe(pool) as observer:
        found = {each.name: each for each in observer.snapshot().queues}
    return found[name].peek(n)


SHOWN = [
    (None, "None"),
    (True, "True"),
    (7, "7"),
    (-5, "-5"),
    (10**50, str(10**50)),
    (1.5, "1.5"),
    (2j, "2j"),
    ("text", "'text'"),
    ("ż" * 40, repr("ż" * 40)),
    ("😀" * 40, repr("😀" * 40)),
    (b"bytes", "b'bytes'"),
    ("x" * 9000, f"<str of 9,000 bytes that begins with '{'x' * 40}'>"),
    (b"y" * 9000, f"<bytes of 9,000 bytes that begins with b'{'y' * 40}'>"),
    ((1, ("a", None)), "(1, ('a', None))"),
    ([1, {2}, {"a": [3.5]}], "[1, {2}, {'a': [3.5]}]"),
    (frozenset({1}), "frozenset({1})"),
    (IMAGE[:48, :64].copy(), "uint8 (48, 64), 0 to 110"),
    (IMAGE, "uint8 (480, 640), 0 to 199"),
    (np.asfortranarray(IMAGE), "uint8 (480, 640), 0 to 199"),
    (np.zeros((0, 4)), "float64 (0, 4)"),
    (np.zeros(4, [("a", "f4"), ("b", "i2")]), "record('a', 'b') (4,)"),
    (np.arange(4).astype(">i4"), "int32 (4,), 0 to 3"),
    (np.array(["ab", "c"]), "str64 (2,)"),
    ({"id": 7, "image": IMAGE}, "{'id': 7, 'image': <uint8 (480, 640), 0 to 199>}"),
    ({"id": 7, "few": np.arange(5)}, "{'id': 7, 'few': <int64 (5,), 0 to 4>}"),
    (np.int16(3), "3"),
    (Pose(1.0, 2.0), "Pose(x=1.0, y=2.0)"),
    ([Pose(1.0, 2.0)], "[Pose(x=1.0, y=2.0)]"),
    (Point(1, 2), "Point(1, 2)"),
    (Color.RED, "Color(1)"),
    (Odd([1]), "<pickled test_peek.Odd, "),
    ({"odd": Odd([1])}, "{'odd': <pickled, "),
    (dt.date(2024, 1, 2), "datetime.date(2024, 1, 2)"),
    (dt.timedelta(3), "datetime.timedelta(days=3)"),
    (uuid.UUID(int=5), "UUID('00000000-0000-0000-0000-000000000005')"),
    (memoryview(bytes(300)), "<memoryview uint8 (300,)>"),
]


@pytest.mark.parametrize(("value", "text"), SHOWN, ids=[text[:30] for _, text in SHOWN])
def test_what_is_shown(pool, value, text):
    channel = pool.queue("jobs")
    channel.put(value)
    channel.put("the next one")
    first, second = peek(pool).messages
    assert first.problem is None
    assert re.sub(r"^np\.int16\((3)\)$", r"\1", first.text).startswith(text)
    assert len(first.text) <= 200
    assert (first.position, second.position, second.text) == (0, 1, "'the next one'")
    assert channel.qsize() == 2
    taken = channel.get()
    assert type(taken) is type(value) or isinstance(value, np.ndarray)


def test_arrays_that_lie_in_the_pool(pool):
    channel = pool.queue("jobs")
    array = pool.array(IMAGE)
    channel.put(array[::2, ::3])
    channel.put({"a": array[1:3], "b": array})
    channel.put(pool.put([1, 2]))
    kept = pool.shared_array((3, 4), "f4")
    channel.put({"shared": kept})
    texts = [each.text for each in peek(pool).messages]
    assert texts[0] == "uint8 (240, 214), 0 to 199"
    assert texts[1] == "{'a': <uint8 (2, 640), 0 to 199>, 'b': <uint8 (480, 640), 0 to 199>}"
    assert texts[2].startswith("<a reference to an object of ")
    assert texts[3] == "{'shared': <float32 (3, 4), 0.0 to 0.0>}"


def test_the_picture_is_a_copy(pool):
    channel = pool.queue("jobs")
    channel.put({"id": 1, "image": IMAGE})
    (message,) = peek(pool).messages
    channel.get()
    pool.queue("jobs").put(np.zeros_like(IMAGE))
    assert (message.picture == IMAGE).all()


def test_a_typed_message_has_the_names_of_its_fields(pool):
    typed = pool.queue("jobs", type=Frame)
    typed.put(Frame(1, IMAGE, [Pose(1.0, 2.0)], None))
    (message,) = peek(pool).messages
    assert message.text == (
        "Frame(id=1, image=uint8 (480, 640), 0 to 199, poses=[Pose(x=1.0, y=2.0)], note=None)"
    )


def test_at_most_n_over_several_chunks(pool):
    channel = pool.queue("jobs")
    for number in range(200):
        channel.put(number)
    for _ in range(50):
        channel.get()
    assert [each.position for each in peek(pool, n=5).messages] == [50, 51, 52, 53, 54]
    assert [each.text for each in peek(pool, n=1000).messages] == [str(n) for n in range(50, 200)]
    assert peek(pool).taken == 0
    for n in (0, 1001, -1):
        with pytest.raises(ValueError, match="n must be from 1 to 1000"):
            peek(pool, n=n)


def test_an_empty_queue(pool):
    pool.queue("jobs")
    assert peek(pool) == Peek((), 0)


def test_messages_that_came_back_are_first(pool):
    channel = pool.queue("jobs", redeliver=True)
    for number in range(4):
        channel.put(number)
    taken = [channel.get_message() for _ in range(3)]
    taken[1].give_back() if hasattr(taken[1], "give_back") else taken[1].__exit__(
        ValueError, ValueError(), None
    )
    seen = [(each.text, each.redeliveries) for each in peek(pool).messages]
    assert seen == [("1", 1), ("3", 0)]


def test_nothing_is_unpickled(pool, tmp_path):
    channel = pool.queue("jobs")
    made = tmp_path / "made"
    channel.put(Runs(str(made)))
    channel.put([Runs(str(made))])
    texts = [each.text for each in peek(pool).messages]
    assert texts[0].startswith("<pickled")
    assert not made.exists()
    channel.get()
    assert made.exists()  # the test can fail


def test_nothing_is_changed(pool_directory):
    with Stage(max_processes=2) as stage:
        stage.enter("one", "q = pool.queue('jobs'); q.put({'a': 1}); q.put(bytes(5000)); idle()")
        stage.enter("two", "q = pool.queue('jobs'); idle()")  # no slot is free
        stage.stop("one").stop("two")
        path = Path(stage.observer.path)
        before = path.read_bytes(), path.stat().st_mtime_ns
        assert [each.text[:8] for each in peek(stage.name).messages] == ["{'a': 1}", "<bytes o"]
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before
        stage.kill("one").kill("two")
        assert len(peek(stage.name).messages) == 2
        assert path.read_bytes() == before[0]


TRAFFIC = """
import numpy as np
q = pool.queue('jobs')
q.put({'k': 0, 'a': np.zeros(40_000, int)})
ready()
number = 0
while True:
    number = (number + 1) % 100
    q.put({'k': number, 'a': np.full(40_000 + number, number)})
    q.get()
"""


def test_messages_that_are_taken_while_we_look_are_never_mixed():
    """All elements of an array are equal, and equal to the number beside it.

    The queue is never empty, and the memory of a message that was taken is used again at once.
    """
    with Stage(size="4MiB") as stage:
        stage.enter("traffic", TRAFFIC)
        view = stage.observer.snapshot().queues[0]
        found = [view.peek(8) for _ in range(300)]
        messages = [message for each in found for message in each.messages]
        for message in messages:
            assert message.problem is None
            text = re.fullmatch(
                r"{'k': (\d+), 'a': <int64 \((\d+),\), (\d+) to (\d+)>}", message.text
            )
            key, size, *numbers = map(int, text.groups())
            assert {*numbers, size - 40_000} == {key}
        assert messages
        eventually(lambda: view.peek(8).taken > 0, "a message that is taken meanwhile")


def test_a_queue_that_is_gone(pool):
    channel = pool.queue("jobs")
    channel.put(1)
    with oc.observe(pool) as observer:
        (view,) = observer.snapshot().queues
    pool.delete("jobs")
    channel.detach()
    del channel
    pool.collect()
    with pytest.raises(oc.OneCopyError, match="the queue is gone"):
        view.peek()


def test_another_pool_of_the_same_name():
    for number in range(2):
        with oc.Pool.create("camera", size="4MiB") as pool:
            kept = pool.queue("jobs")
            kept.put(number)
            if number == 0:
                with oc.observe("camera") as observer:
                    (view,) = observer.snapshot().queues
                assert [each.text for each in view.peek().messages] == ["0"]
            else:
                with pytest.raises(oc.OneCopyError, match="the queue is gone"):
                    view.peek()


def test_too_much_is_not_copied(pool, monkeypatch):
    channel = pool.queue("jobs")
    channel.put(IMAGE)
    channel.put({"id": 7, "image": IMAGE})
    channel.put("x" * 5000)
    channel.put(8)
    monkeypatch.setattr(peeking, "_BUDGET", 1000)
    texts = [each.text for each in peek(pool).messages]
    assert texts == [
        "<uint8 (480, 640), 307,200 bytes, too large to look at>",
        "{'id': 7, 'image': <uint8 (480, 640), 307,200 bytes, too large to look at>}",
        "<str of 5,000 bytes, too large to look at>",
        "8",
    ]


# ---- damaged and hostile ------------------------------------------------------------------------


def messages_of_all_kinds():
    """Return the raw bytes of sound messages."""
    with oc.Pool.create(size="32MiB") as pool:
        channel = pool.queue("jobs")
        for value, _ in SHOWN:
            channel.put(value)
        with oc.observe(pool) as observer:
            (view,) = observer.snapshot().queues
        source = view._source
        from onecopy import _native

        directory, filename = os.path.split(source.path)
        seen = _native.peek_queue(
            directory, filename, False, source.block, source.generation, 1000, 1 << 27
        )
        return [(each["bytes"], each["block"], each["children"]) for each in seen["messages"]]


@pytest.mark.seeded
def test_any_bytes_are_shown_or_refused():
    draw = random.Random(SEED)  # noqa: S311 - no secrets
    sound = messages_of_all_kinds()
    refused = 0

    def change(data):
        if not data or draw.random() < 0.3:
            return data
        made = bytearray(data)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(min(len(made), 400))
            made[at] = draw.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF, draw.randrange(256)])
        return bytes(made[: draw.randint(1, len(made))] if draw.random() < 0.2 else made)

    for _ in range(more(3000)):
        data, block, children = draw.choice(sound)
        if block is not None:
            content = change(block[1])
            block = len(content), content
        raw = {"position": 0, "sound": True, "redeliveries": 0, "bytes": change(data)}
        message = peeking._message(raw | {"block": block, "children": children}, None)
        assert (message.problem is None) != (message.text == "")
        assert message.problem is None or "cannot be shown" not in message.problem
        refused += message.problem is not None
    assert refused > 500


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x12",
        b"\x08\xff",
        b"\x08\x01" * 116,
        b"\x10\x02\x00\x00\x00" + b"\x10\x01" * 110,
        b"\x10\x02\x00\x00\x00\x90\x01\x15\x00",
        b"\x10\x02\x00\x00\x00\x0f\xff" + b"\xff" * 8,
        b"\x10\x02\x00\x00\x00\x93\x01\x15\x00\x15\x00",
        b"\x09\x00\x07\x01\x02" + bytes(8) + b"\xff" * 7 + b"\x1f" + bytes(8),
        b"\x09\x00\x07\x20\x00" + bytes(8) + b"\x01" * 200,
        b"\x10\x02\x00\xff" + b"\xff" * 8 + b"\x00",
    ],
)
def test_messages_that_an_enemy_could_write(data):
    """Short ones, deep ones, ones that contain themselves, huge shapes."""
    try:
        value = decoding.decode(data, (16, bytes(16)), ())
    except ValueError as error:
        assert str(error).startswith("its bytes make no sense")  # noqa: PT017 - or it is shown
    else:
        assert repr(value)


def test_a_large_array_of_few_bytes_is_not_looked_at():
    shape = (1 << 55).to_bytes(8, "little")
    data = b"\x09\x00\x07\x01\x02" + bytes(8) + shape + bytes(8)
    value = decoding.decode(data, (16, bytes(16)), ())
    assert "too large to look at" in repr(value)


# ---- the command --------------------------------------------------------------------------------


def onecopy(*arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "onecopy.cli", "peek", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
        env=os.environ | {"PYTHONUTF8": "1"},
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def test_the_command():
    with oc.Pool.create("camera", size="8MiB") as pool:
        channel = pool.queue("jobs")
        channel.put({"id": 7})
        channel.put("\x1b[31m")
        channel.put(IMAGE)
        text = onecopy("camera/jobs")
        assert text == (
            "     0  {'id': 7}\n     1  '\\x1b[31m'\n     2  uint8 (480, 640), 0 to 199\n"
        )
        assert onecopy("--pool", "camera", "jobs", "-n", "1") == "     0  {'id': 7}\n"
        drawn = onecopy("camera/jobs", "--pictures").splitlines()
        assert len(drawn) == 3 + 16
        assert max(map(len, drawn)) <= 60
        found = json.loads(onecopy("camera/jobs", "--json"))
        assert found["queue"] == "jobs"
        assert found["taken"] == 0
        assert found["messages"][0]["text"] == "{'id': 7}"
        assert channel.qsize() == 3
        for _ in range(3):
            channel.get()
        with pytest.raises(queue.Empty):
            channel.get(timeout=0)
        assert onecopy("camera/jobs") == "The queue jobs is empty.\n"


def test_the_command_draws_pictures_on_a_terminal():
    with oc.Pool.create("camera", size="8MiB") as pool:
        pool.queue("jobs").put({"z": 1, "a": IMAGE})
        lines = onecopy_in_a_terminal("peek", "camera/jobs")
        assert lines[0] == "     0  {'z': 1, 'a': <uint8 (480, 640), 0 to 199>}"
        assert len(lines) == 1 + 16
        coloured = onecopy_in_a_terminal("peek", "camera/jobs", COLORTERM="truecolor")
        assert sum(COLOURS in line for line in coloured) == 16
        assert len(onecopy_in_a_terminal("peek", "camera/jobs", "--no-pictures")) == 1


def test_the_command_says_what_was_taken(pool, capsys):
    channel = pool.queue("jobs")
    channel.put(1)
    with oc.observe(pool) as observer:
        (view,) = observer.snapshot().queues
    command._print(view, Peek((), 3), pictures=False)
    assert capsys.readouterr().out == "3 taken while we looked\n"


def test_the_command_names_the_queues_that_there_are():
    with oc.Pool.create("camera", size="8MiB") as pool:
        pool.queue("jobs").put(1)
        assert "Its queues: jobs" in onecopy("camera/other", code=1)
        assert "does not say which pool: write POOL/QUEUE" in onecopy("jobs", code=2)
