"""Pools of worker processes; as `multiprocessing.pool`, with arguments and results by reference.

The pool is the standard library's. Its two pipes are queues in shared memory instead: large arrays
in arguments and results are copied once, or not at all if they lie in a pool already, and a worker
that is killed takes nobody along.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from multiprocessing import pool as standard
from multiprocessing.pool import ThreadPool
from queue import Empty
from typing import TYPE_CHECKING, Any

from onecopy import coroutines
from onecopy.errors import Closed
from onecopy.multiprocessing.context import ProcessError, default_context
from onecopy.multiprocessing.queues import Queue
from onecopy.parents import Parent
from onecopy.places import checked_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from onecopy._native import Member
    from onecopy.queue import Message

__all__ = ["Pool", "ThreadPool", "WorkerDied"]

_AHEAD_PER_WORKER = 16  # tasks that are handed out before their results are there
_AHEAD_AT_LEAST = 128
_ROOM_WITHIN = 60.0  # seconds that a worker waits for memory for a result
_LOOK_EVERY = 1.0  # second in which an idle worker looks whether its parent lives


class WorkerDied(ProcessError):
    """The worker that ran a task died before it was done; the task was not run again."""


class Pool(standard.Pool):
    """A pool of worker processes; as `multiprocessing.Pool`.

    Parameters
    ----------
    processes : int, optional
        How many workers. Default: as many as the machine has processors. Each is a member of the
        default pool, which has room for 512 processes, this one included.
    initializer : callable, optional
        Called in each worker when it begins, with `initargs`.
    initargs : iterable, optional
        See `initializer`.
    maxtasksperchild : int, optional
        Tasks after which a worker is replaced. Default: never.
    context : context, optional
        Where processes come from.

    Raises
    ------
    ValueError, TypeError
        As the standard library's; there are more workers than the default pool has places for.
    PoolFull
        There is no room for the queues.

    Notes
    -----
    A worker that dies in a task (killed, or crashed) is replaced, as in the standard library; but
    the task's result is then a `WorkerDied` error, where the standard library's never comes. The
    other tasks are not touched. A task that a worker cannot rebuild (an import fails there) has
    that error as its result. Workers end when the process that has the pool does.

    Arrays arrive as private copies; those that lie in a pool (`onecopy.empty`)
    arrive by reference and read-only. A result that finds no room in memory within a minute is a
    `MaybeEncodingError`.
    """

    _inqueue: _Tasks
    _outqueue: _Results
    _change_notifier: _Notifier

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        context = default_context.get_context() if context is None else context
        self._state = standard.INIT  # `__del__` looks at it
        if processes is None or processes > 0:  # the standard library refuses the others
            member = _default_member()
            processes = checked_workers(processes, "processes", member, member.stats()["processes"])
        self._ahead = max(_AHEAD_AT_LEAST, _AHEAD_PER_WORKER * (processes or 1))
        super().__init__(
            processes, initializer, initargs, maxtasksperchild, context=_PoolContext(context)
        )

    def _setup_queues(self) -> None:
        outstanding = _Outstanding(self._ahead)
        self._outqueue = _Results(Queue())
        self._inqueue = _Tasks(_redelivering(), self._outqueue, outstanding)
        self._quick_put = self._inqueue.put
        self._quick_get = outstanding.results_of(self._outqueue)

    def _get_sentinels(self) -> list[Any]:
        return [self._change_notifier._reader]

    @staticmethod
    def _help_stuff_finish(inqueue: _Tasks, task_handler: threading.Thread, size: int) -> None:
        """Empty the task queue, so that the thread that fills it comes to its end."""
        inqueue.drain_until_ended(task_handler)

    def join(self) -> None:
        """Wait for the workers, after `close` or `terminate`; let go of the queues.

        Raises
        ------
        ValueError
            The pool is still running.
        """
        super().join()
        self._inqueue.close()
        self._outqueue.close()
        self._change_notifier.close()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")


def _default_member() -> Member:
    from onecopy.default import default_pool

    return default_pool().member


def _redelivering() -> Queue:
    """Make a queue without bound that gives out again what a dead process had taken."""
    queue = Queue._make(_default_member(), None, 0, True, None)
    queue._as_standard = True
    return queue


class _Tasks:
    """The task queue, as the standard library's pool and its workers use it.

    In a worker each `get` but the first follows the `put` of a result; that is when the task before
    is finished.
    """

    def __init__(
        self, queue: Queue, results: _Results, outstanding: _Outstanding | None = None
    ) -> None:
        self._queue = queue
        self._results = results
        self._outstanding = outstanding
        self._parent: Parent | None = None

    def __reduce__(self) -> Any:
        return _Tasks, (self._queue, self._results)

    def put(self, task: Any) -> None:
        """Hand a task out (None: tell a worker to end); wait while too many results are missing."""
        if self._outstanding is None:
            raise AssertionError("tasks are handed out by the process that has the pool")
        if task is None:
            with suppress(Closed):  # the pool has been joined, so no worker is left
                self._queue.put(None)
                self._outstanding.count()
            return
        self._outstanding.wait_for_room()
        # Before it is put: the answer may be there before `put` has returned.
        with self._outstanding.expecting(task[0], task[1]):
            self._queue.put(task)

    def get(self) -> Any:
        """Take a task; what a dead worker had in hand is answered for it.

        Raises
        ------
        EOFError
            The process that has the pool has ended.
        """
        if self._parent is None:
            self._parent = Parent()
        while True:
            try:
                message = coroutines.take(self._queue.get_message, _LOOK_EVERY)
            except Empty:
                self._parent.check()
                continue
            except Exception as error:
                position = getattr(error, "position", None)
                if position is None:
                    raise
                self._refuse(position, error)
                continue
            self._parent.check()  # nobody wants the rest of what it has handed out
            task = message.item
            if task is None:
                message.task_done()
                return None
            self._results.finishes(message)
            if not message.redelivered:
                return task
            job, i, function = task[:3]
            died = WorkerDied(
                f"the worker that ran {_name_of(function)} was killed, or crashed, before it was "
                "done. It may have done a part of its work; it was not run again"
            )
            self._results.put((job, i, (False, died)))

    def _refuse(self, position: int, error: Exception) -> None:
        """Answer a task that cannot be rebuilt here: the parent knows what was at that position."""
        try:
            self._results.put((None, position, (False, error)))
        except Exception:  # noqa: BLE001 - an error that cannot be pickled either
            told = RuntimeError(f"a task could not be rebuilt in its worker: {error!r}")
            self._results.put((None, position, (False, told)))
        self._queue._finish(position)

    def close(self) -> None:
        """Let go of the queue here."""
        self._queue.close()

    def drain_until_ended(self, filler: threading.Thread) -> None:
        """Take what there is until the thread that puts has ended."""
        if self._outstanding is not None:
            self._outstanding.stop()
        while filler.is_alive():
            try:
                self._queue.get_message(timeout=0.01).task_done()
            except Empty:
                continue
            except Exception as error:
                position = getattr(error, "position", None)
                if position is None:
                    raise
                self._queue._finish(position)  # it cannot be rebuilt, and need not


class _Results:
    """The result queue; in a worker it finishes the task whose result was put."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._message: Message | None = None

    def __reduce__(self) -> Any:
        return _Results, (self._queue,)

    def finishes(self, message: Message) -> None:
        """Remember what the next result belongs to."""
        message.item = None  # the arguments are not kept for as long as the task runs
        self._message = message

    def put(self, result: Any) -> None:
        """Send a result, then its task is finished; None: no more will come.

        Raises
        ------
        Full, PoolFull, Exception
            It finds no room; it cannot be pickled. The pool's worker sends that error instead.
        """
        if result is None:
            with suppress(Closed):  # the pool has been joined, so nobody waits
                self._queue.put(None)
            return
        self._queue.put(result, timeout=_ROOM_WITHIN)
        message, self._message = self._message, None
        if message is not None:
            message.task_done()

    def get(self) -> Any:
        """Take a result."""
        return coroutines.take(self._queue.get, None)

    def close(self) -> None:
        """Let go of the queue here."""
        self._queue.close()


