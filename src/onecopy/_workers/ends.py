"""Child processes, and how a thread waits until one of them ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from onecopy import _native

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Ends", "exit_code"]

_STATUS_WITHIN = 1.0  # seconds: a fork server sends it, or another thread is about to store it


class Ends:
    """Processes that are watched. One thread waits; any thread may add processes, and wake it.

    multiprocessing's sentinel is a pipe whose other end a child passes on to each process that it
    forks: as long as one of those lives, the child's death does not show. So a pidfd is watched
    where the kernel has it. In a forked child this object is of no use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._watched: dict[int, Any] = {}  # by the descriptor that becomes readable
        self._pidfds: dict[Any, int] = {}

    def add(self, process: Any) -> None:
        """Watch a process that was started, and look at it at once."""
        pidfd = _pidfd(process)
        with self._lock:
            if pidfd >= 0:
                self._pidfds[process] = pidfd
            self._watched[pidfd if pidfd >= 0 else process.sentinel] = process
        self.ring()

    def ring(self) -> None:
        """Wake the thread that waits. A signal handler may do that, so there is no lock."""
        with suppress(BlockingIOError):  # it has been woken very often
            os.eventfd_write(self._bell, 1)

    def wait(self, timeout: float | None = None) -> list[Any]:
        """Wait until a process has ended, somebody rings, or the time is up.

        Returns
        -------
        list of Process
            Those that have ended; they are not watched any more.
        """
        with self._lock:
            descriptors = [*self._watched, self._bell]
        ready: Iterable[Any] = wait(descriptors, timeout)
        with self._lock:
            with suppress(BlockingIOError):
                os.eventfd_read(self._bell)
            ended = [self._watched.pop(each) for each in ready if each in self._watched]
            for process in ended:
                self._forget(process)
        return ended

    def send(self, process: Any, number: signal.Signals) -> None:
        """Send a signal to a process, unless it has ended."""
        with self._lock, suppress(ProcessLookupError):
            pidfd = self._pidfds.get(process)
            if pidfd is not None:  # a pid may be another process's by now, this cannot
                signal.pidfd_send_signal(pidfd, number)
            elif process.exitcode is None:
                os.kill(process.pid, number)

    def close(self) -> None:
        """Watch nothing any more. Nobody may ring after that."""
        with self._lock:
            self._close()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        for process in self._watched.values():
            self._forget(process)
        self._watched.clear()
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)

    def _forget(self, process: Any) -> None:
        pidfd = self._pidfds.pop(process, None)
        if pidfd is not None:
            os.close(pidfd)


def _pidfd(process: Any) -> int:
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:  # it has ended, or the kernel is old
        return -1
    # Children of a fork server are reaped by the server. If the status is there already, the pid
    # may be another process's.
    if process._popen.method == "forkserver" and _native.is_readable(process.sentinel):
        os.close(pidfd)
        return -1
    return pidfd


def exit_code(process: Any) -> int | None:
    """Give the exit status of a process that has ended, as `Process.exitcode`.

    Returns
    -------
    int or None
        None: it cannot be had. SIGCHLD is ignored, or the program waits for children of others.
    """
    end = time.monotonic() + _STATUS_WITHIN
    while True:
        code: int | None = process.exitcode
        # Another thread, which starts a process, may have fetched it and not stored it yet.
        if code is not None or time.monotonic() > end:
            return code
        time.sleep(0.001)
