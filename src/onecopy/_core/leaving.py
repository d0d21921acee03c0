"""When a process leaves its pools, and releases its shared-memory segments: as late as it can."""

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

# The core leaves when the interpreter has ended, after all exit handlers and finalizers.
atexit.register(_native.note_threads)


class _Anchor:
    """What multiprocessing refers to, weakly, for as long as this module lives."""


_anchor = _Anchor()
_hooked = False
_last: list[Callable[[], None]] = []


def before_os_exit(function: Callable[[], None]) -> None:
    """Have a function called when a child that multiprocessing has forked ends.

    Parameters
    ----------
    function : callable
        Called without arguments, once no other Python thread runs but daemons, and before the
        pools are left. In a process that ends as the interpreter does it is not called.
    """
    _last.append(function)


def arrange() -> None:
    """Have a child that multiprocessing forks leave its pools when it ends.

    Such a child ends by `os._exit`, without the interpreter's end, but runs multiprocessing's own
    finalizers. They are forgotten when the child begins its work, so they are registered now (for a
    child that is already at work) and after each fork or bootstrap (for those to come).
    multiprocessing is not imported for this: a process that has not loaded it is no child of it.
    """
    global _hooked  # noqa: PLW0603 - once per process, inherited along with the registration
    util = sys.modules.get("multiprocessing.util")
    if util is None or _hooked:
        return
    _hooked = True
    util.register_after_fork(_anchor, _register_finalizer)
    _register_finalizer(_anchor)


def _register_finalizer(_: _Anchor) -> None:
    util = sys.modules["multiprocessing.util"]
    # After all others (they may still use a pool): those with a higher priority run first.
    util.Finalize(None, _leave_before_os_exit, exitpriority=-sys.maxsize)


def _leave_before_os_exit() -> None:
    """Leave every pool and segment, if nothing here runs after multiprocessing's finalizers.

    `threading._shutdown` tells idle executors to end and waits for all threads that are no daemons;
    they may be at work in a pool until they end. Until Python 3.12 multiprocessing calls it only
    after its finalizers. A second call does nothing.
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
    """Tell whether multiprocessing has forked this process, and is waiting to end it.

    Those functions of multiprocessing that fork end the child by `os._exit` when what they call
    returns. They are called in the child too, because it has a copy of their frames. A child that
    was spawned has none: it ends as the interpreter does.
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
    """Find something in a module, without importing it."""
    found: object = sys.modules.get(module)
    for name in names:
        found = getattr(found, name, None)
    return found


os.register_at_fork(after_in_child=arrange)
