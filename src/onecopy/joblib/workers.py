"""The worker processes that joblib's calls share.

Starting processes takes as long as many a call does; so workers outlive the call that they were
started for, as in joblib's own backend. One team is kept, with what it was asked for (how many,
threads per worker, initializer, pool): a call that asks for the same gets it, also while others
use it; one that asks for something else gets a new one, and the old one ends once nobody uses it.

Workers are started by the means of joblib's own backend (loky): a new interpreter, which does not
run the user's script again. joblib's users do not write ``if __name__ == "__main__"``, so methods
that import the main module ("spawn", "forkserver") would start them without end. A fork is no way
out: OpenMP, BLAS and polars have threads, which a fork does not copy, but whose locks it does. And
these means take the environment of a process, in which the number of such threads is told.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import util
from multiprocessing.context import SpawnContext
from typing import TYPE_CHECKING, Any

from joblib.externals.loky.backend.process import LokyProcess

from onecopy.executor import Executor
from onecopy.executor.channels import Task
from onecopy.executor.packing import pack
from onecopy.joblib.pickling import JoblibPickler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from onecopy.executor.packing import Picklers
    from onecopy.pool import Pool

__all__ = ["Order", "Team", "hire", "shutdown"]

_TABLES = {"pandas", "polars", "pyarrow"}  # whose objects own memory that is no array's


@dataclass(frozen=True)
class Order:
    """What a call asks of its workers.

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
    idle : float
        Seconds after which workers that nobody uses end.
    """

    workers: int
    environment: Mapping[str, str]
    pool: Pool
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    idle: float


class Team:
    """Workers, and how many calls use them.

    Parameters
    ----------
    order : Order
        What they are to be.

    Notes
    -----
    Made by `hire`, which counts the caller as a user until `leave` or `abort`.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.executor = _Executor(
            order.workers,
            order.pool,
            _Context(order.environment),
            order.initializer,
            order.initargs,
        )
        self.users = 0
        self.ends_at = 0.0  # on the monotonic clock, once nobody uses it

    def fits(self, order: Order) -> bool:
        """Tell whether it is in order, and what is asked for."""
        executor = self.executor
        if executor._broken or executor._shutdown_thread or order.pool.closed:
            return False
        try:
            return bool(self.order == order)
        except Exception:  # noqa: BLE001 - anybody's objects are compared: arrays as initargs, say
            return False

    def leave(self) -> None:
        """Be one user less; workers that nobody uses stay for a while."""
        with _lock:
            self.users -= 1
            if self.users:
                return
            if self is _current:
                self.ends_at = time.monotonic() + self.order.idle
                _watch(self.order.idle)
                return
        self.executor.shutdown(wait=False)

    def abort(self) -> bool:
        """Be one user less, and kill the workers unless others use them; tell whether they are."""
        global _current  # noqa: PLW0603 - belongs to the process
        with _lock:
            self.users -= 1
            if self.users:
                return False
            if self is _current:
                _current = None
        self.executor.kill()
        return True


class _Executor(Executor):
    """An executor for joblib's batches of calls."""

    _picklers: Picklers = JoblibPickler

    def _task(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task:
        # What an argument owns is kept by its arrays. Only tables hold memory of other kinds; and
        # no two batches are the same, so their pickles are not kept.
        given = [part for _, some, named in fn.items for part in (*some, *named.values())]
        tables = [part for part in given if type(part).__module__.partition(".")[0] in _TABLES]
        member = self._pool.member
        call = fn, args, kwargs
        task = Task(partial(pack, call, member, self._picklers, self._copies, tables, once=True))
        with suppress(Exception):  # tried again when it is its turn; then it counts
            task.prepare()
        return task

    def kill(self) -> None:
        """End it now, whatever the workers are at."""
        manager = self._executor_manager_thread
        self.shutdown(wait=False, cancel_futures=True)
        if manager is None:
            return
        for process in list(manager.processes.values()):
            with suppress(ProcessLookupError):
                if process.is_alive():  # loky's processes have no kill()
                    os.kill(process.pid, signal.SIGKILL)
        manager.join()


class _Context(SpawnContext):
    """Where workers come from."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._environment = dict(environment)

    def Process(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # noqa: N802 - there it is a class
        return LokyProcess(*args, init_main_module=False, env=self._environment, **kwargs)


# ------------------------------------------------------------------------------ the team that stays

_lock = threading.RLock()  # a collected generator leaves its team at any time
_current: Team | None = None
_timer: threading.Timer | None = None
_timer_ends_at = 0.0
_inherited: list[Team | None] = []
_registered = False


def hire(order: Order) -> Team:
    """Get workers, for a call that uses them until it leaves the team.

    Parameters
    ----------
    order : Order
        What they are to be.

    Returns
    -------
    Team
        The one there is, if it is the same that was ordered.

    Raises
    ------
    PoolFull
        There is no room for its queues.
    """
    global _current, _registered  # noqa: PLW0603 - belong to the process
    old = None
    with _lock:
        team = _current
        if team is None or not team.fits(order):
            old, team = team, Team(order)
            _current = team
        team.users += 1
        if not _registered:
            _registered = True
            # A child of multiprocessing waits for its threads before it tells executors to end.
            util.Finalize(None, shutdown, exitpriority=100)
    if old is not None and not old.users:
        old.executor.shutdown(wait=False)
    return team


def shutdown(wait: bool = True) -> None:
    """End the workers that are kept for calls to come; the next call starts new ones.

    They also end by themselves: five minutes after the last call (``idle_worker_timeout``), and
    with the process. What arguments have taken in the pool is free afterwards. Safe in any thread;
    calls that are under way are finished first.

    Parameters
    ----------
    wait : bool
        Whether to return only when they have ended.
    """
    global _current  # noqa: PLW0603 - belongs to the process
    with _lock:
        team, _current = _current, None
        _stop_watching()
    if team is not None and (wait or not team.users):
        team.executor.shutdown(wait)


def _watch(seconds: float) -> None:
    """Have the team looked at in so many seconds, at the latest; the lock is held."""
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
    global _current, _timer  # noqa: PLW0603 - belong to the process
    with _lock:
        _timer = None
        team = _current
        if team is None or team.users:
            return
        left = team.ends_at - time.monotonic()
        if left > 0:
            _watch(left)
            return
        _current = None
    team.executor.shutdown(wait=False)


def _forked() -> None:
    global _current, _lock, _timer, _registered  # noqa: PLW0603 - belong to the process
    # Not dropped: an executor's end is the business of its own process's threads.
    _inherited.append(_current)
    _lock = threading.RLock()
    _current = _timer = None
    _registered = False


os.register_at_fork(after_in_child=_forked)
