"""What can go wrong, as a tree.

::

    OneCopyError                      anything below; also: contradicting arguments, closed things
     ├── PoolFull          (MemoryError)        no room: now, or ever
     ├── PoolNotFound      (FileNotFoundError)  no pool of that name, or its last process has gone
     ├── PoolExists        (FileExistsError)    `Pool.create` with a name that is taken
     ├── PoolVersionError                       made by a build with another memory layout
     ├── PoolCorrupted                          the shared memory breaks an invariant
     ├── StaleRef          (LookupError)        what a reference pointed at is gone
     ├── OwnerDied                              a lock's holder died, and was to be told
     ├── ShutDown          (queue.ShutDown¹)    the channel was shut down and has nothing left
     ├── CrashLoop                              supervised workers fail again and again
     ├── Closed            (ValueError, OSError) close() was called on it in this process
     ├── NotRebuilt        (UnpicklingError)    a call's arguments or answer cannot be unpickled
     └── Untrusted         (PermissionError)    data that another user could have written
    OwnerDiedWarning (RuntimeWarning)           a lock's holder died; the lock was taken over

¹ where the standard library has it: from Python 3.13 on.

A queue that is full or empty raises `queue.Full` and `queue.Empty`, as in the standard library.
Each message says what happened, the names and sizes involved, and what to do.
"""

from __future__ import annotations

import sys
from pickle import UnpicklingError
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onecopy.supervisor.records import Worker

__all__ = [
    "Closed",
    "CrashLoop",
    "NotRebuilt",
    "OneCopyError",
    "OwnerDied",
    "OwnerDiedWarning",
    "PoolCorrupted",
    "PoolExists",
    "PoolFull",
    "PoolNotFound",
    "PoolVersionError",
    "ShutDown",
    "StaleRef",
    "Untrusted",
]


class OneCopyError(Exception):
    """The root of the package's own errors."""


class PoolFull(OneCopyError, MemoryError):  # noqa: N818 - the name is the face's
    """There is no room in the pool, or never will be: the message has the sizes and the holders."""


class PoolNotFound(OneCopyError, FileNotFoundError):  # noqa: N818 - the name is the face's
    """There is no such pool, or the last process that used it has gone and taken it along."""


class PoolExists(OneCopyError, FileExistsError):  # noqa: N818 - the name is the face's
    """A pool of that name is already there."""


class PoolVersionError(OneCopyError):
    """The pool was made by a build whose memory layout differs from this one's."""


class PoolCorrupted(OneCopyError):  # noqa: N818 - the name is the face's
    """The shared memory breaks an invariant; what was asked for was not done."""


class StaleRef(OneCopyError, LookupError):  # noqa: N818 - the name is the face's
    """The object a reference points at is gone: nothing kept it alive in the meantime."""


class Closed(OneCopyError, OSError, ValueError):  # noqa: N818 - reads as what happened
    """A queue, a lock or the like was closed in this process: let go of, here and nowhere else.

    A ValueError and an OSError too: what multiprocessing's closed queues raise.
    """


class CrashLoop(OneCopyError):  # noqa: N818 - reads as what happened
    """A worker of a supervised group failed again and again, and all of them were stopped.

    Attributes
    ----------
    worker : Worker
        The worker, with how its last process ended (`last_exit`).
    """

    def __init__(self, message: str, worker: Worker) -> None:
        super().__init__(message, worker)
        self.worker = worker

    def __str__(self) -> str:
        return str(self.args[0])


class NotRebuilt(OneCopyError, UnpicklingError):  # noqa: N818 - reads as what happened
    """The arguments of a call, its result or its error could not be unpickled where they arrived.

    Only that call fails. The message names the object, the reason and the cure; the cause is what
    unpickling raised.
    """


class OwnerDied(OneCopyError):  # noqa: N818 - the name is the face's
    """The process that held the lock died; the lock is now held by the caller."""


if sys.version_info >= (3, 13):
    from queue import ShutDown as _StandardShutDown

    class ShutDown(OneCopyError, _StandardShutDown):  # noqa: N818 - the standard library's name
        """The queue or stream was shut down, and has nothing left to give."""

else:

    class ShutDown(OneCopyError):  # noqa: N818 - the standard library's name
        """The queue or stream was shut down, and has nothing left to give."""


class Untrusted(OneCopyError, PermissionError):  # noqa: N818 - the name is the face's
    """Refused to unpickle what another user could have written."""


class OwnerDiedWarning(RuntimeWarning):
    """A lock was taken over from a process that died while it held the lock."""
