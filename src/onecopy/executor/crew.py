"""The workers of an executor: how one is started, and which have ended."""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import process as standard
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Crew"]


class Crew:
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
        self._watched: list[Any] = []
        self._bell = -1
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self.gone: deque[Any] = deque()

    def start_one(self) -> None:
        """Start a worker."""
        process = self._context.Process(target=_work, args=self._arguments)
        process.start()
        self._processes[process.pid] = process
        with self._lock:
            self._watched.append(process)
            self._ring()

    def start_watching(self) -> None:
        """Start the thread, after the first workers: a fork should find no thread."""
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(
            target=self._watch, name="onecopy-executor-crew", daemon=True
        )
        self._thread.start()

    def disband(self) -> None:
        """End the thread, and keep no process: an executor that is shut down may be kept long."""
        with self._lock:
            self._stopped = True
            self._watched = []
            self._processes = {}
            self._ring()
        if self._thread is not None:
            self._thread.join()
        self.gone.clear()

    def _ring(self) -> None:
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def _watch(self) -> None:
        while True:
            with self._lock:
                if self._stopped:
                    os.close(self._bell)
                    self._bell = -1
                    return
                sentinels = {process.sentinel: process for process in self._watched}
            ready = wait([*sentinels, self._bell])
            if self._bell in ready:
                os.eventfd_read(self._bell)
            ended = [sentinels[sentinel] for sentinel in ready if sentinel in sentinels]
            with self._lock:
                ended = [each for each in ended if each in self._watched]
                self._watched = [each for each in self._watched if each not in ended]
                self.gone.extend(ended)
            if ended:
                self._notify()
            del sentinels, ended


def _work(*arguments: Any) -> None:
    """Be a worker."""
    # A worker that was forked from the manager thread is not to wait for that at its end.
    standard._threads_wakeups.clear()
    standard._process_worker(*arguments)
