"""The exceptions of the package, drawn as a tree.

::

    OneCopyError                      any error below; also: contradicting arguments, closed things
     ├── PoolFull          (MemoryError)        no room: now, or ever
     ├── PoolNotFound      (FileNotFoundError)  no pool of that name; or its last process left
     ├── PoolExists        (FileExistsError)    `Pool.create` with a name that is taken
     ├── PoolVersionError                       made by a build with another memory layout
     ├── PoolCorrupted                          the shared memory breaks an invariant
     ├── StaleRef          (LookupError)        the object of a reference is gone
     ├── OwnerDied                              the owner of a lock died (`on_owner_death="raise"`)
     ├── ShutDown          (queue.ShutDown¹)    the queue or stream was shut down and is empty
     ├── CrashLoop                              supervised workers fail again and again
     ├── Closed            (ValueError, OSError) close() was called in this process
     ├── NotRebuilt        (UnpicklingError)    a call's arguments or result cannot be unpickled
     └── Untrusted         (PermissionError)    data that another user could have written
    OwnerDiedWarning (RuntimeWarning)           a lock's owner died; the next process took it over
    NotEncryptedWarning (RuntimeWarning)        other machines can reach what listens without TLS

¹ From Python 3.13 on, where the standard library has it.

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
    "NotEncryptedWarning",
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
    """The base class of the package's errors."""


class PoolFull(OneCopyError, MemoryError):  # noqa: N818 - a public name
    """The pool has no room now, or can never have it. The message names the sizes and holders."""


class PoolNotFound(OneCopyError, FileNotFoundError):  # noqa: N818 - a public name
    """There is no such pool, or it was removed when its last process left."""


class PoolExists(OneCopyError, FileExistsError):  # noqa: N818 - a public name
    """A pool of that name exists already."""


class PoolVersionError(OneCopyError):
    """The pool was made by a build whose memory layout differs from this one's."""


class PoolCorrupted(OneCopyError):  # noqa: N818 - a public name
    """The shared memory breaks an invariant. The operation was not done."""


class StaleRef(OneCopyError, LookupError):  # noqa: N818 - a public name
    """The object of a reference is gone, because nothing kept it alive."""


class Closed(OneCopyError, OSError, ValueError):  # noqa: N818 - the name says what happened
    """A queue, a lock or the like was closed in this process. Other processes may still use it.

    It is also a ValueError and an OSError, because closed queues of multiprocessing raise these.
    """


class CrashLoop(OneCopyError):  # noqa: N818 - the name says what happened
    """A worker of a supervised group failed again and again, so the group stopped all its workers.

    Attributes
    ----------
    worker : Worker
        The worker that failed. `last_exit` says how its last process ended.
    """

    def __init__(self, message: str, worker: Worker) -> None:
        super().__init__(message, worker)
        self.worker = worker

    def __str__(self) -> str:
        return str(self.args[0])


class NotRebuilt(OneCopyError, UnpicklingError):  # noqa: N818 - the name says what happened
    """The receiver could not unpickle the arguments of a call, its result or its error.

    Only that call fails. The message names the object, the reason and what to do. The cause of the
    exception is the error that unpickling raised.
    """


class OwnerDied(OneCopyError):  # noqa: N818 - a public name
    """The owner of the lock died. The caller now owns the lock."""


if sys.version_info >= (3, 13):
    from queue import ShutDown as _StandardShutDown

    class ShutDown(OneCopyError, _StandardShutDown):  # noqa: N818 - the standard library's name
        """The queue or stream was shut down, and no message is left."""

else:

    class ShutDown(OneCopyError):  # noqa: N818 - the standard library's name
        """The queue or stream was shut down, and no message is left."""


class Untrusted(OneCopyError, PermissionError):  # noqa: N818 - a public name
    """The data was not unpickled, because another user could have written it."""


class OwnerDiedWarning(RuntimeWarning):
    """The caller took over a lock whose owner died."""


class NotEncryptedWarning(RuntimeWarning):
    """Other machines can reach what listens here, and what is sent is not encrypted."""
