"""The schema of a typed channel, for people: `onecopy inspect` and `show`, sound and damaged."""

import json
import mmap
import os
import random
import struct
import subprocess
import sys
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pytest
from children import LIMIT
from seeds import SEED

import onecopy as oc
from onecopy import inspect
from onecopy._core.kinds import Kind
from onecopy._native import QueueBase


@dataclass
class Pose:
    x: float
    y: float


@dataclass
class Frame:
    id: int
    image: Annotated[npt.NDArray[np.uint8], oc.Shape(480, 640, 3)]
    poses: list[Pose]
    note: str | None


FRAME = "Frame(id: int, image: uint8[480, 640, 3], poses: list[Pose], note: str | None)"
FIELDS = {
    "id": "int",
    "image": "uint8[480, 640, 3]",
    "poses": "list[Pose]",
    "poses[].x": "float",
    "poses[].y": "float",
    "note": "str | None",
}


def output(*arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "onecopy.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
        env=os.environ | {"PYTHONUTF8": "1"},
    )
    assert (done.stderr, done.returncode) == ("", code)
    return done.stdout


def schemas(pool):
    """Return the schemas that `inspect_pool` and an observer see, by the channels' names."""
    things = inspect.inspect_pool(pool.member.path, validate=False).things
    inspected = {thing.name: thing.schema for thing in things}
    with oc.observe(pool) as observer:
        seen = observer.snapshot()
    observed = {channel.name: channel.schema for channel in (*seen.queues, *seen.streams)}
    return inspected, observed


@pytest.mark.parametrize("make", [oc.Pool.queue, oc.Pool.stream])
def test_the_fields_are_shown(pool, make):
    make(pool, "frames", type=Frame)
    make(pool, "ids", type=int)
    make(pool, "any")
    make(pool, None, type=Pose)  # it is gone: nobody has it
    kept = make(pool, type=Pose)
    for found in schemas(pool):
        assert found["frames"] == inspect.SchemaView(FRAME, FIELDS, None)
        assert found["ids"] == inspect.SchemaView("int", {"(message)": "int"}, None)
        assert found["any"] is None
        assert found[None].type == kept.schema == "Pose(x: float, y: float)"


def test_the_commands_show_it():
    with oc.Pool.create("camera", size="8MiB") as pool:
        pool.queue("frames", type=Frame)
        pool.stream("ids", type=int)
        text = output("inspect", "camera")
        assert "queue frames has messages of the type Frame:\n  id         int\n" in text
        assert "  poses[].x  float\n" in text
        assert "stream ids has messages of the type int\n" in text
        things = json.loads(output("inspect", "camera", "--json"))["things"]
        frames = next(each["schema"] for each in things if each["name"] == "frames")
        assert frames == {"type": FRAME, "fields": FIELDS, "problem": None}
        text = output("show", "camera", "--seconds", "0")
        assert "Frame(id: int, image: uint8[480…\n" in text
        (queue,) = json.loads(output("show", "camera", "--seconds", "0", "--json"))["queues"]
        assert queue["schema"] == frames


def test_a_pool_without_types_has_no_column_for_them(pool):
    pool.queue("any")
    assert "type" not in output("show", pool.name or pool.member.path, "--seconds", "0")


def test_a_long_schema_is_cut():
    """Names of fields may be of any letters; the whole text is in the JSON."""
    wide = "ż" * 200
    many = make_dataclass("Many", [(wide, int), *((f"field_{i}", float) for i in range(50))])
    with oc.Pool.create("camera", size="8MiB") as pool:
        pool.queue("many", type=many)
        lines = output("inspect", "camera").splitlines()
        at = lines.index("queue many has messages of the type Many:")
        assert lines[at + 1] == f"  {'ż' * 29}…  int"
        assert lines[at + 21] == "  … and 31 more"
        assert max(map(len, lines[at : at + 22])) <= 100
        assert f"{wide}: int" in output("inspect", "camera", "--json").encode().decode(
            "unicode_escape"
        )


def forge(pool, name, text):
    """Make a queue with any text as its schema; the hash is right."""
    forged = QueueBase.__new__(QueueBase)
    QueueBase.__init__(forged, None, pool.member, 4, False, text)
    pool.member.name_set(Kind.QUEUE, name, forged, True)


