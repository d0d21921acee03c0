"""Valid pools with objects of all kinds, damaged; and children that use the rest of them.

The numbers are those of ``native/layout/layout.hpp``.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from forks import in_child

import onecopy as oc

CORRUPT_AT = 144
BLOCK, ENTRY, ROW, SLOT = 128, 256, 512, 256
BODY_FLAG = 4


# ------------------------------------------------------------------------------------ the segment


@dataclass(frozen=True)
class Region:
    """A part of the file whose words are worth damaging."""

    name: str
    offset: int
    length: int


@dataclass(frozen=True)
class Change:
    """Bytes that replace what was there."""

    where: str
    offset: int
    data: bytes

    def __str__(self):
        return f"{self.where} @{self.offset:#x} := {self.data.hex()}"


@dataclass(frozen=True)
class Block:
    """An entry of the block table."""

    index: int
    state: int
    flags: int
    kind: int
    offset: int  # in the file
    size: int


class Layout:
    """The places of everything in a pool's file."""

    def __init__(self, file):
        header = os.pread(file, 4096, 0)
        (self.rows, self.heads, self.buckets, self.extents, self.names, self.table, self.heap) = (
            struct.unpack_from("<7Q", header, 64)
        )
        self.blocks_top, self.heap_top = struct.unpack_from("<IQ", header, 204)
        self.names_top = struct.unpack_from("<I", header, 328)[0]
        self.blocks = []
        for index in range(1, self.blocks_top):
            entry = os.pread(file, BLOCK, self.table + index * BLOCK)
            word = struct.unpack_from("<Q", entry, 0)[0]
            offset, size = struct.unpack_from("<QQ", entry, 80)
            kind = struct.unpack_from("<I", entry, 124)[0]
            self.blocks.append(
                Block(index, word >> 24 & 255, word & 255, kind, self.heap + offset, size)
            )

    def bodies(self, kind):
        """Return the blocks of one kind: 1 queue, 2 chunk, 3 stream, 4 frames."""
        return [b for b in self.blocks if b.state == 2 and b.flags & BODY_FLAG and b.kind == kind]

    def regions(self, file):
        """List the words to damage."""
        yield Region("header", 0, 352)
        yield Region("rows", self.rows, 3 * ROW)
        yield Region("heap index", self.heads, 168)
        yield Region("extents", self.extents, 16)
        yield Region("names", self.names, 12 * ENTRY)
        yield Region("blocks", self.table, self.blocks_top * BLOCK)
        for name, start, count in (
            ("free lists", self.heads + 168, 640),
            ("buckets", self.buckets, 16384),
        ):
            words = struct.unpack(f"<{count}I", os.pread(file, 4 * count, start))
            for i, word in enumerate(words):
                if word not in {0, 0xFFFFFFFF}:
                    yield Region(name, start + 4 * i, 4)
        for kind, name, length in (
            (1, "queue", 320),
            (2, "chunk", 4 * SLOT),
            (3, "stream", 4288 + 3 * SLOT),
            (4, "frames", 1100),
        ):
            for body in self.bodies(kind):
                yield Region(name, body.offset, min(length, body.size))
        for block in self.blocks:
            if block.state == 2 and block.flags & 1:
                yield Region("envelope", block.offset, min(block.size, 320))


def furnish(path):
    """Make a persistent pool with objects of all kinds in it, and leave it."""
    with oc.Pool.create(path, size="16MiB", persistent=True, max_processes=8) as pool:
        fill_queue(pool.queue("queue", maxsize=100))
        for policy in ("lossy", "lossless", "latest"):
            stream = pool.stream(policy, depth=4, policy=policy)
            reader = stream.subscribe()
            for i in range(3):
                stream.publish(("message", i) if i % 2 else np.arange(100) + i)
            reader.close()
        frames = pool.frames("frames", (20, 30), "f4", 3)
        pool["frame"] = frames.acquire()
        pool["plain"] = (1, "two", b"three", 4.0, None)
        pool["array"] = np.arange(5000)
        pool["text"] = "long " * 1000
        pool["object"] = {"a": np.zeros(9000), "b": [1, 2, 3]}
        pool["gone"] = np.arange(3000)
        del pool["gone"]
        assert pool.validate() == []


