"""Buffers in pools that are open for reading only: on their way they name the pool and the block.

`leased` does it for numpy's arrays, which can be taken apart as such. What other libraries hand out
(columns of Arrow and pandas) are buffers that the pickle leaves out; `onecopy._codec.pickler` asks
here for each that is large whether it lies in such a pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onecopy._codec.backing import address
from onecopy._codec.copy_mode import is_private
from onecopy._core import membership
from onecopy._native import to_private
from onecopy.errors import StaleRef

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onecopy._core.membership import PoolHandle
    from onecopy._native import Member

__all__ = ["Place", "bytes_of", "find"]


class Place(NamedTuple):
    """A part of a block of a pool.

    Attributes
    ----------
    pool : PoolHandle
        Of the pool.
    block : int
        The block's handle.
    offset, nbytes : int
        From its first byte.
    """

    pool: PoolHandle
    block: int
    offset: int
    nbytes: int


def find(memory: memoryview[Any], members: Iterable[Member]) -> Place | None:
    """Find the pool that a buffer lies in.

    Parameters
    ----------
    memory : memoryview
        Contiguous, of bytes, not empty.
    members : iterable of Member
        That have pools open for reading only.

    Returns
    -------
    Place or None
        None: in none of them.
    """
    for member in members:
        handle = member.where(memory)
        if handle is None:
            continue
        block = np.frombuffer(memoryview(member.lease(handle)), np.uint8)
        offset = address(np.frombuffer(memory, np.uint8)) - address(block)
        if offset + memory.nbytes <= block.nbytes:
            return Place(membership.handle_of(member), handle, offset, memory.nbytes)
    return None


def bytes_of(*parts: Any) -> memoryview[Any]:
    """Give the bytes of a place, taken apart.

    Raises
    ------
    StaleRef
        The pool has been changed since.
    OneCopyError, OSError
        What `Pool.open` raises.
    """
    place = Place(*parts)
    memory = memoryview(membership.join(place.pool).lease(place.block)).toreadonly()
    end = place.offset + place.nbytes
    if not 0 <= place.offset <= end <= memory.nbytes:
        raise StaleRef(
            f"the block of that handle is not this buffer's: it has {memory.nbytes} bytes, and the "
            f"buffer was in bytes {place.offset} to {end} of it"
        )
    part = memory[place.offset : end]
    return memoryview(to_private(part)) if is_private() else part
