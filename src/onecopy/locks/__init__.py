"""Locks, events, conditions and barriers between any processes. They survive dead owners.

You make one in the default pool (``onecopy.Lock()``) or in any pool, with or without a name
(``pool.lock("gpu")``). It is pickled by reference, so unrelated processes can use it, too.
"""

from onecopy.locks.barrier import Barrier
from onecopy.locks.condition import Condition
from onecopy.locks.deaths import LockOwner, OwnerDeathPolicy
from onecopy.locks.event import Event
from onecopy.locks.mutex import Lock, RLock
from onecopy.locks.rwlock import RWLock
from onecopy.locks.semaphore import BoundedSemaphore, Semaphore

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Lock",
    "LockOwner",
    "OwnerDeathPolicy",
    "RLock",
    "RWLock",
    "Semaphore",
]
