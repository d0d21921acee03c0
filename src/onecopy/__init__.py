"""Shared memory for Python processes: data is written once, and all processes read it in place.

>>> import onecopy as oc
>>> pool = oc.Pool("camera", size="2GiB")
>>> jobs = pool.queue("jobs")
>>> jobs.put({"id": 7, "image": image})  # doctest: +SKIP
"""

import typing as _typing

from onecopy._codec.arrays import SharedArray
from onecopy._codec.places import Place
from onecopy._codec.transport import ExportLease
from onecopy._core.pool_stats import PoolStats
from onecopy._native import Ref
from onecopy._typed.shape import Shape
from onecopy.born import born_in_pool
from onecopy.containers import Dict, List
from onecopy.default import array, default_pool, empty, put, shared_array, zeros
from onecopy.errors import (
    Closed,
    CrashLoop,
    NotEncryptedWarning,
    NotRebuilt,
    OneCopyError,
    OwnerDied,
    OwnerDiedWarning,
    PoolCorrupted,
    PoolExists,
    PoolFull,
    PoolNotFound,
    PoolVersionError,
    ShutDown,
    StaleRef,
    Untrusted,
)
from onecopy.files.errors import BadFile
from onecopy.files.mapped import MappedArray
from onecopy.frames import Frames
from onecopy.locks import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    RWLock,
    Semaphore,
)
from onecopy.pool import Pool
from onecopy.queue import Message, Queue
from onecopy.stream import Stream, Subscription
from onecopy.tables import registration as _registration  # noqa: F401 - tables register themselves
from onecopy.tables.writable import writable_copy
from onecopy.values import Value

if _typing.TYPE_CHECKING:
    from onecopy._aio.ready import wait
    from onecopy._core.tls import TLS
    from onecopy.executor import Executor
    from onecopy.files.array import open_array
    from onecopy.files.table import open_table
    from onecopy.flight import FlightServer, fetch, serve
    from onecopy.observer import Observer, PoolSnapshot, observe
    from onecopy.recordings import (
        RecordedChannel,
        RecordedMessage,
        Recording,
        RecordingReport,
        RecordingWriter,
        open_recording,
        record,
        replay,
    )
    from onecopy.supervisor import Worker, WorkerGroup, supervise

__all__ = [
    "TLS",
    "BadFile",
    "Barrier",
    "BoundedSemaphore",
    "Closed",
    "Condition",
    "CrashLoop",
    "Dict",
    "Event",
    "Executor",
    "ExportLease",
    "FlightServer",
    "Frames",
    "List",
    "Lock",
    "MappedArray",
    "Message",
    "NotEncryptedWarning",
    "NotRebuilt",
    "Observer",
    "OneCopyError",
    "OwnerDied",
    "OwnerDiedWarning",
    "Place",
    "Pool",
    "PoolCorrupted",
    "PoolExists",
    "PoolFull",
    "PoolNotFound",
    "PoolSnapshot",
    "PoolStats",
    "PoolVersionError",
    "Queue",
    "RLock",
    "RWLock",
    "RecordedChannel",
    "RecordedMessage",
    "Recording",
    "RecordingReport",
    "RecordingWriter",
    "Ref",
    "Semaphore",
    "Shape",
    "SharedArray",
    "ShutDown",
    "StaleRef",
    "Stream",
    "Subscription",
    "Untrusted",
    "Value",
    "Worker",
    "WorkerGroup",
    "array",
    "born_in_pool",
    "default_pool",
    "empty",
    "fetch",
    "observe",
    "open_array",
    "open_recording",
    "open_table",
    "put",
    "record",
    "replay",
    "serve",
    "shared_array",
    "supervise",
    "wait",
    "writable_copy",
    "zeros",
]

__version__ = "0.1.0"

# Loaded on first use, because they import more of the standard library than the rest.
_LATER = {
    "TLS": "onecopy._core.tls",
    "Executor": "onecopy.executor",
    "FlightServer": "onecopy.flight",
    "Observer": "onecopy.observer",
    "PoolSnapshot": "onecopy.observer",
    "RecordedChannel": "onecopy.recordings",
    "RecordedMessage": "onecopy.recordings",
    "Recording": "onecopy.recordings",
    "RecordingReport": "onecopy.recordings",
    "RecordingWriter": "onecopy.recordings",
    "Worker": "onecopy.supervisor",
    "WorkerGroup": "onecopy.supervisor",
    "fetch": "onecopy.flight",
    "observe": "onecopy.observer",
    "open_array": "onecopy.files.array",
    "open_recording": "onecopy.recordings",
    "open_table": "onecopy.files.table",
    "record": "onecopy.recordings",
    "replay": "onecopy.recordings",
    "serve": "onecopy.flight",
    "supervise": "onecopy.supervisor",
    "wait": "onecopy._aio.ready",
}


def __getattr__(name: str) -> object:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
