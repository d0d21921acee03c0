"""The workers of an executor: how one is started, and which have ended."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import process as standard
from functools import partial
from typing import TYPE_CHECKING, Any

from onecopy._workers.ends import Ends

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WorkerSet"]


class WorkerSet:
    """Worker processes, and a thread that waits for one to end.

    Parameters
    ----------
    context : context
        Where processes come from.
    processes : dict of int to Process
        By pid; the standard library's, which removes who left in order.
    arguments : tuple
        Of `standard._process_worker`.
    notify : callable
        Called in the thread when a process has ended.

    Attributes
    ----------
    gone : deque of Process
        Those that have ended, for whatever reason.
    """

    def __init__(
        self,
        context: Any,
        processes: dict[int, Any],
        arguments: tuple[Any, ...],
        notify: Callable[[], None],
    ) -> None:
        self._context = context
        self._processes = processes
        self._arguments = arguments
        self._notify = notify
        self._ends = Ends()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.gone: deque[Any] = deque()

    def start_one(self) -> None:
        """Start a worker."""
        process = self._context.Process(target=_work, args=self._arguments)
        process.start()
        self._processes[process.pid] = process
        self._ends.add(process)

    def start_watching(self) -> None:
        """Start the thread, after the first workers: a fork should find no thread."""
        self._thread = threading.Thread(
            target=self._watch, name="onecopy-executor-workers", daemon=True
        )
        self._thread.start()

    def disband(self) -> None:
        """End the thread, and keep no process: an executor that is shut down may be kept long."""
        self._stopped = True
        self._processes = {}
        self._ends.ring()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        self._ends.close()
        self.gone.clear()

    def _watch(self) -> None:
        while not self._stopped:
            ended = self._ends.wait()
            if ended and not self._stopped:
                self.gone.extend(ended)
                self._notify()
            del ended


def _work(calls: Any, results: Any, initializer: Any, *more: Any) -> None:
    """Be a worker."""
    # A worker that was forked from the manager thread is not to wait for that at its end.
    standard._threads_wakeups.clear()
    if initializer is not None:
        initializer = partial(_begin, results, initializer)
    standard._process_worker(calls, results, initializer, *more)


def _begin(results: Any, initializer: Callable[..., object], *initargs: Any) -> None:
    try:
        initializer(*initargs)
    except BaseException as error:
        results.initializer_failed(error)
        raise