MADE_UP = [
    b"[" * 500,
    b'{"list":' * 33 + b'"int"' + b"}" * 33,
    b"12",
    b"null",
    b"\xff\xfe",
    b'{"array":{"dtype":"O"}}',
    b'{"array":{"dtype":"__import__(1)"}}',
    b'{"array":{"dtype":"a5"}}',
    b'{"array":{"dtype":"[' + b"[" * 5000 + b'"}}',
    b'{"array":"uint8","shape":[99999999999999999999999]}',
    b'{"record":"A","fields":[["x"]]}',
    b"1" * 60_000,
    b"not\njson\x1b[31m",
]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("text", MADE_UP, ids=[repr(text[:20]) for text in MADE_UP])
def test_a_schema_that_another_process_made_up(text):
    with oc.Pool.create("camera", size="8MiB") as pool:
        forge(pool, "forged", text)
        for found in schemas(pool):
            schema = found["forged"]
            if schema.problem is not None:  # numpy knows some old words, for example "a5"
                assert schema.type is None
                assert schema.problem.startswith("its schema makes no sense: ")
        text = output("inspect", "camera")
        lines = [line for line in text.splitlines() if line.startswith("queue forged")]
        assert len(lines) == 1
        assert len(lines[0]) <= 100
        assert text.isprintable() or set(text) - {"\n"} == set(text.replace("\n", ""))
        assert "\x1b" not in text + output("show", "camera", "--seconds", "0")


def test_names_in_a_schema_are_escaped():
    fields = [["\x1b[31mred\n", "int"]]
    with oc.Pool.create("camera", size="8MiB") as pool:
        forge(pool, "red", json.dumps({"record": "\x07", "fields": fields}).encode())
        text = output("inspect", "camera")
        assert "queue red has messages of the type \\x07:\n  \\x1b[31mred\\n  int\n" in text


def spoil(pool, change):
    """Change the body of the only typed queue; `change` gets the memory and where the text is."""
    with Path(pool.member.path).open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        change(memory, memory.find(b'{"record":"Pose"'))


def test_damaged_bytes_are_one_line():
    with oc.Pool.create("camera", size="8MiB") as pool:
        pool.queue("poses", type=Pose)

        def change(memory, at):
            memory[at + 11] ^= 1

        spoil(pool, change)
        for found in schemas(pool):
            assert found["poses"] == inspect.SchemaView(None, {}, "its schema is damaged")
        text = output("inspect", "camera")
        assert text.count("queue poses: its schema is damaged\n") == 1
        assert "Broken invariants:" in output("inspect", "camera", "--validate", code=1)
        assert "its schema is damaged" in output("show", "camera", "--seconds", "0")


@pytest.mark.parametrize("length", [1, 65_536, 65_537, 2**32 - 1])
def test_a_length_that_cannot_be(length):
    """The text would end behind the block, or is too long: nothing behind it is read."""
    with oc.Pool.create("camera", size="8MiB") as pool:
        pool.queue("poses", maxsize=4, type=Pose)

        def change(memory, at):
            body = memory.rfind(b"ocqueue1", 0, at)
            struct.pack_into("<I", memory, body + 40, length)  # schema_bytes

        spoil(pool, change)
        inspected, observed = schemas(pool)
        if length == 1:
            assert inspected["poses"].problem == observed["poses"].problem
            assert observed["poses"].problem == "its schema is damaged"
        else:
            assert inspected["poses"].problem == "its fixed fields make no sense"
            assert observed["poses"] is None
        output("inspect", "camera")
        output("inspect", "camera", "--validate", code=1)


@pytest.mark.seeded
def test_changed_bytes_are_a_problem_or_a_type():
    """Also with the right hash: the text is what an enemy could write."""
    draw = random.Random(SEED)  # noqa: S311 - no secrets
    with oc.Pool.create("camera", size="32MiB") as pool:
        sound = pool.queue("frames", type=Frame)._schema
        for number in range(200):
            text = bytearray(sound)
            for _ in range(draw.randint(1, 4)):
                at = draw.randrange(len(text))
                text[at : at + draw.randint(0, 3)] = draw.randbytes(draw.randint(0, 3))
            forge(pool, f"damaged{number}", bytes(text) or b" ")
        inspected, observed = schemas(pool)
        assert inspected == observed
        assert len(inspected) == 201
        for schema in inspected.values():
            assert (schema.type is None) == (schema.problem is not None) == (not schema.fields)
        assert sum(schema.type is None for schema in inspected.values()) > 100
