"""Damaged messages of typed channels: what a receiver gets fits the type, whatever was written."""

from __future__ import annotations

import mmap
import queue
import random
import struct
from dataclasses import dataclass, field, replace
from typing import Annotated, NamedTuple, NotRequired, TypedDict

import messages
import numpy as np
import numpy.typing as npt
import segments

import onecopy as oc
from onecopy import Shape

BATCH = 1000  # rounds in one child
HEAD = struct.Struct("<BBHIIIQ")


@dataclass
class Point:
    """A record within others."""

    x: float
    y: int | None = None


class Pair(NamedTuple):
    """A named tuple."""

    id: int
    image: Annotated[npt.NDArray[np.uint8], Shape("n", "n")]


class Keys(TypedDict):
    """A dict with a key that may be absent."""

    id: int
    note: NotRequired[str]


@dataclass(slots=True)
class Record:
    """A field of each kind."""

    flag: bool
    point: complex
    data: bytes
    scalar: np.float32
    floats: npt.NDArray[np.floating]
    points: list[Point]
    table: dict[str, tuple[Point, ...]]
    pair: tuple[int, Pair]
    keys: Keys
    tags: list[list[int]] = field(default_factory=list)


def targets(pool):
    """Give types and messages of them, in a slot and in a block."""
    small, there = np.eye(2, dtype=np.uint8), pool.array(np.eye(9, dtype=np.uint8))
    table = {"a": (Point(1.0), Point(2.0, 3)), "b": ()}
    short = Record(
        flag=True,
        point=1j,
        data=b"data",
        scalar=np.float32(1),
        floats=np.ones(3),
        points=[Point(1.0)],
        table=table,
        pair=(1, Pair(2, small)),
        keys={"id": 1, "note": "n"},
        tags=[[1], []],
    )
    long = replace(short, data=b"d" * 300, floats=there.astype("f4"), pair=(1, Pair(2, there)))
    return [
        (Point, Point(1.0, 2)),
        (Pair, Pair(1, there)),
        (list[Point], [Point(float(i)) for i in range(5)]),
        (dict[int, Keys], {1: {"id": 1}, 2: {"id": 2, "note": "a"}}),
        (Record, short),
        (Record, long),
    ]


class Target:
    """A message, the channel that it goes through, and one that checks what arrives."""

    def __init__(self, rig, kind, message):
        self.kind, self.message = kind, message
        self.check = rig.pool.queue(maxsize=64, type=kind)
        self.channel = rig.pool.queue(maxsize=64, type=kind)

    def one_round(self, rig, numbers, log):
        """Put the message, damage it where it lies, and get it."""
        rig.channel = self.channel
        rig.body, rig.entries = rig.data_of(self.channel.handle), 3
        at, length, block = rig.send(self.message)
        if rig.read(at, 1)[0] == messages.TAG_PACKED_BLOCK:
            at = block + int.from_bytes(rig.read(at + 1, 8), "little")
            _, _, _, children, buffers, _, body = HEAD.unpack(rig.read(at, HEAD.size))
            length = HEAD.size + 24 * buffers + 8 * children + body
        sound = rig.read(at, length)
        damaged = messages.spoil(sound, numbers)
        log(f"{self.kind}: {sound.hex()} -> {damaged.hex()}")
        rig.write(at, damaged)
        try:
            got = self.channel.get(timeout=0)
        except (oc.OneCopyError, queue.Empty):
            return 0
        finally:
            rig.write(at, sound)
            rig.forgive()
        messages.touch(got)
        self.check.put(got)  # a TypeError: it did not fit
        self.check.get()
        return 1


def batch(rounds, seed, mode, last):
    """Run some rounds in this process; `last` keeps the current one."""
    numbers = random.Random(seed)  # noqa: S311 - reproducible

    def log(text):
        last.seek(0)
        last.write(text.encode()[:4000].ljust(4000, b"\0"))

    rig = messages.Rig(mode)
    every = [Target(rig, *one) for one in targets(rig.pool)]
    fit = sum(numbers.choice(every).one_round(rig, numbers, log) for _ in range(rounds))
    assert rounds < 500 or fit > rounds // 50, f"only {fit} of {rounds} messages could be read"
    del every
    rig.close()


def campaign(_directory, rounds, seed):
    """Run rounds; return their number, 0, and the failures."""
    failures = []
    last = mmap.mmap(-1, 4096)
    done = 0
    for i in range(0, rounds, BATCH):
        n = min(BATCH, rounds - i)
        # In a pool of its own user, a damaged dtype may be a pickle, which raises anything.
        problem = segments.in_child(batch, n, seed + i, 0o666, last)
        done += n
        if problem is not None:
            text = last[:4000].rstrip(b"\0").decode(errors="replace")
            failures.append(f"{problem} (seed {seed + i}, {text})")
    return done, 0, failures
