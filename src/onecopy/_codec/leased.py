"""Arrays of a pool that is open for reading only. They travel by the name of the pool.

Such a pool has no members, so no reference can hold a block while it travels. But the pool does not
change while a process reads it. So the handle of the pool and the handle of the block are enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._codec.backing import address
from onecopy._codec.copy_mode import is_private
from onecopy._core import membership
from onecopy._native import to_private
from onecopy.errors import StaleRef

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy._core.membership import PoolHandle
    from onecopy._native import Lease

__all__ = ["reduce_leased"]


def reduce_leased(array: npt.NDArray[Any], lease: Lease) -> tuple[Any, ...]:
    """Take apart an array for pickle.

    Parameters
    ----------
    array : ndarray
        An array whose memory lies in a pool that is open for reading only. Any strides.
    lease : Lease
        The lease at the end of its chain of bases.

    Returns
    -------
    tuple
        As from ``__reduce__``. The receiver opens the pool for reading, too. Unpickling raises the
        errors of `Pool.open`, and `StaleRef` if the pool has changed since.
    """
    whole = lease.member.lease(lease.handle)
    start = address(np.frombuffer(memoryview(whole), np.uint8))
    return _rebuild, (
        membership.handle_of(lease.member),
        lease.handle,
        array.dtype,
        array.shape,
        array.strides,
        address(array) - start,
    )


def _rebuild(
    pool: PoolHandle,
    handle: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
) -> npt.NDArray[Any]:
    lease = membership.join(pool).lease(handle)
    try:
        memory = to_private(lease) if is_private() else lease
        array = np.ndarray(shape, dtype, memoryview(memory), offset, strides)
    except (TypeError, ValueError) as error:  # it does not fit the block
        raise StaleRef(f"the block of that handle is not this array: {error}") from error
    array.flags.writeable = memory is not lease
    return array
