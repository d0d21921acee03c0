"""The worker's side of an executor: what runs in its process."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from onecopy._workers.remote import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy.executor.channels import Calls, Results

__all__ = ["work"]

_log = logging.getLogger("concurrent.futures")  # where its users look


def work(
    calls: Calls,
    results: Results,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    most: int | None,
) -> None:
    """Be a worker: run calls until there are no more, or `most` of them."""
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as error:  # noqa: BLE001 - it is the initializer's
            _log.critical("Exception in initializer:", exc_info=True)
            results.initializer_failed(error)
            return
    count = 0
    while (call := calls.get()) is not None:
        number, function, args, kwargs = call
        del call
        count += 1
        leaves = os.getpid() if count == most else None
        try:
            result = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - it is the call's
            results.failed(number, RemoteError(error), leaves)
        else:
            results.returned(number, result, leaves)
            del result
        del function, args, kwargs  # what they hold is not kept while the worker waits
        if leaves is not None:
            return
