"""Pools of worker processes; as `multiprocessing.pool`, with arguments and results by reference.

The pool is the standard library's. Its two pipes are queues in shared memory instead: large arrays
in arguments and results are copied once, or not at all if they lie in a pool already, and a worker
that is killed takes nobody along.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from multiprocessing import pool as standard
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

from onecopy.multiprocessing.context import ProcessError, default_context
from onecopy.multiprocessing.queues import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from onecopy.queue import Message

__all__ = ["Pool", "ThreadPool", "WorkerDied"]

_AHEAD_PER_WORKER = 16  # tasks that are handed out before their results are there
_AHEAD_AT_LEAST = 128
_ROOM_WITHIN = 60.0  # seconds that a worker waits for memory for a result


class WorkerDied(ProcessError):
    """The worker that ran a task died before it was done; the task was not run again."""


class Pool(standard.Pool):
    """A pool of worker processes; as `multiprocessing.Pool`.

    Parameters
    ----------
    processes : int, optional
        How many workers. Default: as many as the machine has processors.
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
        As the standard library's.
    PoolFull
        There is no room for the queues.

    Notes
    -----
    A worker that dies in a task (killed, or crashed) is replaced, as in the standard library; but
    the task's result is then a `WorkerDied` error, where the standard library's never comes. The
    other tasks are not touched.

    Arrays arrive writable, each worker's its own copy; those that lie in a pool (`onecopy.empty`)
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
        workers = processes or os.cpu_count() or 1
        self._ahead = max(_AHEAD_AT_LEAST, _AHEAD_PER_WORKER * workers)
        super().__init__(
            processes, initializer, initargs, maxtasksperchild, context=_PoolContext(context)
        )

    def _setup_queues(self) -> None:
        arrivals = _Arrivals(self._ahead)
        self._outqueue = _Results(Queue())
        self._inqueue = _Tasks(_redelivering(), self._outqueue, arrivals)
        self._quick_put = self._inqueue.put
        self._quick_get = arrivals.from_queue(self._outqueue)

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


def _redelivering() -> Queue:
    """Make a queue without bound that gives out again what a dead process had taken."""
    from onecopy.default import default_pool

    queue = Queue._make(default_pool().member, None, 0, True, None)
    queue._gives_alone = True  # what is given out again is not run again
    return queue


class _Tasks:
    """The task queue, as the standard library's pool and its workers use it.

    In a worker each `get` but the first follows the `put` of a result; that is when the task before
    is finished.
    """

    def __init__(self, queue: Queue, results: _Results, arrivals: _Arrivals | None = None) -> None:
        self._queue = queue
        self._results = results
        self._arrivals = arrivals

    def __reduce__(self) -> Any:
        return _Tasks, (self._queue, self._results)

    def put(self, task: Any) -> None:
        """Hand a task out; wait while too many results are missing."""
        if task is not None and self._arrivals is not None:
            self._arrivals.expect_one()
        try:
            self._queue.put(task)
        except BaseException:
            # It will not arrive. The standard library's pool makes a failed result of this.
            if task is not None and self._arrivals is not None:
                self._arrivals.give_up_one()
            raise

    def get(self) -> Any:
        """Take a task; what a dead worker had in hand is answered for it."""
        while True:
            message = self._queue.get_message()
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

    def close(self) -> None:
        """Let go of the queue here."""
        self._queue.close()

    def drain_until_ended(self, filler: threading.Thread) -> None:
        """Take what there is until the thread that puts has ended."""
        import queue

        if self._arrivals is not None:
            self._arrivals.stop()
        while filler.is_alive():
            with suppress(queue.Empty):
                self._queue.get_message(timeout=0.01).task_done()


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
        """Send a result; then its task is finished.

        Raises
        ------
        Full, PoolFull, Exception
            It finds no room; it cannot be pickled. The pool's worker sends that error instead.
        """
        self._queue.put(result, timeout=_ROOM_WITHIN)
        message, self._message = self._message, None
        if message is not None:
            message.task_done()

    def get(self) -> Any:
        """Take a result."""
        return self._queue.get()

    def close(self) -> None:
        """Let go of the queue here."""
        self._queue.close()


class _Arrivals:
    """What has been handed out and what has come back, in the process that has the pool.

    A worker that dies after it has put a result and before it has finished the task leaves a task
    that is answered twice; the second answer is dropped here.
    """

    def __init__(self, ahead: int) -> None:
        self._room = threading.Semaphore(ahead)
        self._stopped = False
        self._seen: dict[int, _Numbers] = {}

    def expect_one(self) -> None:
        """Wait until fewer results are missing."""
        if not self._stopped:
            self._room.acquire()

    def give_up_one(self) -> None:
        """Expect one result less."""
        self._room.release()

    def stop(self) -> None:
        """Hold nobody up any more."""
        self._stopped = True
        self._room.release()

    def from_queue(self, results: _Results) -> Callable[[], Any]:
        """Give a function that takes results, each once."""

        def get() -> Any:
            while True:
                result = results.get()
                if result is None:
                    return None
                job, i, _ = result
                seen = self._seen.get(job)
                if seen is None:
                    seen = self._begin(job)
                if seen.add(i):
                    self._room.release()
                    return result

        return get

    def _begin(self, job: int) -> _Numbers:
        # Jobs are numbered in order. A job's numbers go when many newer jobs have begun: by then
        # whoever died in it has long been answered for.
        if len(self._seen) >= 2 * _AHEAD_AT_LEAST:
            for old in sorted(self._seen)[:_AHEAD_AT_LEAST]:
                del self._seen[old]
        return self._seen.setdefault(job, _Numbers())


class _Numbers:
    """A set of numbers that come nearly in order: all below a floor, and some above it."""

    __slots__ = ("_above", "_floor")

    def __init__(self) -> None:
        self._floor = 0
        self._above: set[int] = set()

    def add(self, number: int) -> bool:
        """Add a number; tell whether it is new."""
        if number < self._floor or number in self._above:
            return False
        if number != self._floor:
            self._above.add(number)
            return True
        self._floor += 1
        while self._floor in self._above:
            self._above.remove(self._floor)
            self._floor += 1
        return True


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