class _Outstanding:
    """What has been handed out and not come back, in the process that has the pool.

    A worker that dies after it has put a result and before it has finished the task leaves a task
    that is answered twice; the second answer is not expected any more. A worker that cannot rebuild
    a task knows but its position: how many messages were put before it.
    """

    def __init__(self, ahead: int) -> None:
        self._room = threading.Semaphore(ahead)
        self._stopped = False
        self._put = 0
        self._lock = threading.Lock()
        self._position: dict[tuple[int, int], int] = {}
        self._task: dict[int, tuple[int, int]] = {}

    def wait_for_room(self) -> None:
        """Wait until fewer results are missing."""
        if not self._stopped:
            self._room.acquire()

    def stop(self) -> None:
        """Hold nobody up any more."""
        self._stopped = True
        self._room.release()

    def count(self) -> None:
        """Count a message that is no task."""
        self._put += 1

    @contextmanager
    def expecting(self, job: int, i: int) -> Iterator[None]:
        """Expect an answer to the task that is put within, unless that fails."""
        with self._lock:
            self._position[job, i] = self._put
            self._task[self._put] = job, i
        try:
            yield
        except BaseException:  # the standard library's pool makes a failed result of it
            self._arrived(job, i)
            raise
        self._put += 1

    def _arrived(self, job: int, i: int) -> bool:
        with self._lock:
            position = self._position.pop((job, i), None)
            if position is None:
                return False
            del self._task[position]
        self._room.release()
        return True

    def results_of(self, results: _Results) -> Callable[[], Any]:
        """Give a function that takes results, each once."""

        def get() -> Any:
            while True:
                result = results.get()
                if result is None:
                    return None
                job, i, answer = result
                if job is None:
                    job, i = self._task.get(i, (-1, -1))
                if self._arrived(job, i):
                    return job, i, answer

        return get


class _PoolContext:
    """A context whose SimpleQueue is for the threads of the pool's own process."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def SimpleQueue(self) -> _Notifier:
        """Make what the pool's threads wake each other with."""
        return _Notifier()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class _Notifier:
    """A pipe as a queue of nothing but wake-ups, with a descriptor to wait for."""

    def __init__(self) -> None:
        self._reader, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._waiting = 0

    def put(self, _: None) -> None:
        """Wake whoever waits."""
        with suppress(OSError):  # full of wake-ups, or closed
            os.write(self._write_fd, b"\0")

    def empty(self) -> bool:
        """Tell whether nobody has called; takes a call if there is one, and `get` forgets it."""
        if self._waiting == 0:
            with suppress(BlockingIOError):
                self._waiting = len(os.read(self._reader, 4096))
        return self._waiting == 0

    def get(self) -> None:
        """Take a call."""
        if not self.empty():
            self._waiting -= 1

    def close(self) -> None:
        """Close both ends."""
        for fd in (self._reader, self._write_fd):
            with suppress(OSError):
                os.close(fd)
        self._reader = self._write_fd = -1

    def __del__(self) -> None:
        if self._reader >= 0:
            self.close()


def __getattr__(name: str) -> Any:
    """Give what else the standard library's module has: its result classes and states."""
    return getattr(standard, name)


def _name_of(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
