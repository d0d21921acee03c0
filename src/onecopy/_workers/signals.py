"""The signal masks of the engine's threads, and of what they start.

If a signal comes while the main thread has not yet seen another one, the kernel gives it to some
other thread. Python would run the handler when the main thread wakes by itself: a main thread that
waits would miss its SIGTERM. So the threads that this package starts have all signals blocked.

Whatever such a thread starts would inherit that. So it starts processes, and calls what the user
gave it to call, with the mask of the thread that started it.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Mask = set[signal.Signals | int]

__all__ = ["blocked", "start_without_signals", "users_mask", "with_users_mask"]

# What `signal.pthread_sigmask` calls. That makes an enum member of each blocked signal: 200
# microseconds for each callback of a user's. CPython has it; elsewhere the slow one does.
_c_module: Any = sys.modules.get("_signal", signal)
_set_mask: Callable[..., Mask] = _c_module.pthread_sigmask
_masks: WeakKeyDictionary[threading.Thread, Mask] = WeakKeyDictionary()


def start_without_signals(thread: threading.Thread) -> None:
    """Start a thread that is given none of the process's signals."""
    _masks[thread] = users_mask()
    before = _set_mask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        _set_mask(signal.SIG_SETMASK, before)


def users_mask() -> Mask:
    """Give the signals that the user has blocked in this thread, or in the one that started it."""
    mask = _masks.get(threading.current_thread())
    return _set_mask(signal.SIG_BLOCK, ()) if mask is None else mask


@contextmanager
def blocked(mask: Mask) -> Iterator[None]:
    """Have these signals blocked in this thread, and no others; a child inherits that."""
    before = _set_mask(signal.SIG_SETMASK, mask)
    try:
        yield
    finally:
        _set_mask(signal.SIG_SETMASK, before)


@contextmanager
def with_users_mask() -> Iterator[None]:
    """Run code of the user's, or start a process, in a thread of the engine.

    In any other thread this changes nothing.
    """
    mask = _masks.get(threading.current_thread())
    if mask is None:
        yield
        return
    with blocked(mask):
        yield
