"""Sealing by buffer: what other processes read may not be written here any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._codec.backing import lease_of
from onecopy._native import seal

if TYPE_CHECKING:
    from onecopy._native import Lease

__all__ = ["seal_memory"]


def seal_memory(memory: object) -> bool:
    """Make the arrays and the lease behind a buffer read-only in this process.

    Parameters
    ----------
    memory : object
        An array, a memoryview, or a buffer of another library, in a pool.

    Returns
    -------
    bool
        Whether onecopy can say that it is read-only now. False: it is a shared array, or another
        library owns the memory and does not say which array it was made of.
    """
    array = _first_array(memory)
    if array is None:
        lease = _lease_behind(memory)
        if lease is not None and not lease.readonly:
            seal(memory)
        return lease is not None and lease.readonly
    seal(array)
    sealed = lease_of(array)
    return sealed is not None and sealed.readonly


def _first_array(memory: object) -> np.ndarray[Any, Any] | None:
    while isinstance(memory, memoryview):
        memory = memory.obj
    return memory if isinstance(memory, np.ndarray) else None


def _lease_behind(memory: object) -> Lease | None:
    from onecopy._native import Lease as Kind

    while isinstance(memory, memoryview):
        memory = memory.obj
    return memory if isinstance(memory, Kind) else None
