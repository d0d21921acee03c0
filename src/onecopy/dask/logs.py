"""The logs that Dask's servers keep in memory, without the data of the frames that have failed.

Each server keeps its last records. A record of an exception refers to its traceback, that one to
the frames, and they to what their functions had: also to arrays that were on their way when the
peer was killed. So a worker would hold them, and their memory in the pool, for 10,000 records. A
record that is kept here has the traceback as text. `get_logs` gives the same text as before.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

from distributed.utils import DequeHandler

__all__ = ["install", "uninstall"]

_formatter: logging.Formatter = logging.Formatter()
_original: Any = DequeHandler.emit


def install() -> None:
    """Have the servers of this process keep tracebacks as text."""
    DequeHandler.emit = _emit


def uninstall() -> None:
    """Have new records be kept as Dask does."""
    DequeHandler.emit = _original


def _emit(handler: DequeHandler, record: logging.LogRecord) -> None:
    if record.exc_info:
        kept = copy.copy(record)  # other handlers get the record with the exception
        if not kept.exc_text:
            kept.exc_text = _formatter.formatException(record.exc_info)
        kept.exc_info = None
        record = kept
    _original(handler, record)
