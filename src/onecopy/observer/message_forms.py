"""The numbers by which messages say what follows, as the core has them.

The core does not export them: an observer reads pools without the bindings that write messages. So
they stand here too, and tests/structure/test_native_layout.py compares them with the core's.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Node", "Part", "Tag"]


class Tag(IntEnum):
    """What a message is; native/bindings/wire.hpp."""

    NONE = 1
    YES = 2
    NO = 3
    INTEGER = 4
    REAL = 5
    TEXT = 6
    BYTES = 7
    TUPLE = 8
    ARRAY = 9
    VIEW = 10
    LONG_TEXT = 11
    LONG_BYTES = 12
    REF = 13
    PICKLE = 14
    PICKLE_BLOCK = 15
    PACKED = 16
    PACKED_BLOCK = 17


class Node(IntEnum):
    """An element of a packed message; native/bindings/codec_packed.hpp."""

    NONE = 1
    YES = 2
    NO = 3
    INT8 = 4
    INT32 = 5
    INT64 = 6
    BIG_INT = 7
    REAL = 8
    COMPLEX = 9
    LATIN1 = 10
    UCS2 = 11
    UCS4 = 12
    BYTES = 13
    BYTE_ARRAY = 14
    TUPLE = 15
    LIST = 16
    SET = 17
    FROZEN_SET = 18
    DICT = 19
    PART = 20
    AGAIN = 21
    SCALAR = 22
    PLAIN = 23
    NAMED = 24
    MEMBER = 25
    MOMENT = 26
    SLOTTED = 27
    FROZEN = 28
    CALLED = 29
    CALLED_BY_NAME = 30
    BUILT = 31
    SHORT_TEXT = 64
    SHORT_INT = 96


class Part(IntEnum):
    """A part of a packed message; native/bindings/codec_packed.hpp."""

    IN_CHILD = 1
    INSIDE = 2
    PICKLED = 3
    STANDARD = 4
    SHARED = 5
