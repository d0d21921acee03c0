"""The records of a group about its workers."""

from __future__ import annotations

import signal
from dataclasses import dataclass

__all__ = ["Exit", "Worker"]


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker process ended.

    Attributes
    ----------
    pid : int or None
        Its process. None: it could not be started.
    code : int or None
        As `multiprocessing.Process.exitcode`: 0 is success, a negative number is the signal that
        killed it. None: it could not be started, or other code has taken its status.
    error : str or None
        The exception that ended it, in one line.
    """

    pid: int | None
    code: int | None
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it is anything else than success."""
        return self.code != 0

    def __str__(self) -> str:
        if self.pid is None:
            return f"could not be started ({self.error})"
        if self.error is not None:
            return f"raised {self.error}"
        if self.code is None:
            return "ended with a status that something else in this program has fetched"
        if self.code < 0:
            try:
                return f"was killed by {signal.Signals(-self.code).name}"
            except ValueError:  # a real-time signal
                return f"was killed by signal {-self.code}"
        return f"ended with exit code {self.code}"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker of a group, as it was at one moment.

    Attributes
    ----------
    index : int
        Its number in the group, from 0; its successors have the same.
    name : str
        The name of its process.
    pid : int or None
        Its process; None: it does not run, for now or finally.
    restarts : int
        How often it was started after its first start.
    last_exit : Exit or None
        How its last process ended.

    Examples
    --------
    >>> import time
    >>> with oc.supervise(time.sleep, 1, args=(100,), mp_context="fork") as group:
    ...     worker = group.workers[0]
    ...     worker.index, worker.restarts, worker.last_exit
    (0, 0, None)
    """

    index: int
    name: str
    pid: int | None
    restarts: int
    last_exit: Exit | None
