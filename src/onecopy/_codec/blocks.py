"""Buffers in pools that are open for reading only. They travel by the names of pool and block.

`leased` does this for numpy's arrays. Other libraries (columns of Arrow and pandas) give buffers
that are not in the pickle. For each large buffer, `onecopy._codec.pickler` calls this module to
find out whether the buffer lies in such a pool.
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
    """A part of a block in a pool.

    Attributes
    ----------
    pool : PoolHandle
        The handle of the pool.
    block : int
        The block's handle.
    offset, nbytes : int
        The place of the part, from the first byte of the block.
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
        A contiguous view of bytes, not empty.
    members : iterable of Member
        Memberships in pools that are open for reading only.

    Returns
    -------
    Place or None
        None: the buffer lies in none of them.
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
    """Return the bytes of a place. The arguments are the fields of `Place`.

    Raises
    ------
    StaleRef
        The pool has changed since.
    OneCopyError, OSError
        The errors of `Pool.open`.
    """
    place = Place(*parts)
    memory = memoryview(membership.join(place.pool).lease(place.block)).toreadonly()
    end = place.offset + place.nbytes
    if not 0 <= place.offset <= end <= memory.nbytes:
        raise StaleRef(
            f"the block of that handle is not the block of this buffer: it has {memory.nbytes} "
            f"bytes, and the buffer was in bytes {place.offset} to {end}"
        )
    part = memory[place.offset : end]
    return memoryview(to_private(part)) if is_private() else part
