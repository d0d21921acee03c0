"""Damaged messages, in queues and in the blocks of objects; and handles that point elsewhere."""

from __future__ import annotations

import collections
import datetime as dt
import mmap
import os
import queue
import random
import struct
from pathlib import PurePath

import numpy as np
import segments
from forks import in_child

import onecopy as oc

BATCH = 500  # rounds in one child
TAG_ARRAY, TAG_PICKLES, FORM_PICKLED = 9, (14, 15), 5
TAG_PACKED, TAG_PACKED_BLOCK = 16, 17

ITEMS = (
    7,
    2.5,
    "short",
    b"short",
    (1, ("a", b"b", None, True), ()),
    np.arange(100, dtype="f4").reshape(4, 25),
    np.arange(100, dtype=">f4").reshape(4, 25)[:, ::-2],
    np.asfortranarray(np.ones((3, 4, 5))),
    np.zeros((0, 3)),
    np.zeros(3, dtype=[("x", "i4"), ("y", "f8", (2, 2))]),
    np.array(["2020-01-01"], dtype="M8[D]"),
    np.array([b"abc", b"d"]),
    np.array(["abc", "d"]),
    np.zeros(2, dtype=np.dtype("i4", metadata={"unit": "m"})),
    "ä" * 500,
    b"b" * 500,
    memoryview(bytes(128)).cast("h", (8, 8)),
    {"small": 1},
    {"set": {1, "a", (2, 3)}, "frozen": frozenset([b"x"]), "none": [None, True, 1j, 2**70]},
    {"scalar": np.float32(2), "time": np.datetime64("2020-01-01"), "array": bytearray(b"abc")},
    [[[[("ä", "€", "😀\ud800")] * 2] * 2] * 2],
    {"small": np.arange(6.0).reshape(2, 3), "odd": range(3), "n": [1, 2, 3]},
    {("key", 1): {2: {3: "x" * 300}}},
    {"one": np.arange(5000)},
    {"large": np.arange(20_000), "more": np.ones(10_000)},
    list(range(500)),
)


