"""A descriptor by which processes wake each other: an eventfd that a parent and its workers share.

A wake-up through a bell needs no room in a pool, and a thread that waits for it sleeps in the
kernel until it is rung: an idle process makes no wake-ups.
"""

from __future__ import annotations

import os
from multiprocessing.context import assert_spawning
from multiprocessing.reduction import DupFd
from typing import Any

__all__ = ["Bell"]


class Bell:
    """An eventfd. A forked child has it too; other children get it as an argument of their process.

    Its descriptor is closed when nobody refers to the object any more, and not before: a thread
    that rings can never write to another file that has got the same number.

    Parameters
    ----------
    descriptor : int, optional
        An eventfd that becomes this object's own. Default: a new one.
    """

    __slots__ = ("__weakref__", "_descriptor")

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = -1  # for `__del__`, if there is no descriptor left
        if descriptor is None:
            descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Give the descriptor. It is readable from a ring to the next `clear`."""
        return self._descriptor

    def ring(self) -> None:
        """Wake a thread that waits for the bell. Signal handlers and finalizers may ring."""
        try:  # noqa: SIM105 - `suppress` takes as long as the write
            os.eventfd_write(self._descriptor, 1)
        except BlockingIOError:  # it was rung 2**64 - 2 times and never cleared
            pass

    def clear(self) -> None:
        """Make it unreadable. The caller checks for work after this call, not before."""
        try:  # noqa: SIM105
            os.eventfd_read(self._descriptor)
        except BlockingIOError:  # it was not rung, or another process cleared it first
            pass

    def __reduce__(self) -> Any:
        """Pass the descriptor to a child that is being started."""
        assert_spawning(self)
        return _received, (DupFd(self._descriptor),)

    def __del__(self, close: Any = os.close) -> None:  # at the interpreter's end, `os` may be None
        if self._descriptor >= 0:
            close(self._descriptor)


def _received(duplicate: Any) -> Bell:
    descriptor = duplicate.detach()
    os.set_inheritable(descriptor, False)  # it was inheritable, to reach this process
    return Bell(descriptor)
