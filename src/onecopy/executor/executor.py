"""An executor whose arguments and results are shared instead of copied."""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections import deque
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from onecopy import _native
from onecopy._core.arguments import context, function, integer, positional, seconds
from onecopy._core.keepalive import keep_for_child
from onecopy._core.places import checked_workers
from onecopy._workers.copies import Copies
from onecopy._workers.mailbox import Mailbox
from onecopy._workers.packing import Urgency, is_interactive, pack, value_picklers
from onecopy._workers.pickling import CallPickler
from onecopy._workers.processes import Processes
from onecopy.default import default_pool
from onecopy.errors import Untrusted
from onecopy.executor.channels import Calls, Results, Task
from onecopy.executor.manager import CallFuture, Item, Manager, is_exiting
from onecopy.executor.work import work
from onecopy.pool import Pool
from onecopy.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import ParamSpec, TypeVar

    from onecopy._codec.copy_mode import CopyMode
    from onecopy._native import Ref
    from onecopy._workers.packing import Message
    from onecopy._workers.pickling import Picklers

    P = ParamSpec("P")
    T = TypeVar("T")

__all__ = ["Executor"]

_EXTRA_CALLS = 1  # calls that lie ready beyond one for each worker; they cannot be cancelled
_ENDS = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL}


class Executor(futures.ProcessPoolExecutor):
    """Run calls in worker processes; a `concurrent.futures.Executor` that shares large data.

    It is `concurrent.futures.ProcessPoolExecutor`, with its parameters, futures and errors. What is
    large in arguments (arrays, the columns of tables, buffers, long pickles) is written into a pool
    once, however many calls take it, and read there by all workers; results come back the same way,
    without a copy through a pipe.

    Parameters
    ----------
    max_workers : int, optional
        How many worker processes. Default: as many as the machine has processors. Each is a member
        of the pool, which has room for 511 of them, or for fewer if it was made so
        (`max_processes`).
    pool : Pool, optional
        Where arguments and results lie. Default: the default pool.
    mp_context : context or str, optional
        Where processes come from: a context of `multiprocessing` or `onecopy.multiprocessing`, or a
        start method. Default: multiprocessing's.
    initializer : callable, optional
        Called in each worker when it begins, with `initargs`.
    initargs : tuple, optional
        See `initializer`.
    max_tasks_per_child : int, optional
        Calls after which a worker is replaced; not with the start method "fork".
    restart_workers : bool, optional
        Whether a worker that dies is replaced, and the call that it had taken run again by
        another: for calls that may be run twice. A call in which three workers died gets
        `BrokenProcessPool`; so do all if workers die one after the other without finishing any.
        Default: as in the standard library, the first death breaks the executor: every call that
        is not done gets `BrokenProcessPool`.
    copy : {None, False, True, "on_write"}, optional
        How arrays arrive, in arguments at the workers and in results here. "on_write": writable
        and private, and a page is copied when it is written. True: writable and private, and all of
        them are copied at once. Default: read-only, where they lie.

    Raises
    ------
    ValueError, TypeError
        As the standard library's; there are more workers than the pool has places for; `copy` is
        none of these.
    PoolFull
        There is no room for the queues.
    Untrusted
        Other users may write the pool.

    Notes
    -----
    **Arguments** are encoded by `submit`. If you change an object after `submit`, the call still
    gets the object as it was. The next `submit` sends the object as it is then. (Memory that lies
    in the pool is different: an array of it is sealed when it is sent, but a write through another
    view of it, or through a `SharedArray`, changes what the worker reads.) To find out whether an
    object has changed, `submit` compares its bytes with those in the pool, at the speed of memory.
    It does not compare what lies in the pool, nor the object of a `Ref` from `share`.
    If calls take a third of the room, the rest is left to results: further calls are encoded when
    it is their turn. An executor keeps a copy as long as the object lives of which
    the copy was made. These copies take at most half of the pool, and the executor releases them
    if the room is needed. Another executor makes its own copies.
    What lies in another pool that has a name is not copied. It is kept until the call is done, and
    workers may write it if it can be written (`SharedArray`).

    **Workers** get views that are read-only (``copy="on_write"`` and `onecopy.writable_copy` give
    views that can be written), and small arrays, lists and the like as copies of their own.
    **Results** are the same in the process that gets them, and stay in the pool for as long as
    anything refers to them. One that finds no room waits for a minute, in case results are dropped;
    then its call gets `PoolFull`.

    Threads may submit at once. A child forked from the process has no use of the executor. Workers
    end with the process that has it, also if that is killed.

    Examples
    --------
    >>> image = np.ones((480, 640))
    >>> with oc.Executor(2) as executor:
    ...     reference = executor.share(image)  # written once, for many calls
    ...     futures = [executor.submit(np.sum, image) for _ in range(3)]
    ...     [int(future.result()) for future in futures]
    ...     list(executor.map(abs, [-1, -2], chunksize=2))
    [307200, 307200, 307200]
    [1, 2]
    >>> executor = oc.Executor(1)
    >>> executor.terminate_workers(), executor.kill_workers(), executor.shutdown()
    (None, None, None)
    """

    _picklers: Picklers = CallPickler

    # Its own; the stub of the base class has such names, too, with other types.
    _broken: Any
    _call_queue: Any
    _executor_manager_thread: Any
    _initializer: Any
    _mp_context: Any
    _pending_work_items: Any
    _processes: Any
    _shutdown_lock: Any
    _work_ids: Any

    def __init__(
        self,
        max_workers: int | None = None,
        pool: Pool | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        restart_workers: bool = False,
        copy: CopyMode = None,
    ) -> None:
        if pool is not None and not isinstance(pool, Pool):
            raise TypeError(
                f"pool must be a onecopy.Pool, not {type(pool).__name__}; a context is given as "
                "mp_context=…"
            )
        _native.check_copy(copy)
        if max_workers is not None and integer("max_workers", max_workers) <= 0:
            raise ValueError("max_workers must be greater than 0")
        function("initializer", initializer)
        initargs = positional("initargs", initargs)
        if mp_context is None and max_tasks_per_child is not None:
            mp_context = "spawn"  # as the standard library chooses
        mp_context = context("mp_context", mp_context) or get_context()
        forks = mp_context.get_start_method(allow_none=False) == "fork"
        if max_tasks_per_child is not None:
            _check_share(max_tasks_per_child, forks)
        if pool is None:
            pool = default_pool()
        if pool.member.others_may_write:
            raise Untrusted(
                f"{pool!r} may be written by other users, and what an executor's workers call "
                "comes out of its pool. Give it another one: Executor(pool=Pool.create()). "
                "Arguments may lie in this one."
            )
        self._max_workers = checked_workers(max_workers, "max_workers", pool.member)
        self._pool = pool
        self._mp_context = mp_context
        self._starts_on_demand = not forks  # a fork should find no thread, so all start at once
        self._initializer = initializer
        self._initargs = initargs
        self._max_tasks_per_child = max_tasks_per_child
        self._restart_workers = bool(restart_workers)
        self._copy: CopyMode = copy
        self._copies = Copies(pool)
        # A signal handler may shut the executor down while its thread is in `submit`.
        self._shutdown_lock = threading.RLock()
        self._shutdown_thread = False
        self._cancel_pending_futures = False
        self._broken = None
        self._idle = threading.Semaphore(0)
        self._count = 0  # of calls
        self._pending_work_items = {}
        self._work_ids = deque()
        self._executor_manager_thread = None
        self._make_channels()
        _include(self)

    def _make_channels(self) -> None:
        """Make the mailboxes, and what starts workers that have them."""
        member = self._pool.member
        answers = Mailbox(Queue._open(None, member, None, 0, False, None))
        results = Results(answers, self._picklers, self._copy)
        queue = Queue._open(None, member, None, 0, self._restart_workers, None)
        calls = Calls(Mailbox(queue), results, self._max_workers + _EXTRA_CALLS, self._copy)
        arguments = (
            calls,
            results,
            self._sent_initializer(),
            self._initargs,
            self._max_tasks_per_child,
        )
        self._workers = Processes(
            partial(self._mp_context.Process, target=work, args=arguments), answers.bell
        )
        self._call_queue = calls
        self._results: Results | None = results
        self._processes = self._workers.running

    def _sent_initializer(self) -> Any:
        """Return the initializer for workers: by value, if they could not import it."""
        initializer: Any = self._initializer
        if initializer is None or self._mp_context.get_start_method(allow_none=False) == "fork":
            return initializer
        has_no_name = "<" in getattr(initializer, "__qualname__", "")
        if (has_no_name or is_interactive()) and value_picklers() is not None:
            from onecopy._workers.by_value import Function

            return Function(initializer)
        return initializer

    def _begin(self, calls: Calls, results: Results) -> None:
        """Start the thread, once there is a call, and with the start method "fork" all workers."""
        if self._executor_manager_thread is not None:
            return
        if not self._starts_on_demand:
            while len(self._workers.running) < self._max_workers:
                self._workers.start_one()
        manager = Manager(self, calls, results, self._workers, self._restart_workers)
        manager.begin()
        self._executor_manager_thread = manager

    def _adjust_process_count(self) -> None:
        """Start a worker, unless one is idle, or there are as many as there should be."""
        if self._processes is None:  # shut down: the manager thread replaces those that leave
            return
        running = len(self._processes)
        if running >= self._max_workers:
            return
        # Each answer makes a worker idle, and each call takes an idle worker. Permits outlive
        # workers that end after their share of calls: no worker is idle if more calls wait than
        # there are workers.
        idle = len(self._pending_work_items) <= running
        if threading.current_thread() is self._executor_manager_thread:
            if idle:
                return  # one has left; the next `submit` looks again
        elif idle and self._idle.acquire(blocking=False):
            return
        self._workers.start_one()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and free what belongs to the executor once the rest is done.

        Parameters
        ----------
        wait : bool, optional
            Whether to wait for that. Callbacks of futures run in the thread that ends last; there
            it is not waited for.
        cancel_futures : bool, optional
            Whether to cancel calls that no worker has begun.
        """
        manager, calls, results = self._executor_manager_thread, self._call_queue, self._results
        if manager is threading.current_thread():
            wait = False  # a callback of a future, in the very thread that is to end
        with self._shutdown_lock:
            self._cancel_pending_futures = cancel_futures
            self._shutdown_thread = True
        if manager is not None:
            manager.wake()
            if wait:
                manager.join()
        self._copies.clear()  # calls that are not answered hold their copies themselves
        if manager is None and calls is not None and results is not None:
            # The thread was never started, which closes them otherwise.
            calls.close()
            results.close()
            self._workers.disband()
        self._executor_manager_thread = self._call_queue = self._results = self._processes = None

    def terminate_workers(self) -> None:
        """End all workers now, by SIGTERM, and take no more calls; as in Python 3.14.

        Calls that no worker has begun are cancelled, the others get `BrokenProcessPool`; workers
        are not replaced (`restart_workers`). Returns at once. A worker may ignore the signal:
        `kill_workers` cannot be ignored.
        """
        self._force_shutdown(operation="terminate")

    def kill_workers(self) -> None:
        """End all workers now, as `terminate_workers`, but by SIGKILL; as in Python 3.14."""
        self._force_shutdown(operation="kill")

    def _force_shutdown(self, operation: str) -> None:
        if operation not in _ENDS:
            raise ValueError(f"operation must be 'terminate' or 'kill', not {operation!r}")
        with self._shutdown_lock:  # a thread that starts a worker has it
            self._cancel_pending_futures = self._shutdown_thread = True
            if self._executor_manager_thread is not None:
                self._executor_manager_thread.stop_starting()
            processes = dict(self._processes or {})  # `shutdown` takes them away
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes.values():
            with suppress(ProcessLookupError, ValueError):  # ended, or closed
                if process.is_alive():
                    os.kill(process.pid, _ENDS[operation])  # not each kind of process has a method

    # -------------------------------------------------------------------------------- for users

    def __repr__(self) -> str:
        processes = self._processes
        if self._broken is not None:
            state = "broken"
        elif self._shutdown_thread or processes is None:
            state = "shut down"
        else:
            calls = len(self._pending_work_items)
            state = f"{len(processes)} of {self._max_workers} workers started, {calls} calls"
        return f"<onecopy.Executor, {state}>"

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> CallFuture[T]:
        """Call a function in a worker.

        Parameters
        ----------
        fn : callable
            Found by its name in the worker, as pickle finds it. A lambda, a function within a
            function, and what was defined in a notebook or an interactive session are sent by
            value if cloudpickle is installed (``pip install 'onecopy[cloudpickle]'``).
        *args, **kwargs
            Its arguments; anything that pickle takes. References, queues, locks and what else lives
            in a pool arrive as themselves, also if they are dropped here.

        Returns
        -------
        Future
            Of the result. A task of an event loop can await it, too. An object that cannot be
            pickled is an error there, not here.

        Raises
        ------
        BrokenProcessPool, RuntimeError
            A worker has died; the executor was shut down.
        """
        self._check_running()
        task = self._task(fn, args, kwargs)
        future: CallFuture[T] = CallFuture()
        with self._shutdown_lock:
            self._check_running()
            calls, results = self._call_queue, self._results
            if calls is None or results is None:
                raise AssertionError("an executor that takes calls has its mailboxes")
            number = self._count
            self._count += 1
            self._pending_work_items[number] = Item(future, task)
            self._work_ids.append(number)
            if self._starts_on_demand:
                self._adjust_process_count()
            self._begin(calls, results)
            manager = self._executor_manager_thread
        if manager is not None:  # else it was shut down, and knows
            manager.wake()
        return future

    def _check_running(self) -> None:
        if self._broken:
            raise BrokenProcessPool(self._broken)
        if self._shutdown_thread:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if is_exiting():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def _task(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task:
        owners = (*args, *kwargs.values())
        task = Task(
            partial(
                pack, (fn, args, kwargs), self._pool.member, self._picklers, self._copies, owners
            )
        )
        task.try_ahead()
        return task

    def share(self, obj: T) -> Ref[T]:
        """Write an object into the executor's pool, for calls to come.

        Parameters
        ----------
        obj : object
            Anything that pickle takes. What was written for an earlier call is used again; what
            lies in another pool is copied, as somewhere it has to be kept.

        Returns
        -------
        Ref
            To be given to calls: ``ref.get()`` is the object, in the worker as here, and costs
            nothing more. It stays while anybody has the reference.

        Raises
        ------
        PoolFull
            There is no room.
        Exception
            What pickle raises.
        """
        call = pack(
            obj,
            self._pool.member,
            self._picklers,
            self._copies,
            (obj,),
            Urgency.ALONE,
            keeps=False,
        ).call
        return self._pool.put(obj) if isinstance(call, bytes) else call

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call a function with the items of iterables, in workers, and give the results in order.

        Parameters
        ----------
        fn : callable
            Encoded once for all calls; so ``partial(fn, table)`` writes the table once.
        *iterables : iterable
            One argument each.
        timeout : float, optional
            Seconds from now until the last result at most.
        chunksize : int, optional
            Items that a worker takes at a time: more for calls that take less than a millisecond.
        buffersize : int, optional
            Chunks that are submitted and not yet given as results at most. Default: all items are
            taken from the iterables, and submitted, at once.

        Returns
        -------
        iterator
            Of the results. Leaving it, once it has begun, cancels the rest.

        Raises
        ------
        TimeoutError
            From the iterator; so is what `fn` raises.
        ValueError, TypeError
            `chunksize` or `buffersize` is not a number above zero.
        """
        timeout = seconds("timeout", timeout)
        if timeout is not None and timeout > threading.TIMEOUT_MAX:
            timeout = None
        if integer("chunksize", chunksize) < 1:
            raise ValueError(f"chunksize={chunksize}: it must be 1 or more")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError(
                    f"buffersize must be an integer or None, not {type(buffersize).__name__}"
                )
            if buffersize < 1:
                raise ValueError(f"buffersize must be None or > 0, not {buffersize}")
        function = self._shared_function(fn)
        chunks: Any = None
        if chunksize > 1:
            items = zip(*iterables, strict=False)
            chunks = iter(lambda: list(islice(items, chunksize)), [])
        if buffersize is None:
            if chunks is None:
                return futures.Executor.map(self, function, *iterables, timeout=timeout)
            call = partial(_call_each, function)
            return _flat(futures.Executor.map(self, call, chunks, timeout=timeout))
        end = None if timeout is None else time.monotonic() + timeout
        if chunks is None:
            calls = zip(*iterables, strict=False)
            return self._buffered(function, calls, buffersize, end)
        batches = ((function, chunk) for chunk in chunks)
        return _flat(self._buffered(_call_each, batches, buffersize, end))

    def _shared_function(self, fn: Any) -> Any:
        """Put a function that has large parts into the pool, so that calls only refer to it."""
        try:
            message = pack(
                fn, self._pool.member, self._picklers, self._copies, (fn,), Urgency.ALONE
            )
        except Exception:  # noqa: BLE001 - each call will have that error
            return fn
        return fn if isinstance(message.call, bytes) else _SharedFunction(message, self._copy)

    def _buffered(
        self,
        fn: Callable[..., T],
        calls: Iterator[tuple[Any, ...]],
        buffersize: int,
        end: float | None,
    ) -> Iterator[T]:
        waiting = deque(self.submit(fn, *call) for call in islice(calls, buffersize))

        def results() -> Iterator[T]:
            try:
                while waiting:
                    left = None if end is None else end - time.monotonic()
                    result = waiting[0].result(left)
                    waiting.popleft()
                    for call in islice(calls, 1):
                        waiting.append(self.submit(fn, *call))
                    yield result
                    del result
            finally:
                for future in waiting:
                    future.cancel()

        return results()


