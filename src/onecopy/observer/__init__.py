"""A view of a pool from outside: `observe` joins nothing, and changes nothing.

`explain` says which processes of a pool wait for which.
"""

from onecopy._core.schema_view import SchemaView
from onecopy.observer.look import Observer, observe
from onecopy.observer.peeking import Peek, PeekedMessage
from onecopy.observer.records import (
    FrameHolder,
    FramesView,
    LockHolder,
    LockView,
    MemoryCell,
    PoolSnapshot,
    ProcessView,
    QueueView,
    StreamView,
    SubscriberView,
    ThingView,
    WaitView,
)
from onecopy.observer.why import Chain, Culprit, explain, headline

__all__ = [
    "Chain",
    "Culprit",
    "FrameHolder",
    "FramesView",
    "LockHolder",
    "LockView",
    "MemoryCell",
    "Observer",
    "Peek",
    "PeekedMessage",
    "PoolSnapshot",
    "ProcessView",
    "QueueView",
    "SchemaView",
    "StreamView",
    "SubscriberView",
    "ThingView",
    "WaitView",
    "explain",
    "headline",
    "observe",
]
