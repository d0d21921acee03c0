"""The process that a worker works for, as the worker sees it."""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from multiprocessing import parent_process
from typing import Any

from onecopy import _native

__all__ = ["Parent"]

_LOOK_EVERY = 0.5  # second, where nothing announces its end


class Parent:
    """The process that started this one; a worker that waits for tasks looks whether it lives.

    multiprocessing has a pipe for this, whose other end closes when the parent ends. That is not
    reliable: each process that the parent forks later has a copy of the other end, and keeps the
    pipe open after the parent's end.
    """

    def __init__(self) -> None:
        self._adopter: int | None = None  # a process that adopts a process has another pid
        self._fd = -1
        parent: Any = parent_process()
        pid = os.getppid() if parent is None else parent.pid
        if pid == os.getppid():
            self._adopter = pid
            with suppress(OSError):  # it has ended, or the kernel is old
                self._fd = os.pidfd_open(pid)
            return
        # To look again when the descriptor says that it has ended: the number may be closed, or
        # another file's, by then.
        self._pid, self._start = pid, _native.process_start(pid)
        # Started by a server in between, which lives longer.
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._adopter = pid  # it has ended; this process's parent is another one
        except OSError:  # an old kernel
            self._fd = os.dup(parent.sentinel)

    @property
    def descriptor(self) -> int:
        """What becomes readable when it ends, at the latest; -1: nothing does.

        It may be readable before. `ended` tells.
        """
        # If it had ended before it was opened, the number may have been another process's.
        if self._adopter is not None and self.ended:
            return -1
        return self._fd

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        if self._adopter is not None:
            return os.getppid() != self._adopter
        if not _native.is_readable(self._fd):
            return False
        return not self._start or _native.process_is_dead(self._pid, self._start)

    def wait(self) -> None:
        """Wait until it has ended, at the expense of a thread."""
        descriptor = self.descriptor
        if descriptor >= 0 and not self.ended:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll()
        while not self.ended:
            time.sleep(_LOOK_EVERY)

    def __del__(self, close: Any = os.close) -> None:  # at the interpreter's end, `os` may be None
        if self._fd >= 0:
            close(self._fd)

    def check(self) -> None:
        """Raise an error if it has ended.

        Raises
        ------
        EOFError
            It has; the standard library's pool workers end of that.
        """
        if self.ended:
            raise EOFError("the process that has the pool has ended")
