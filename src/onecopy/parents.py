"""The process that a worker works for, as the worker sees it."""

from __future__ import annotations

import os
import select
from multiprocessing import parent_process
from typing import Any

__all__ = ["Parent"]


class Parent:
    """The process that started this one; a worker that waits for tasks looks whether it lives."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._pid: int | None = None
        parent: Any = parent_process()
        if parent is None:  # started by something that does not tell
            self._pid = os.getppid()
        elif parent.sentinel is None:  # started by joblib's means, which tell only who it is
            self._pid = parent.pid
        else:
            self._poll.register(parent.sentinel, select.POLLIN | select.POLLHUP)

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        if self._pid is not None:  # whoever adopts an orphan has another pid
            return os.getppid() != self._pid
        return bool(self._poll.poll(0))

    def check(self) -> None:
        """Raise an error if it has ended.

        Raises
        ------
        EOFError
            It has; the standard library's pool workers end of that.
        """
        if self.ended:
            raise EOFError("the process that has the pool has ended")
