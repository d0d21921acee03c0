"""The worker's side of a group: what runs in its process."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any

from onecopy._core import membership
from onecopy._workers.parents import Parent
from onecopy._workers.signals import start_without_signals
from onecopy.errors import OneCopyError, ShutDown
from onecopy.supervisor import signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

__all__ = ["in_one_line", "read", "work"]

_BEGUN = b""
_LONGEST = 3000  # bytes of an error's text: a pipe takes that in one piece, and without waiting


def work(
    report: Connection[bytes, bytes],
    grace: float,
    mask: set[signal.Signals | int],
    target: Callable[..., object],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Run the function in a worker process."""
    signals.be_a_worker(mask)
    start_without_signals(
        threading.Thread(
            target=_end_with, args=(Parent(), grace), name="onecopy-supervised", daemon=True
        )
    )
    report.send_bytes(_BEGUN)
    # The message that its predecessor had taken comes back now, before those behind it. Here and
    # not in the supervisor, which must not wait for a process that was stopped.
    for member in membership.current():
        with suppress(OneCopyError):
            member.collect()
    try:
        target(*args, **kwargs)
    except ShutDown:
        return  # there is nothing left to do
    except SystemExit as error:
        if isinstance(error.code, str):
            _tell(report, error.code)
        raise
    except BaseException as error:
        _tell(report, in_one_line(error))
        raise


def in_one_line(error: BaseException) -> str:
    """Return the text of an error, as in the last line of its traceback."""
    return "".join(format_exception_only(error)).strip()


def _tell(report: Connection[bytes, bytes], text: str) -> None:
    with suppress(OSError):  # the supervisor has ended
        report.send_bytes(text.encode("utf-8", "replace")[:_LONGEST])


def read(report: Connection[bytes, bytes]) -> tuple[bool, str | None]:
    """Read what a worker that has ended reported.

    Returns
    -------
    (bool, str or None)
        Whether it came as far as to call its target, and the error that ended it.
    """
    begun, text = False, None
    with suppress(EOFError, OSError):
        while report.poll():
            message = report.recv_bytes()
            if message == _BEGUN:
                begun = True
            else:
                text = message.decode("utf-8", "replace")
    return begun, text


def _end_with(parent: Parent, grace: float) -> None:
    """End this process when the supervisor has ended: as `stop` would."""
    parent.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os.kill(os.getpid(), signal.SIGKILL)
