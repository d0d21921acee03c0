"""The kinds of things that a name in a pool can stand for."""

from __future__ import annotations

from enum import IntEnum

from onecopy._native import NAME_KINDS

__all__ = ["Kind"]


class Kind(IntEnum):
    """The kind of a named thing. Each kind has its own names."""

    OBJECT = NAME_KINDS["object"]
    QUEUE = NAME_KINDS["queue"]
    STREAM = NAME_KINDS["stream"]
    FRAMES = NAME_KINDS["frames"]
    ARRAY = NAME_KINDS["array"]
    LOCK = NAME_KINDS["lock"]
    RLOCK = NAME_KINDS["rlock"]
    RWLOCK = NAME_KINDS["rwlock"]
    SEMAPHORE = NAME_KINDS["semaphore"]
    BOUNDED_SEMAPHORE = NAME_KINDS["bounded_semaphore"]
    EVENT = NAME_KINDS["event"]
    CONDITION = NAME_KINDS["condition"]
    BARRIER = NAME_KINDS["barrier"]
    VALUE = NAME_KINDS["value"]
    VALUE_LOCK = NAME_KINDS["value_lock"]
    LIST = NAME_KINDS["list"]
    DICT = NAME_KINDS["dict"]
