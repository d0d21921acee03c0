"""Pools of worker processes; as `multiprocessing.pool`, with arguments and results by reference.

The interface is the standard library's, and a worker handles a task as there. Two mailboxes in
shared memory (`_pool_queues`) replace the two pipes. Large arrays in arguments and results are
copied once, or not at all if they are in a pool already. The death of a worker stops no other
worker. An error in one call stops no other call (`_pool_threads`, `_pool_results`).
"""

from __future__ import annotations

import os
import sys
import warnings
from functools import partial
from itertools import islice
from multiprocessing import pool as standard
from multiprocessing import process, util
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

from onecopy._core.arguments import integer
from onecopy._core.current import default_member
from onecopy._core.places import checked_workers
from onecopy._workers.mailbox import Mailbox
from onecopy._workers.remote import RemoteTraceback
from onecopy.multiprocessing import _pool_threads as threads
from onecopy.multiprocessing._default_context import default_context
from onecopy.multiprocessing._pool_errors import (
    NO_MAIN_GUARD,
    NoMainGuardError,
    PoolTerminated,
    WorkerDied,
)
from onecopy.multiprocessing._pool_queues import (
    Outstanding,
    Results,
    Tasks,
    mapstar,
    starmapstar,
    work,
)
from onecopy.multiprocessing._pool_results import (
    ApplyResult,
    IMapIterator,
    IMapUnorderedIterator,
    MapResult,
)
from onecopy.multiprocessing.queues import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Self

    from onecopy._native import Member

__all__ = ["Pool", "PoolTerminated", "RemoteTraceback", "ThreadPool", "WorkerDied"]

AsyncResult = ApplyResult
INIT, RUN, CLOSE, TERMINATE = threads.INIT, threads.RUN, threads.CLOSE, threads.TERMINATE

_AHEAD_PER_WORKER = 16  # tasks that are handed out before their results arrive
_AHEAD_AT_LEAST = 128


