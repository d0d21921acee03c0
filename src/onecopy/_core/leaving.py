"""When a process leaves its pools and releases its shared-memory segments: as late as possible."""

from __future__ import annotations

import atexit
import os
import sys
from typing import TYPE_CHECKING

from onecopy import _native

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["arrange", "before_os_exit"]

# The core leaves the pools after the end of the interpreter: after all exit handlers and
# finalizers.
atexit.register(_native.note_threads)


class _Anchor:
    """The object that multiprocessing refers to weakly. It lives as long as this module."""


_anchor = _Anchor()
_hooked = False
_last: list[Callable[[], None]] = []


def before_os_exit(function: Callable[[], None]) -> None:
    """Register a function that is called when a child that multiprocessing forked ends.

    Parameters
    ----------
    function : callable
        Called without arguments, when no other Python threads run except daemons, and before the
        process leaves its pools. It is not called in a process that ends with the interpreter.
    """
    _last.append(function)


def arrange() -> None:
    """Make a child that multiprocessing forks leave its pools when it ends.

    Such a child ends by `os._exit`, so the interpreter does not end in the ordinary way, but
    multiprocessing's own finalizers run. multiprocessing removes all finalizers when a child begins
    its work. So this registers one now (for a child that works already), and one after each fork or
    bootstrap (for later children). This does not import multiprocessing: if a process has not
    loaded it, multiprocessing did not start the process.
    """
    global _hooked  # noqa: PLW0603 - once per process, inherited along with the registration
    # Not `get`, which takes the lock of the dict in an interpreter without the GIL. In a forked
    # child, a thread of the parent may have it for ever.
    if _hooked or "multiprocessing.util" not in sys.modules:
        return
    util = sys.modules["multiprocessing.util"]
    _hooked = True
    util.register_after_fork(_anchor, _register_finalizer)
    _register_finalizer(_anchor)


def _register_finalizer(_: _Anchor) -> None:
    util = sys.modules["multiprocessing.util"]
    # It has the lowest priority and runs last, because other finalizers may still use a pool.
    util.Finalize(None, _leave_before_os_exit, exitpriority=-sys.maxsize)


def _leave_before_os_exit() -> None:
    """Leave all pools and segments, if this process ends after multiprocessing's finalizers.

    `threading._shutdown` ends idle executors, and waits for all threads that are not daemons. These
    threads may use a pool until they end. Up to Python 3.12, multiprocessing calls it only after
    its finalizers. A second call does nothing.
    """
    if _ends_by_os_exit():
        threading = sys.modules.get("threading")
        if threading is not None:
            threading._shutdown()
        try:
            for function in _last:
                function()
        finally:
            _native.leave_all()


def _ends_by_os_exit() -> bool:
    """Tell whether multiprocessing forked this process and will end it by `os._exit`.

    The functions of multiprocessing that fork end the child by `os._exit` when its work returns. A
    forked child has a copy of their frames on its stack. A spawned child has no such frames: it
    ends with the interpreter.
    """
    forking = {
        getattr(function, "__code__", None)
        for function in (
            _function("multiprocessing.popen_fork", "Popen", "_launch"),
            _function("multiprocessing.forkserver", "main"),
        )
    }
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code in forking:
            return True
        frame = frame.f_back
    return False


def _function(module: str, *names: str) -> object:
    """Find an attribute of a module, without importing the module."""
    found: object = sys.modules.get(module)
    for name in names:
        found = getattr(found, name, None)
    return found


os.register_at_fork(after_in_child=arrange)
