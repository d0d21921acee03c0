"""The kinds of things that a name in a pool can stand for."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Kind"]


class Kind(IntEnum):
    """The kind of a named thing. Each kind has its own names."""

    OBJECT = 1
    QUEUE = 2
    STREAM = 3
    FRAMES = 4
    ARRAY = 5
    LOCK = 6
    RLOCK = 7
    RWLOCK = 8
    SEMAPHORE = 9
    BOUNDED_SEMAPHORE = 10
    EVENT = 11
    CONDITION = 12
    BARRIER = 13
    VALUE = 14
    VALUE_LOCK = 15
    LIST = 16
    DICT = 17
