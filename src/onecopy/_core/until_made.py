"""Waiting until another process has made a pool, or a thing in it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from onecopy._core.arguments import called, number

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Wait", "until_made"]

Wait: TypeAlias = bool | float

_PAUSE = 0.02  # seconds between two attempts: one costs microseconds
_Found = TypeVar("_Found")


def until_made(find: Callable[[], _Found], missing: type[Exception], wait: Wait) -> _Found:
    """Return what `find` returns, as soon as it does not raise `missing`.

    Parameters
    ----------
    find : callable
        Opens what another process makes.
    missing : type
        The exception that says that it is not there yet. Other exceptions end the wait.
    wait : bool or float
        False: one attempt. True: without limit. A number: for so many seconds.

    Raises
    ------
    missing
        From the last attempt.
    TypeError, ValueError
        `wait` is neither a bool nor a number, or it is negative.
    """
    limit = None if wait is True else number("wait", wait, "True, False, or a number of seconds")
    if limit is not None and not limit >= 0:
        raise ValueError(f"{called()} wait={wait!r}: it is True, False, or seconds from 0 on")
    end = None if limit is None else time.monotonic() + limit
    while True:
        try:
            return find()
        except missing as error:
            pause = _PAUSE if end is None else min(_PAUSE, end - time.monotonic())
            if pause <= 0:
                if limit:
                    error.add_note(f"This is so after a wait of {limit:g} s.")
                raise
        # If the handler of a signal raises, it ends the wait. gevent and eventlet replace `sleep`.
        time.sleep(pause)
