"""Damaged containers: objects that were put, each damaged often where it lies in the pool."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import mmap
import random
import struct
import uuid
import zoneinfo
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import messages
import numpy as np
import segments

BATCH = 5000  # rounds in one child
ENVELOPE = 256  # bytes; a block's own message lies behind
HEAD = struct.Struct("<BBHIIIQ")


EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
WEST = dt.timezone(dt.timedelta(days=-1, seconds=7, microseconds=9), "a name")


class Point(NamedTuple):
    """A named tuple."""

    x: object
    y: object = 0


class Colour(enum.Enum):
    """An enum."""

    RED = "red"


class Plain:
    """An object with attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


@dataclasses.dataclass(slots=True)
class Slots:
    """An object with slots."""

    a: object
    b: object = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """One that says what its state is."""

    a: object
    b: object = None


STRUCTS, FRAMES = [], []
try:
    import msgspec
except ImportError:
    pass
else:

    class Struct(msgspec.Struct):
        """One that is made by a call."""

        a: object
        b: object = None

    class ByName(msgspec.Struct, kw_only=True):
        """One whose fields have names."""

        a: object

    STRUCTS = [Struct(1, Struct([2])), ByName(a={"b": 2})]
try:
    import pandas as pd
except ImportError:
    pass
else:
    NUMBERS = np.arange(30)
    FRAMES = [
        pd.DataFrame({"a": NUMBERS, "b": NUMBERS / 2, "c": NUMBERS}),
        pd.DataFrame(np.zeros((300, 3)), index=np.arange(300) * 2),
        # No words: they are pickled. A damaged pickle may call any function with any arguments, and
        # pyarrow and numpy do not survive all of these.
        pd.DataFrame({"t": pd.date_range("2020", periods=9), "n": NUMBERS[:9]}),
    ]


def items(pool):
    """Give what is put: every kind of node, alone and among others, in a slot and in a block."""
    shared, text = [1], "a text that is met again and again, which is long"
    circle = [shared, {"shared": shared, "text": text}, (text, shared)]
    circle.append(circle)
    key = ("key", (1, frozenset([2])))
    array, there = np.arange(3.0), pool.array(np.arange(100))
    plain = [
        [None, True, False, 1, -300, 1 << 40, 2**100, 2.5, 1j],
        ["", "ä", "€€", "😀", "\ud800", b"bytes", bytearray(b"array"), text],
        {"set": {1, "a", (2,)}, "frozen": frozenset([b"x"]), "dict": {1: {2: {3: {}}}}},
        circle,
        [{key: 1}, {key: 2}, key],
        [np.float32(1), np.int8(2), np.bool_(1), np.longdouble(3), np.complex64(1)],
        [np.datetime64("2020-01-01"), np.timedelta64(5, "h")],
        [array, array, np.zeros((2, 0, 3)), np.asfortranarray(np.ones((2, 3), ">i2"))],
        {"image": there, "id": 7},
        [there, there[::2], pool.array(np.ones(5)), np.arange(2000)],
        [np.zeros(2, [("x", "i4"), ("y", "f8", (2,))]), np.array(["2020"], "M8[Y]")],
        [dt.date(2024, 2, 29), dt.time(1, 2, 3), dt.timedelta(-1, 2, 3)],
        [dt.datetime.now(dt.UTC), decimal.Decimal("1.5"), uuid.UUID(int=7)],
        [dt.datetime(2024, 1, 2, tzinfo=EAST), dt.time(1, tzinfo=EAST), EAST, WEST],
        [pool.shared_array(10), {"shared": pool.shared_array((4, 500))}],
        [Path("/a/b"), Path("//x/./y/"), PurePosixPath("z"), text * 10, {"n": list(range(200))}],
        {f"key {i}": (i, [i * 1000, "x" * i]) for i in range(40)},
    ]
    deep = "bottom"
    for _ in range(90):
        deep = [deep]
    plain.append(deep)
    coded = [
        [Point(1, [Point(2)]), Colour.RED, Plain(a=1, b=[Plain()])],
        {Point(1): Colour.RED, "many": [Plain(x=i) for i in range(20)]},
        [range(3), {"a": text, "b": [text, range(3)]}],
        [Slots(1, [Slots(2)]), {Frozen(1): Frozen((2,), "x")}],
        [dt.datetime(2024, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC"))],
        *[[struct, {"again": struct}] for struct in STRUCTS],
        *[{"frame": frame, "more": [frame, frame.index]} for frame in FRAMES],
        *FRAMES,
    ]
    return plain, coded


class Target:
    """One object in a pool, and what its message was."""

    def __init__(self, rig, item):
        self.item = item
        self.reference = rig.pool.put(item)
        self.at = rig.data_of(self.reference.handle)
        length = int.from_bytes(rig.read(self.at, 4), "little")
        tag = rig.read(self.at + 16, 1)[0]
        self.in_block = tag == messages.TAG_PACKED_BLOCK
        self.start, size = self.at + 16, length
        if self.in_block:
            self.start = self.at + ENVELOPE
            _, _, _, children, buffers, _, body = HEAD.unpack(rig.read(self.start, HEAD.size))
            size = HEAD.size + 24 * buffers + 8 * children + body
        self.sound = rig.read(self.start, size)


def spoil(numbers, sound, others):
    """Spoil bytes: some of them, or parts moved, repeated, or taken from another message."""
    data = bytearray(sound)
    way = numbers.random()
    if way < 0.6:
        return messages.spoil(data, numbers)
    at, n = numbers.randrange(len(data)), numbers.choice([1, 1, 2, 3, 8, 20])
    if way < 0.7:  # what follows moves up
        data[at:-n] = data[at + n :]
    elif way < 0.8:
        data[at + n :] = data[at:-n]
    else:
        other = numbers.choice(others).sound
        start = numbers.randrange(len(other))
        part = other[start : start + n]
        data[at : at + len(part)] = part
    return bytes(data[: len(sound)].ljust(len(sound), b"\0"))


def batch(rounds, seed, mode, last):
    """Run some rounds in this process; `last` keeps the one that is under way."""
    numbers = random.Random(seed)  # noqa: S311 - reproducible
    rig = messages.Rig(mode)
    plain, coded = items(rig.pool)
    targets = [Target(rig, item) for item in (plain + coded if rig.trusted else plain)]
    for i in range(rounds):
        target = numbers.choice(targets)
        spoilt = spoil(numbers, target.sound, targets)
        last.seek(0)
        last.write(spoilt[:4000].ljust(4000, b"\0"))
        rig.write(target.start, spoilt)
        rig.open(target.reference, target.at + 16, check=i % 100 == 0, show=i % 8 == 0)
        rig.write(target.start, target.sound)
    for target in targets:  # as they were, they can still be read
        messages.touch(target.reference.get()) if rig.trusted else None
        target.reference.release()
    del target, targets
    rig.close()


def campaign(_directory, rounds, seed):
    """Run rounds; give how many, 0, and the failures."""
    failures = []
    last = mmap.mmap(-1, 4096)
    done = 0
    for i in range(0, rounds, BATCH):
        n = min(BATCH, rounds - i)
        mode = 0o600 if i // BATCH % 2 else 0o666
        problem = segments.in_child(batch, n, seed + i, mode, last)
        done += n
        if problem is not None:
            text = last[:4000].rstrip(b"\0").hex()
            failures.append(f"{problem} (mode {mode:o}, seed {seed + i}, {text})")
    return done, 0, failures
