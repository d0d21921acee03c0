"""Shared memory for Python processes: data is written once, and read in place by everyone.

>>> import onecopy as oc
>>> pool = oc.Pool("camera", size="2GiB")
>>> jobs = pool.queue("jobs")
>>> jobs.put({"id": 7, "image": image})  # doctest: +SKIP
"""

from onecopy._native import Ref
from onecopy.arrays import SharedArray
from onecopy.containers import Dict, List
from onecopy.default import array, default_pool, empty, put, shared_array, zeros
from onecopy.errors import (
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
from onecopy.pool import Pool, PoolStats
from onecopy.queue import Message, Queue
from onecopy.stream import Stream, Subscription
from onecopy.tables.writable import writable_copy
from onecopy.values import Value

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Dict",
    "Event",
    "Frames",
    "List",
    "Lock",
    "Message",
    "OneCopyError",
    "OwnerDied",
    "OwnerDiedWarning",
    "Pool",
    "PoolCorrupted",
    "PoolExists",
    "PoolFull",
    "PoolNotFound",
    "PoolStats",
    "PoolVersionError",
    "Queue",
    "RLock",
    "RWLock",
    "Ref",
    "Semaphore",
    "SharedArray",
    "ShutDown",
    "StaleRef",
    "Stream",
    "Subscription",
    "Untrusted",
    "Value",
    "array",
    "default_pool",
    "empty",
    "put",
    "shared_array",
    "writable_copy",
    "zeros",
]

__version__ = "0.1.0"
