"""The errors of a pool of workers, beside those of the calls themselves."""

from __future__ import annotations

from multiprocessing import ProcessError

__all__ = ["NO_MAIN_GUARD", "NoMainGuardError", "PoolTerminated", "WorkerDied"]


class WorkerDied(ProcessError):
    """The worker that ran a task died before it was done; the task was not run again."""


class PoolTerminated(ProcessError):
    """The pool was terminated before the call was done."""


class NoMainGuardError(RuntimeError):
    """A pool was made while the main module is imported into a worker of that very pool."""


for _error in (WorkerDied, PoolTerminated):
    _error.__module__ = "onecopy.multiprocessing.pool"  # where they are public

NO_MAIN_GUARD = """\
A worker of this pool could not begin: it has to import the main module, and there it came to the \
line that makes the pool. With the start methods "spawn" and "forkserver" what starts processes \
must stand under the idiom

    if __name__ == "__main__":
        main()

so that it runs in the program and not in its workers. (Or use get_context("fork").)"""
