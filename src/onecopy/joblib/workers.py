"""The worker processes that joblib's calls share.

To start processes takes as long as many calls take. So workers stay after the call for which they
were started, as in joblib's own backend. One `WorkerPool` is kept, with its requirements (number of
workers, threads per worker, initializer, pool). The next call gets it if its requirements are the
same. It works for one call at a time. So if a call is aborted, its workers can be killed at once:
no other call uses them.

Workers are started with the functions of joblib's own backend (loky): a new interpreter, which does
not run the user's script again. Users of joblib do not write ``if __name__ == "__main__"``, so
start methods that import the main module ("spawn", "forkserver") would start workers without end.
A fork is not safe: OpenMP, BLAS and polars have threads. A fork does not copy these threads, but it
copies the locks that they hold. Also, loky's functions take the environment of a process, in which
the number of such threads is set.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing import util
from multiprocessing.context import SpawnContext
from typing import TYPE_CHECKING, Any, cast

from joblib.externals.loky import process_executor
from joblib.externals.loky.backend.process import LokyProcess

from onecopy._codec.registry import has_tables
from onecopy._workers.copies import NotNowError
from onecopy._workers.packing import pack
from onecopy.errors import OneCopyError
from onecopy.executor import Executor
from onecopy.executor.channels import Task
from onecopy.joblib.pickling import JoblibPickler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from onecopy._codec.copy_mode import CopyMode
    from onecopy._native import Member
    from onecopy._workers.copies import Copies
    from onecopy._workers.packing import Message, Urgency
    from onecopy._workers.pickling import Picklers
    from onecopy.pool import Pool

__all__ = ["WorkerPool", "WorkerSpec", "acquire", "shutdown"]


@dataclass(frozen=True)
class WorkerSpec:
    """The requirements of a call on its workers.

    Attributes
    ----------
    workers : int
        How many.
    environment : mapping of str to str
        What to add to this process's environment.
    pool : Pool
        Where arguments and results lie.
    initializer : callable or None
        Called in each worker when it begins.
    initargs : tuple
        Its arguments.
    share_above : float
        Bytes above which an array is shared; up to here each side has its own, to be written.
    idle : float
        Seconds after which workers without calls end.
    copy : CopyMode
        How shared arrays arrive.
    """

    workers: int
    environment: Mapping[str, str]
    pool: Pool
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    share_above: float
    idle: float
    copy: CopyMode


class WorkerPool:
    """Workers for one call of joblib at a time.

    Parameters
    ----------
    spec : WorkerSpec
        The requirements of the calls.

    Notes
    -----
    Made by `acquire`. Its user calls `leave` or `kill` at the end, in any thread.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.executor: _Executor = _Executor(spec)
        self.ends_at: float = 0  # on the monotonic clock, once it has no user

    def fits(self, spec: WorkerSpec) -> bool:
        """Tell whether it is in order, and what is asked for."""
        if not self._works():
            return False
        try:
            return bool(self.spec == spec)
        except Exception:  # noqa: BLE001 - anybody's objects are compared: arrays as initargs, say
            return False

    def _works(self) -> bool:
        executor = self.executor
        return not (executor._broken or executor._shutdown_thread or self.spec.pool.closed)

    def leave(self) -> None:
        """Let the next call have it; without one it ends after a while."""
        global _idle
        other: WorkerPool | None = self
        if self._works():
            with _lock:
                other, _idle = _idle, self
                self.ends_at = time.monotonic() + self.spec.idle
                _watch(self.spec.idle)
        if other is not None:
            other.executor.shutdown(wait=False)

    def kill(self) -> None:
        """End it now, also in the middle of a call."""
        self.executor.kill()


