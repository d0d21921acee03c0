"""Child processes, and how a thread waits until one of them ends."""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from onecopy import _native, coroutines
from onecopy._workers.bells import Bell

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Ends", "exit_code"]

_FREE = not getattr(sys, "_is_gil_enabled", lambda: True)()  # threads run without the GIL
_NAP = 100  # milliseconds
_STATUS_WITHIN = 1.0  # seconds: a fork server sends it, or another thread is about to store it


class Ends:
    """Processes that are watched. One thread waits; any thread may add processes, and wake it.

    multiprocessing's sentinel is a pipe whose other end a child passes on to each process that it
    forks: as long as one of those lives, the child's death does not show. So a pidfd is watched
    where the kernel has it. In a forked child this object is of no use.

    Parameters
    ----------
    *bells : Bell
        What wakes the thread that waits besides. They are cleared when they were rung.
    """

    def __init__(self, *bells: Bell) -> None:
        self._lock = threading.Lock()
        self._own: Bell | None = Bell()
        self._bells = {each.fileno(): each for each in (*bells, self._own)}
        self._watched: dict[int, Any] = {}  # by the descriptor that becomes readable
        self._pidfds: dict[Any, int] = {}
        self._poll: Any = None  # the thread's, once it has waited

    def add(self, process: Any) -> None:
        """Watch a process that was started, and look at it at once."""
        pidfd = _pidfd(process)
        with self._lock:
            if pidfd >= 0:
                self._pidfds[process] = pidfd
            descriptor = pidfd if pidfd >= 0 else process.sentinel
            self._watched[descriptor] = process
            if self._poll is not None:
                self._poll.register(descriptor, select.POLLIN)
        self.ring()

    def ring(self) -> None:
        """Wake the thread that waits. A signal handler may do that, so there is no lock."""
        bell = self._own
        if bell is not None:
            bell.ring()

    def wait(self, timeout: float | None = None) -> list[Any]:
        """Wait until a process has ended, a bell rings, or the time is up.

        Returns
        -------
        list of Process
            Those that have ended; they are not watched any more.
        """
        ready = self._ready(timeout)
        for each in ready:
            if each in self._bells:
                self._bells[each].clear()
        if not self._watched.keys() & ready:
            return []
        with self._lock:
            ended = [self._watched.pop(each) for each in ready if each in self._watched]
            if self._poll is not None:
                for each in ready:
                    if each not in self._bells:
                        self._poll.unregister(each)
            for process in ended:
                self._forget(process)
        return ended

    def _ready(self, timeout: float | None) -> Iterable[int]:
        if coroutines.are_threads():  # what they have replaced lets others run
            with self._lock:
                descriptors = [*self._watched, *self._bells]
            ready: Any = wait(descriptors, timeout)
            return ready  # type: ignore[no-any-return]  # descriptors are what was given
        if self._poll is None:
            with self._lock:
                self._poll = select.poll()
                for each in (*self._watched, *self._bells):
                    self._poll.register(each, select.POLLIN)
        milliseconds = None if timeout is None else math.ceil(timeout * 1000)
        return [descriptor for descriptor, _ in self._sleep(milliseconds)]

    def _sleep(self, milliseconds: int | None) -> list[tuple[int, int]]:
        poll: select.poll = self._poll
        if not _FREE:
            return poll.poll(milliseconds)
        # Answers are made in this thread, and dropped by others. Without the GIL, their memory is
        # released when this thread runs.
        until = math.inf if milliseconds is None else time.monotonic() * 1000 + milliseconds
        while True:
            left = until - time.monotonic() * 1000
            found = poll.poll(max(0, min(left, _NAP)))
            if found or left <= _NAP:
                return found

    def send(self, process: Any, number: signal.Signals) -> None:
        """Send a signal to a process, unless it has ended."""
        with self._lock, suppress(ProcessLookupError):
            pidfd = self._pidfds.get(process)
            if pidfd is not None:  # another process may have the pid by now; a pidfd cannot change
                signal.pidfd_send_signal(pidfd, number)
            elif process.exitcode is None:
                os.kill(process.pid, number)

    def close(self) -> None:
        """Stop watching; `ring` has no effect after that."""
        with self._lock:
            self._close()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        for process in self._watched.values():
            self._forget(process)
        self._watched.clear()
        self._own, self._bells, self._poll = None, {}, None

    # At the interpreter's end, `os` may be None.
    def _forget(self, process: Any, close: Any = os.close) -> None:
        pidfd = self._pidfds.pop(process, None)
        if pidfd is not None:
            close(pidfd)


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
        None: it is not known. SIGCHLD is ignored, or the program waits for children of others.
    """
    end = time.monotonic() + _STATUS_WITHIN
    while True:
        code: int | None = process.exitcode
        # Another thread, which starts a process, may have fetched it and not stored it yet.
        if code is not None or time.monotonic() > end:
            return code
        time.sleep(0.001)
