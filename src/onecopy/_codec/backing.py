"""Where an array's memory lies: in a block of a pool, in private pages of one, or elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._native import Lease, PrivateMemory, address, born_lease

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["address", "lease_of", "memory_behind"]


def lease_of(array: npt.NDArray[Any]) -> Lease | None:
    """Find the lease at the end of an array's chain of bases.

    Parameters
    ----------
    array : ndarray
        Any array.

    Returns
    -------
    Lease or None
        None: its memory lies in no pool, or it is empty, or another library wrapped it.
    """
    behind = memory_behind(array)
    return behind if isinstance(behind, Lease) else None


def memory_behind(array: npt.NDArray[Any]) -> Lease | PrivateMemory | None:
    """Find the memory of a pool, or private pages of it, at the end of an array's chain of bases.

    None: its memory lies elsewhere, or it is empty, or another library wrapped it.
    """
    if not array.size:
        return None
    base: object = array
    while True:
        if isinstance(base, np.ndarray):
            if base.base is None:
                return born_lease(base)
            base = base.base
        elif isinstance(base, memoryview):
            base = base.obj
        else:
            return base if isinstance(base, (Lease, PrivateMemory)) else None
