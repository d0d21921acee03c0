"""Buffers in pools that are open for reading only: on their way they name the pool and the block.

`leased` does it for numpy's arrays, which can be taken apart as such. What other libraries hand out
(Arrow's columns, pandas' of them) are buffers that the pickle leaves out; `onecopy.codecs` asks
here for each that is large whether it lies in such a pool.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onecopy import membership
from onecopy.arrays import address
from onecopy.errors import StaleRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import ReadableBuffer

    from onecopy._native import Member
    from onecopy.membership import PoolHandle
    from onecopy.tables.packing import Later

__all__ = ["Place", "find", "readers", "wrap"]


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


def readers() -> tuple[Member, ...]:
    """List the pools that this process has open for reading only."""
    members = list(membership._members.values())
    return tuple(member for member in members if member.readonly and member.joined)


def find(memory: memoryview[Any], members: tuple[Member, ...]) -> Place | None:
    """Find the pool that a buffer lies in.

    Parameters
    ----------
    memory : memoryview
        Contiguous, of bytes, not empty.
    members : tuple of Member
        From `readers`.

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


def wrap(
    data: bytes, places: Sequence[tuple[int, Place]], buffers: Sequence[ReadableBuffer | Later]
) -> bytes:
    """Put a pickle, and the places of its buffers that lie in such pools, into another pickle.

    Parameters
    ----------
    data : bytes
        The pickle.
    places : sequence of (int, Place)
        Which of its buffers, counted from 0, ascending; and where it lies.
    buffers : sequence of buffers
        The others, in order.

    Returns
    -------
    bytes
        A pickle of the same object, for the others alone: ``pickle.loads(…, buffers=buffers)``. It
        raises what `Pool.open` raises, and `StaleRef` if the pool has been changed since.
    """
    return pickle.dumps(_Whole(data, places, buffers), 5, buffer_callback=lambda _: None)


class _Whole:
    """What `wrap` pickles."""

    def __init__(
        self,
        data: bytes,
        places: Sequence[tuple[int, Place]],
        buffers: Sequence[ReadableBuffer | Later],
    ) -> None:
        self._parts = (
            data,
            [(index, tuple(place)) for index, place in places],
            # Pickle notes whether one may be written; what is yet to be written, may.
            [
                pickle.PickleBuffer(bytearray() if isinstance(part, tuple) else part)
                for part in buffers
            ],
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _loads, self._parts


def _loads(data: bytes, places: list[tuple[int, Any]], buffers: list[ReadableBuffer]) -> Any:
    for index, place in places:
        buffers.insert(index, _memory_of(Place(*place)))
    return pickle.loads(data, buffers=buffers)


def _memory_of(place: Place) -> memoryview[Any]:
    memory = memoryview(membership.join(place.pool).lease(place.block)).toreadonly()
    end = place.offset + place.nbytes
    if not 0 <= place.offset <= end <= memory.nbytes:
        raise StaleRef(
            f"the block of that handle is not this buffer's: it has {memory.nbytes} bytes, and the "
            f"buffer was in bytes {place.offset} to {end} of it"
        )
    return memory[place.offset : end]