class Rig:
    """A pool with a queue, and a way to change messages without the library."""

    def __init__(self, mode):
        self.pool = oc.Pool.create(size="64MiB", mode=mode)
        self.trusted = not self.pool.member.others_may_write
        self.file = os.open(self.pool.member.path, os.O_RDWR | os.O_CLOEXEC)
        self.layout = segments.Layout(self.file)
        self.child = self.pool.array(np.arange(1000))
        self._new_queue()

    def _new_queue(self):
        self.channel = self.pool.queue(maxsize=64)
        self.body = self.data_of(self.channel.handle)
        self.entries = self._number(self.body + 24, 4)

    def close(self):
        os.close(self.file)
        self.channel.detach()
        self.pool.close()

    def _number(self, at, width=8):
        return int.from_bytes(os.pread(self.file, width, at), "little")

    def data_of(self, handle):
        entry = self.layout.table + (handle & 0xFFFFFFFF) * segments.BLOCK
        return self.layout.heap + self._number(entry + 80)

    def slot(self):
        """Return the place of the queue's newest message."""
        position = self._number(self.body + 72) - 1
        chunk = self._number(self.body + 256 + position // 64 % self.entries * 8)
        return self.data_of(chunk) + position % 64 * segments.SLOT

    def write(self, at, data):
        os.pwrite(self.file, data, at)

    def read(self, at, length):
        return os.pread(self.file, length, at)

    def forgive(self):
        """Clear the mark, so that one pool can be used for many rounds."""
        self.write(segments.CORRUPT_AT, bytes(4))

    def send(self, item):
        """Put an item; return the place and length of its message, and its block's place or 0."""
        self.channel.put(item)
        slot = self.slot()
        cell, _, length = struct.unpack("<QQI", self.read(slot, 20))
        return slot + 24, length, self.data_of(cell) if cell else 0

    def take(self, message):
        """Get what was sent. `message` is the place of its bytes."""
        cell = self._number(message - 24)
        block = self.data_of(cell) if cell else 0
        self._outcome(message, block, lambda: self.channel.get(timeout=0))
        if self.channel.qsize() != 0:  # a message that is longer than a slot cannot be taken
            self.channel.detach()
            self.forgive()
            self._new_queue()

    def open(self, reference, message, check=True, show=True):
        """Get an object that was put.

        `check`: whether to see that a corrupt pool is refused. `show`: whether to show it before.
        """
        if show:
            reference._repr_html_()  # it never raises, whatever the bytes are
            self.forgive()
        self._outcome(message, message - 16, reference.get, check)

    def _has_code(self, message, block):
        """Tell whether a message has a pickle, so that whatever happens may be its fault."""
        tag, form, flags, parts = self.read(message, 4)
        if tag == TAG_PACKED:  # a part may be an array with a pickled dtype
            return flags != 0 or parts != 0
        if tag == TAG_PACKED_BLOCK:
            offset = self._number(message + 1)
            if offset > 1 << 20:
                return False
            _, flags, _, children, buffers = struct.unpack("<BBHII", self.read(block + offset, 12))
            at = block + offset + 24 + 24 * buffers + 8 * children
            return flags != 0 or self.read(at, 1) != b"\0"
        return tag in TAG_PICKLES or (tag == TAG_ARRAY and form == FORM_PICKLED)

    def _outcome(self, message, block, get, check=True):
        pickled = self._has_code(message, block)
        try:
            touch(get())
        except oc.PoolCorrupted:
            assert segments.is_marked(self.file), "a corrupt pool was not marked"
            if not check:
                self.forgive()
                return
            try:
                self.channel.put(1, timeout=0)
            except oc.PoolCorrupted:
                pass
            else:
                raise AssertionError("a corrupt pool was used")
            self.forgive()
        except (oc.OneCopyError, queue.Empty):
            pass
        except Exception:
            if not (pickled and self.trusted):
                raise


def touch(value, seen=None):
    """Read all of it: memory that does not exist is a fault."""
    seen = set() if seen is None else seen
    match value:
        case np.ndarray() if value.size < 1 << 22:
            value.tobytes()
        case memoryview():
            value.tobytes()
        case tuple() | list() | set() | frozenset() | dict():
            if id(value) not in seen:  # it may contain itself
                seen.add(id(value))
                items = value.items() if isinstance(value, dict) else value
                collections.deque((touch(item, seen) for item in items), maxlen=0)
        case str() | bytes() | bytearray() | np.generic() | dt.datetime() | dt.time() | PurePath():
            repr(value)
        case _ if type(value).__name__ == "DataFrame":
            for block in value._mgr.blocks:
                touch(block.values, seen)
            touch(value._mgr.blknos, seen)


def spoil(data, numbers):
    """Change one byte, one word, or several."""
    data = bytearray(data)
    for _ in range(numbers.choice([1, 1, 1, 2, 5])):
        width = numbers.choice([1, 1, 2, 4, 8])
        if len(data) < width:
            continue
        at = numbers.randrange(len(data) - width + 1)
        before = int.from_bytes(data[at : at + width], "little")
        top = 1 << 8 * width
        value = numbers.choice(
            [
                0,
                1,
                top - 1,
                top >> 1,
                (top >> 1) - 1,
                before + 1,
                before - 1,
                before << 1,
                numbers.randrange(top),
                numbers.randrange(20),
                1 << 20,
            ]
        )
        data[at : at + width] = (value % top).to_bytes(width, "little")
    return bytes(data)


def one_message(rig, numbers, log):
    """Send an item, damage its message or its block's head, and take it."""
    rig.forgive()  # the block of the last round was split into its parts, and its cells were wrong
    item = numbers.choice((*ITEMS, rig.child, {"in the pool": rig.child, "n": [rig.child[::2]]}))
    if numbers.random() < 0.7:
        message, length, block = rig.send(item)
        if block and numbers.random() < 0.4:
            at, data = block, rig.read(block, 128)
        else:
            at, data = message, rig.read(message, numbers.choice([length, length, 232]))
            if numbers.random() < 0.1:
                wrong = numbers.choice([0, 1, length - 1, length + 1, 232, 233, 2**31, 2**32 - 1])
                rig.write(message - 8, (wrong % 2**32).to_bytes(4, "little"))
        damaged = spoil(data, numbers)
        log(f"message of {type(item).__name__}: {data.hex()} -> {damaged.hex()}")
        rig.write(at, damaged)
        rig.take(message)
    else:
        reference = rig.pool.put(item)
        at = rig.data_of(reference.handle)
        whole = 16 + int.from_bytes(rig.read(at, 4), "little")  # the rest may be another block's
        data = rig.read(at, numbers.choice([24, 64, whole]))
        damaged = spoil(data, numbers)
        log(f"object of {type(item).__name__}: {data.hex()} -> {damaged.hex()}")
        rig.write(at, damaged)
        rig.open(reference, at + 16)
        assert reference.nbytes >= 0
        reference.release()


def batch(rounds, seed, mode, last):
    """Run some rounds in this process; `last` keeps the current one."""
    numbers = random.Random(seed)  # noqa: S311 - reproducible

    def log(text):
        last.seek(0)
        last.write(text.encode()[:4000].ljust(4000, b"\0"))

    rig = Rig(mode)
    for _ in range(rounds):
        one_message(rig, numbers, log)
    rig.close()


def campaign(_directory, rounds, seed):
    """Run rounds; return their number, 0, and the failures."""
    failures = []
    last = mmap.mmap(-1, 4096)
    done = 0
    for i in range(0, rounds, BATCH):
        n = min(BATCH, rounds - i)
        mode = 0o600 if i // BATCH % 2 else 0o666
        problem = in_child(batch, n, seed + i, mode, last)
        done += n
        if problem is not None:
            text = last[:4000].rstrip(b"\0").decode(errors="replace")
            failures.append(f"{problem} (mode {mode:o}, seed {seed + i}, {text})")
    return done, 0, failures


# ---------------------------------------------------------------------------------------- handles


def wrong_numbers(numbers, top):
    """Yield handles that point to other blocks, to none, or outside of the pool."""
    yield from range(top)
    for index in (*range(top), 2**31, 2**32 - 1, 1_000_000):
        for generation in (0, 1, 2, 3, 2**31, 2**32 - 1):
            yield generation << 32 | index
    yield from (-1, 2**64, 2**64 - 1, 2**100)
    for _ in range(200):
        yield numbers.getrandbits(64)