def _check_share(most: int, forks: bool) -> None:
    """Check `max_tasks_per_child`."""
    if not isinstance(most, int):
        raise TypeError("max_tasks_per_child must be an integer")
    if most <= 0:
        raise ValueError("max_tasks_per_child must be >= 1")
    if forks:
        raise ValueError(
            "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; "
            "supply a different mp_context."
        )


# A forked child, for example a worker, does not need them, and would keep their memory. The
# references have no callbacks. The manager's reference has one. CPython 3.11 does not clear several
# if the executor is destroyed while the process has no memory.
_executors: set[weakref.ref[Executor]] = set()


def _include(executor: Executor) -> None:
    _executors.difference_update([known for known in _executors.copy() if known() is None])
    _executors.add(weakref.ref(executor))


def _forked() -> None:
    for known in _executors.copy():
        executor = known()
        if executor is None:
            continue
        executor._broken = "the executor belongs to the process that this one was forked from"
        executor._copies.forget_all()
        for item in list(executor._pending_work_items.values()):
            item.task.forget()


os.register_at_fork(after_in_child=_forked)


class _SharedFunction:
    """A function that is in the pool."""

    def __init__(self, message: Message, copy: CopyMode) -> None:
        self._message = message
        self._copy: CopyMode = copy

    def __reduce__(self) -> Any:
        keep_for_child(self._message.kept)  # by each call: `map` is done with it before they are
        return _shared_function, (self._message.call, self._copy)


def _shared_function(ref: Ref, copy: CopyMode) -> Any:
    return ref.get(copy)


def _call_each(fn: Callable[..., T], items: list[tuple[Any, ...]]) -> list[T]:
    return [fn(*args) for args in items]


def _flat(lists: Iterator[list[T]]) -> Iterator[T]:
    for each in lists:
        each.reverse()
        while each:
            yield each.pop()
