"""Threads that are coroutines, as eventlet and gevent make them: they share one real thread.

A wait in the native core stops that thread, and so stops the whole program, also the coroutine that
would end the wait. Therefore the threads that this package starts wait by `take`: in steps, between
which other coroutines run. (The standard library waits at pipes there, by functions that eventlet
and gevent replace.)
"""

from __future__ import annotations

import threading
import time
from queue import Empty
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["are_threads", "take"]

_T = TypeVar("_T")

_FIRST_STEP = 0.0002  # seconds; each step is longer than the one before
_LAST_STEP = 0.01


def are_threads() -> bool:
    """Tell whether `threading` starts coroutines instead of threads."""
    return type(threading.Lock()).__module__ != "_thread"


def take(receive: Callable[[bool, float | None], _T], timeout: float | None) -> _T:
    """Take an object from a queue. Coroutines run meanwhile.

    Parameters
    ----------
    receive : callable
        Takes an object: ``receive(block, timeout)``, like `Queue.get`.
    timeout : float or None
        The longest time to wait, in seconds. None: for ever.

    Returns
    -------
    object
        The object.

    Raises
    ------
    queue.Empty
        The time is up.
    """
    if not are_threads():
        return receive(True, timeout)
    end = None if timeout is None else time.monotonic() + timeout
    step = _FIRST_STEP
    while True:
        try:
            return receive(False, None)
        except Empty:
            if end is not None and time.monotonic() >= end:
                raise
        threading.Event().wait(step)  # eventlet and gevent replace this, too
        step = min(step * 1.5, _LAST_STEP)