class Pool(standard.Pool):
    """A pool of worker processes; as `multiprocessing.Pool`.

    Parameters
    ----------
    processes : int, optional
        The number of workers. Default: the number of processors. Each worker is a member of the
        default pool, which has room for 512 processes, this process included.
    initializer : callable, optional
        Called in each worker when it begins, with `initargs`.
    initargs : iterable, optional
        See `initializer`.
    maxtasksperchild : int, optional
        The number of tasks after which a worker is replaced. Default: no limit.
    context : context, optional
        Starts the worker processes. Default: the context of the default start method.

    Raises
    ------
    ValueError, TypeError
        As the standard library's. ValueError too: more workers than the default pool has room for.
    PoolFull
        The pool has no room for the queues.

    Notes
    -----
    A worker that dies in a task (killed, or crashed) is replaced, as in the standard library. The
    task then fails with `WorkerDied`; in the standard library its result never arrives. Other tasks
    are not affected. Workers end when the process that has the pool ends.

    If a worker cannot rebuild a task (an import fails there), the task fails with
    `onecopy.NotRebuilt`. It fails with the same error if its result or error cannot be rebuilt in
    this process. An exception of a callback is reported by `threading.excepthook`, and the call
    still gets its result. When a pool is terminated, its calls fail with `PoolTerminated`. Workers
    that end before they are ready, for example because the initializer raises, are started again:
    as many times as the pool has workers, and three times more. Then all calls, and all later
    calls, fail with the error.

    `imap` and `imap_unordered` read their iterable ahead of the results that were taken, at most
    128 tasks or 16 for each worker, whichever is more. Other calls run while these two wait for
    results to be taken. After the iterator was dropped, or the pool was closed, the rest is read
    without a limit.

    Arrays arrive as private copies. Arrays in a pool (`onecopy.empty`) arrive by reference and
    read-only. A result for which the pool has no room within one minute is replaced by a
    `MaybeEncodingError`.
    """

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """Make a worker; a subclass may override this."""
        return ctx.Process(*args, **kwds)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        self._pool: list[Any] = []  # `__del__` and `__repr__` read these two
        self._state = INIT
        _refuse_in_an_import()
        context = default_context() if context is None else context
        if processes is not None:
            processes = integer("processes", processes)
            if processes < 1:
                raise ValueError("Number of processes must be at least 1")
        most: Any = maxtasksperchild
        if most is not None and (not isinstance(most, int) or most <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        member = _default_member()
        processes = checked_workers(processes, "processes", member, member.stats()["processes"])
        self._ahead = max(_AHEAD_AT_LEAST, _AHEAD_PER_WORKER * processes)
        self._ctx = context
        self._processes = processes
        self._initializer = initializer
        self._initargs = initargs
        self._maxtasksperchild = maxtasksperchild
        outstanding = Outstanding(self._ahead)
        self._outqueue = Results(Mailbox(Queue()))
        self._inqueue = Tasks(Mailbox(_redelivering()), self._outqueue, outstanding, self._pool)
        arguments = self._inqueue, self._outqueue, initializer, initargs, maxtasksperchild
        self._core = core = threads.Core(
            partial(_worker, self.Process, context, arguments),
            processes,
            self._pool,
            self._inqueue,
            self._outqueue,
            outstanding,
        )
        self._taskqueue, self._cache = core.taskqueue, core.cache
        try:
            core.populate()
        except Exception:
            for worker in self._pool:
                if worker.exitcode is None:
                    worker.terminate()
            for worker in self._pool:
                worker.join()
            raise
        self._worker_handler = core.keeping
        self._task_handler = core.handing_out
        self._result_handler = core.taking
        core.start()
        self._terminate = util.Finalize(self, threads.terminate, args=(core,), exitpriority=15)
        self._state = RUN

    # -------------------------------------------------------------------------------------- calls

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[Any], object] | None = None,
    ) -> ApplyResult:
        """Call a function once in a worker; as `multiprocessing.pool.Pool.apply_async`.

        Returns
        -------
        ApplyResult
            ``get(timeout=None)`` returns the function's result, or raises its exception.
        """
        self._check_running()
        result = ApplyResult(self, callback, error_callback)
        self._put(threads.Sequence(result, result._job, func, [args], kwds))  # type: ignore[list-item]  # any iterable
        return result

    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}
    ) -> Any:
        """Call a function once in a worker, and wait for its result."""
        return self.apply_async(func, args, kwds).get()

    def map(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Call a function with each item, and wait for the list of results."""
        return self._map(func, iterable, mapstar, chunksize).get()  # type: ignore[no-any-return]

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """Call a function with each item's own items as arguments; as `map`."""
        return self._map(func, iterable, starmapstar, chunksize).get()  # type: ignore[no-any-return]

    def map_async(  # type: ignore[override]  # a result of our own
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[Any], object] | None = None,
    ) -> MapResult:
        """Call a function with each item; the result is a list, in order."""
        return self._map(func, iterable, mapstar, chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[Any], object] | None = None,
    ) -> MapResult:
        """Call a function with each item's own items as arguments; as `map_async`."""
        return self._map(func, iterable, starmapstar, chunksize, callback, error_callback)

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Any,
        mapper: Callable[..., Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[Any], object] | None = None,
    ) -> MapResult:
        self._check_running()
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)
        if chunksize is None:
            chunksize = -(-len(iterable) // (self._processes * 4))
        if len(iterable) == 0:
            chunksize = 0
        result = MapResult(self, chunksize, len(iterable), callback, error_callback)
        batches = _batches(func, iterable, chunksize)
        self._put(threads.Sequence(result, result._job, mapper, _one_by_one(batches), {}))
        return result

    def imap(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> Any:
        """Call a function with each item; the iterator gives the results in the order of the items.

        Parameters
        ----------
        func : callable
        iterable : iterable
            Read while results are taken, a limited number of tasks ahead (see the class).
        chunksize : int
            The number of items that a worker takes at once.

        Returns
        -------
        iterator
        """
        return self._imap(IMapIterator, func, iterable, chunksize)

    def imap_unordered(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> Any:
        """Call a function with each item; as `imap`, but results come in any order."""
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize)

    def _imap(
        self,
        kind: type[IMapIterator],
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
    ) -> Any:
        self._check_running()
        if chunksize is None or chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        if chunksize > 1:
            iterable = _batches(func, iterable, chunksize)
            func = mapstar
        result = kind(self)
        feed = result._feed
        self._put(threads.Sequence(feed, feed.job, func, _one_by_one(iterable), {}, feed))
        if chunksize == 1:
            return result
        return (item for chunk in result for item in chunk)

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def _put(self, sequence: threads.Sequence) -> None:
        core = self._core
        core.taskqueue.put(sequence)
        # Another thread or a signal handler may have ended it after `_check_running`.
        if core.why is not None:
            sequence.call._fail(core.why)
        elif core.terminated:
            sequence.call._fail(threads.terminated(), call=False)

    # ------------------------------------------------------------------------------------ the end

    def close(self) -> None:
        """Refuse further calls; workers end when all calls are done."""
        if self._state == RUN:
            self._state = CLOSE
            self._core.keeping.state = CLOSE
            self._core.wake()
        for call in list(self._cache.values()):
            if hasattr(call, "open_wide"):
                call.open_wide()

    def terminate(self) -> None:
        """End the workers at once. Calls that are not done fail with `PoolTerminated`.

        A signal handler may call it at any moment.
        """
        self._state = TERMINATE
        self._terminate()
        if not self._core.terminated:  # a handler interrupted `terminate` and called it again
            threads.terminate(self._core)

    def join(self) -> None:
        """Wait for the workers, after `close` or `terminate`, and then close the queues.

        Raises
        ------
        ValueError
            The pool is still running.
        """
        if self._state == RUN:
            raise ValueError("Pool is still running")
        self._core.join()
        self._inqueue.close()
        self._outqueue.close()
        self._core.close()

    def __enter__(self) -> Self:
        """Use the pool in a block, and terminate it at the end."""
        self._check_running()
        return self

    def __exit__(self, *_: object) -> None:
        """Terminate the pool."""
        self.terminate()

    def __repr__(self) -> str:
        kind = type(self)
        return (
            f"<{kind.__module__}.{kind.__qualname__} state={self._state} "
            f"pool_size={len(self._pool)}>"
        )

    def __del__(self) -> None:
        if self._state == RUN:
            warnings.warn(
                f"unclosed running multiprocessing pool {self!r}", ResourceWarning, 2, self
            )
            self._core.wake()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")


def _one_by_one(items: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Make each item the only argument of a task."""
    for item in items:
        yield (item,)


def _batches(
    function: Callable[..., Any], items: Iterable[Any], size: int
) -> Iterator[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Make batches of items, each with the function."""
    iterator = iter(items)
    while batch := tuple(islice(iterator, size)):
        yield function, batch


def _worker(make: Callable[..., Any], context: Any, arguments: tuple[Any, ...]) -> Any:
    """Make a worker that is not started yet."""
    process = make(context, target=work, args=arguments)
    process.name = process.name.replace("Process", "PoolWorker")
    process.daemon = True
    return process


def _refuse_in_an_import() -> None:
    """Refuse to make a pool in a worker that is importing the main module.

    The process that has the pool reports the error once. Its workers end without a message.

    Raises
    ------
    NoMainGuardError
        This process is such a worker.
    """
    current = process.current_process()
    if not getattr(current, "_inheriting", False):
        return
    if "PoolWorker" in current.name:
        sys.excepthook = _end_without_message(sys.excepthook)
    raise NoMainGuardError(NO_MAIN_GUARD)


def _end_without_message(hook: Callable[..., Any]) -> Callable[..., Any]:
    def end(kind: type[BaseException], value: BaseException, traceback: Any) -> None:
        if issubclass(kind, NoMainGuardError):
            os._exit(threads.UNGUARDED)
        hook(kind, value, traceback)

    return end


def _default_member() -> Member:
    return default_member()


def _redelivering() -> Queue:
    """Make a queue without a limit that redelivers what a dead process had taken."""
    queue = Queue._open(None, _default_member(), None, 0, True, None)
    queue._as_standard = True
    return queue


def __getattr__(name: str) -> Any:
    """Return other names of the standard library's module: its result classes and states."""
    return getattr(standard, name)
