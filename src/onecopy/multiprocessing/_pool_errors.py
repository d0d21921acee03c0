"""The errors that a pool of workers raises itself; the errors of calls are not here."""

from __future__ import annotations

from multiprocessing import ProcessError

__all__ = ["NO_MAIN_GUARD", "NoMainGuardError", "PoolTerminated", "WorkerDied"]


class WorkerDied(ProcessError):
    """The worker that ran a task died before it was done; the task was not run again."""


class PoolTerminated(ProcessError):
    """The pool was terminated before the call was done."""


class NoMainGuardError(RuntimeError):
    """A worker of a pool imported the main module, and the module made the pool again."""


for _error in (WorkerDied, PoolTerminated):
    _error.__module__ = "onecopy.multiprocessing.pool"  # where they are public

NO_MAIN_GUARD = """\
A worker of this pool could not begin: it imports the main module, and the main module makes the \
pool when it is imported. With the start methods "spawn" and "forkserver", code that starts \
processes must be in a block

    if __name__ == "__main__":
        main()

so that it runs in the program and not in its workers. (Or use get_context("fork").)"""