class _Executor(Executor):
    """An executor for joblib's batches of calls."""

    def __init__(self, spec: WorkerSpec) -> None:
        context = _Context(spec.environment)
        process_executor._check_max_depth(context)
        pickler = partial(JoblibPickler, share_above=spec.share_above)
        self._picklers = cast("Picklers", pickler)
        depth = process_executor._CURRENT_DEPTH + 1
        initargs = depth, spec.initializer, spec.initargs
        super().__init__(spec.workers, spec.pool, context, _begin, initargs, copy=spec.copy)

    def _task(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task:
        # What an argument owns is kept by its arrays. Only tables hold memory of other kinds.
        given = [part for _, some, named in fn.items for part in (*some, *named.values())]
        tables = tuple(
            part for part in given if has_tables(type(part).__module__.partition(".")[0])
        )
        call = fn, args, kwargs
        task = Task(partial(_packed, call, self._pool.member, self._picklers, self._copies, tables))
        task.try_ahead()
        return task

    def kill(self) -> None:
        """End it now, also if workers are in the middle of a call."""
        manager: Any = self._executor_manager_thread
        self.kill_workers()
        if manager is not None and manager is not threading.current_thread():
            manager.join()


class _Context(SpawnContext):
    """Where workers come from."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._environment = dict(environment)

    def Process(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # noqa: N802 - there it is a class
        return LokyProcess(*args, init_main_module=False, env=self._environment, **kwargs)


def _packed(
    call: Any,
    member: Member,
    picklers: Picklers,
    copies: Copies,
    owners: tuple[Any, ...],
    urgency: Urgency,
) -> Message:
    try:
        return pack(call, member, picklers, copies, owners, urgency)
    except (OneCopyError, NotNowError):
        raise
    except Exception as error:  # as joblib's own backend says it
        raise pickle.PicklingError(
            f"could not pickle the task to send to the workers: {type(error).__name__}: {error}"
        ) from error


def _begin(
    depth: int, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> None:
    """Run first in a worker process."""
    # joblib looks there to find out how deep it is in nested calls.
    process_executor._CURRENT_DEPTH = depth
    if initializer is not None:
        initializer(*initargs)


# ------------------------------------------------------------------------------ the pool that stays

_lock = threading.RLock()  # a generator that is collected leaves its pool at any time
_idle: WorkerPool | None = None
_timer: threading.Timer | None = None
_timer_ends_at = 0.0
_inherited: list[WorkerPool | None] = []
_registered = False


def acquire(spec: WorkerSpec) -> WorkerPool:
    """Get workers for a call.

    Parameters
    ----------
    spec : WorkerSpec
        The requirements of the call.

    Returns
    -------
    WorkerPool
        The one that is kept, if its requirements are the same; otherwise a new one.

    Raises
    ------
    PoolFull
        There is no room for its queues.
    """
    global _idle, _registered  # noqa: PLW0603 - belong to the process
    with _lock:
        kept, _idle = _idle, None
        if not _registered:
            _registered = True
            # A child of multiprocessing waits for its threads before it tells executors to end.
            util.Finalize(None, shutdown, exitpriority=100)
    if kept is not None and kept.fits(spec):
        return kept
    if kept is not None:
        kept.executor.shutdown(wait=False)
    return WorkerPool(spec)


def shutdown(wait: bool = True) -> None:
    """End the workers that are kept for calls to come; the next call starts new ones.

    They also end by themselves: five minutes after the last call (``idle_worker_timeout``), and
    with the process. The room that arguments have taken in the pool is free afterwards. Safe in any
    thread; the workers of a call that is under way are not concerned.

    Parameters
    ----------
    wait : bool
        Whether to return only when they have ended.
    """
    global _idle
    with _lock:
        kept, _idle = _idle, None
        _stop_watching()
    if kept is not None:
        kept.executor.shutdown(wait)


def _watch(seconds: float) -> None:
    """Check the kept workers within this number of seconds; the caller holds the lock."""
    global _timer, _timer_ends_at  # noqa: PLW0603 - belong to the process
    ends_at = time.monotonic() + seconds
    if _timer is not None and _timer_ends_at <= ends_at:
        return
    _stop_watching()
    _timer = threading.Timer(seconds, _end_if_idle)
    _timer.name = "onecopy-joblib-idle"
    _timer.daemon = True
    _timer_ends_at = ends_at
    _timer.start()


def _stop_watching() -> None:
    global _timer  # noqa: PLW0603 - belongs to the process
    if _timer is not None:
        _timer.cancel()
        _timer = None


def _end_if_idle() -> None:
    global _idle, _timer  # noqa: PLW0603 - belong to the process
    with _lock:
        if _timer is not threading.current_thread():
            return  # cancelled too late
        _timer = None
        kept = _idle
        if kept is None:
            return
        left = kept.ends_at - time.monotonic()
        if left > 0:
            _watch(left)
            return
        _idle = None
    kept.executor.shutdown(wait=False)


def _forked() -> None:
    global _idle, _lock, _timer, _registered  # noqa: PLW0603 - belong to the process
    # Not dropped: an executor's end is the business of its own process's threads.
    _inherited.append(_idle)
    _lock = threading.RLock()
    _idle = _timer = None
    _registered = False


os.register_at_fork(after_in_child=_forked)