def fill_queue(channel):
    """Put one of each kind of message."""
    for item in (
        7,
        (1, ("a", b"b", None, True), 2.5),
        np.arange(100, dtype="f4").reshape(4, 25)[:, ::-2],
        np.zeros(3, dtype=[("x", "i4"), ("y", "f8")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        "ä" * 500,
        b"b" * 500,
        memoryview(np.arange(64, dtype="i2").tobytes()).cast("h", (8, 8)),
        {"small": 1},
        {"large": np.arange(20_000), "more": np.ones(10_000)},
        list(range(500)),
    ):
        channel.put(item)


# ----------------------------------------------------------------------------------------- changes

WORDS = (0, 1, 2, 7, 2**31, 2**31 - 1, 2**32 - 1, 2**32 - 2, 40_000_000)
LONG_WORDS = (*WORDS, 2**63, 2**63 - 1, 2**64 - 1, 2**64 - 2, 2**40)


def directed(regions, file):
    """Set each word, and each pair of words, to each value at which numbers often fail."""
    for region in regions:
        for at in range(0, region.length - 3, 4):
            offset = region.offset + at
            for width, values in ((4, WORDS), (8, LONG_WORDS)):
                if at % width or at + width > region.length:
                    continue
                before = int.from_bytes(os.pread(file, width, offset), "little")
                top = 1 << 8 * width
                for value in (*values, before + 1, before - 1, before << 1, before ^ top >> 1):
                    if value % top != before:
                        yield Change(region.name, offset, (value % top).to_bytes(width, "little"))


def wild(regions, numbers):
    """Damage up to 16 words at random."""
    kinds = sorted({region.name for region in regions})
    changes = []
    for _ in range(1 << numbers.randrange(5)):
        kind = numbers.choice(kinds)
        region = numbers.choice([region for region in regions if region.name == kind])
        width = numbers.choice([1, 4, 8] if region.length >= 8 else [4])
        offset = region.offset + numbers.randrange(region.length // width) * width
        value = numbers.choice(
            [numbers.randrange(64), numbers.getrandbits(64), numbers.randrange(1 << 25)]
        )
        data = (value % (1 << 8 * width)).to_bytes(width, "little")
        changes.append(Change(region.name, offset, data))
    return changes


# ---------------------------------------------------------------------------------------- children

EXPECTED = (oc.OneCopyError, queue.Empty, queue.Full, KeyError, PermissionError)


def attempt(function, *arguments, **keywords):
    """Return its value, or None if it raises an error that it may raise."""
    try:
        return function(*arguments, **keywords)
    except EXPECTED:
        return None
    except Exception as error:
        # In a pool that only this user can write, a damaged pickle may raise any error of a pickle.
        if any("rebuilt from a pool" in note for note in getattr(error, "__notes__", ())):
            return None
        if isinstance(error, ModuleNotFoundError) and "an object was received" in str(error):
            return None
        if isinstance(error, UNPICKLING) and "pickle" in repr(error):
            return None
        raise


UNPICKLING = (__import__("pickle").UnpicklingError,)


def use(pool):
    """Do everything that can be done with a pool."""
    attempt(pool.stats)
    attempt(pool.validate)
    attempt(pool.collect)
    attempt(pool.member.holders)
    for name in attempt(lambda: list(pool)) or []:
        value = attempt(lambda name=name: pool[name])
        if isinstance(value, np.ndarray) and value.nbytes < 1 << 24:
            attempt(value.sum) if value.dtype.kind in "if" else value.tobytes()
    channel = attempt(pool.queue, "queue")
    if channel is not None:
        attempt(channel.qsize)
        for i in range(16):
            attempt(channel.get, timeout=0.001 if i == 15 else 0)
            attempt(channel.put, np.arange(i * 10) if i % 2 else i, timeout=0)
        attempt(channel.task_done)
        attempt(channel.close)
    for policy in ("lossy", "lossless", "latest"):
        stream = attempt(pool.stream, policy)
        if stream is None:
            continue
        reader = attempt(stream.subscribe)
        for i in range(6):
            attempt(stream.publish, np.arange(i) if i % 2 else i, timeout=0)
            if reader is not None:
                attempt(reader.get, timeout=0.001 if i == 5 else 0)
        if reader is not None:
            attempt(reader.close)
    frames = attempt(pool.frames, "frames")
    if frames is not None:
        held = [attempt(frames.acquire, timeout=0) for _ in range(4)]
        attempt(lambda: frames.available)
        for frame in held:
            if frame is not None:
                frame[...] = 1
    held = [attempt(pool.put, item) for item in (1, np.arange(5000), "x" * 3000, {"a": 1})]
    for reference in held:
        if reference is not None:
            attempt(reference.get)
            attempt(lambda reference=reference: reference.nbytes)
            attempt(reference.release)
    attempt(pool.empty, (300, 300), "f8")
    for name in ("array", "new", "frame"):
        attempt(pool.__setitem__, name, np.arange(10))
        attempt(pool.__delitem__, name)
    attempt(pool.member.trim)
    attempt(pool.validate)


def check_refused(pool, path):
    """A pool that is marked is refused by each process that has it and each that opens it."""
    for again in (
        lambda: pool.put(1),
        lambda: pool["plain"],
        lambda: pool.queue("queue"),
        lambda: pool.empty(10, "u1"),
        pool.collect,
    ):
        try:
            again()
        except oc.PoolCorrupted:
            continue
        raise AssertionError("a corrupt pool was used")
    try:
        oc.Pool.open(path)
    except (oc.PoolCorrupted, oc.PoolVersionError):
        return
    raise AssertionError("a corrupt pool was opened")


def is_marked(file):
    """Tell whether the pool is marked corrupt."""
    return os.pread(file, 4, CORRUPT_AT) != bytes(4)


def open_and_use(path, changes, in_use):
    """Use a pool whose file is damaged, before or after it was opened."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def spoil():
        for change in changes:
            os.pwrite(file, change.data, change.offset)

    if not in_use:
        spoil()
    pool = attempt(oc.Pool.open, path)
    if pool is None:
        return
    kept = []
    if in_use:
        kept = [pool.queue("queue"), pool.frames("frames"), pool["array"], pool.put([1, 2])]
        spoil()
    use(pool)
    for channel in kept[:1]:
        attempt(channel.get, timeout=0)
    if is_marked(file):
        check_refused(pool, path)
    kept.clear()
    pool.close()


class Specimen:
    """The bytes of a valid pool, and a file in which to damage them."""

    _sound = None  # made once: spans of the file, and its size

    def __init__(self, directory):
        self.path = str(Path(directory, "specimen.pool"))
        if Specimen._sound is None:
            problem = in_child(furnish, self.path)
            assert problem is None, problem
            self.file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            layout = Layout(self.file)
            spans = [
                (0, layout.names + (64 << 10)),
                (layout.table, layout.table + layout.blocks_top * BLOCK),
                (layout.heap, layout.heap + layout.heap_top),
            ]
            read = [(at, os.pread(self.file, end - at, at)) for at, end in spans]
            Specimen._sound = read, os.fstat(self.file).st_size
        else:
            self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._bytes, self.size = Specimen._sound
        self.restore()
        self.layout = Layout(self.file)
        self.regions = list(self.layout.regions(self.file))

    def restore(self):
        """Make it valid again."""
        if not os.path.exists(self.path):  # noqa: PTH110 - the hot loop of a campaign
            os.close(self.file)
            self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self.file, 0)
        os.ftruncate(self.file, self.size)
        for at, data in self._bytes:
            os.pwrite(self.file, data, at)

    def close(self):
        """Remove it."""
        os.close(self.file)
        with contextlib.suppress(FileNotFoundError):
            Path(self.path).unlink()

    def round(self, changes, in_use):
        """Damage and use it; return None, or the error."""
        self.restore()
        return in_child(open_and_use, self.path, changes, in_use)


def campaign(directory, rounds, seed):
    """Run rounds, half systematic and half random; return their number, and the failures."""
    numbers = random.Random(seed)  # noqa: S311 - reproducible
    specimen = Specimen(directory)
    try:
        every = list(directed(specimen.regions, specimen.file))
        numbers.shuffle(every)
        failures = []
        for i in range(rounds):
            changes = [every[i // 2 % len(every)]] if i % 2 else wild(specimen.regions, numbers)
            in_use = i % 4 >= 2
            problem = specimen.round(changes, in_use)
            if problem is not None:
                when = "damaged in use" if in_use else "damaged before"
                failures.append(f"{problem} ({when}: {', '.join(map(str, changes))})")
                if len(failures) >= 20:
                    break
        return i + 1, len(every), failures
    finally:
        specimen.close()
