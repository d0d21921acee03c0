"""Places: where bytes lie in a pool, as a few numbers that any transport can carry.

A place keeps nothing alive, and may come from anywhere. `checked` looks at its form, `memory_at`
asks the core whether its block is there. Both read each number once and never unpickle.
"""

from __future__ import annotations

from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onecopy._codec.backing import address
from onecopy._core import membership
from onecopy.errors import StaleRef

if TYPE_CHECKING:
    from onecopy._native import Member

__all__ = ["ID_BYTES", "Place", "checked", "find", "flat_bytes", "identity_of", "memory_at"]

ID_BYTES = 16  # of `Pool.id`; the identity has as many bytes again
_BLOCK_END = 1 << 64
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Place(NamedTuple):
    """Where bytes lie in a pool.

    It keeps nothing alive, and is valid on one machine only, as long as a process holds the block.

    Attributes
    ----------
    pool : bytes
        32 bytes: the id of the pool, and a digest of the machine and the pool's file.
    block : int
        The handle of the block, below 2**64.
    offset, nbytes : int
        The part of the block, in bytes.

    Examples
    --------
    >>> pool = oc.Pool("places", size="16MiB")
    >>> image = pool.zeros((480, 640), np.uint8)
    >>> place = pool.where(image[100:200])
    >>> place.nbytes
    64000
    """

    pool: bytes
    block: int
    offset: int
    nbytes: int


_identities: dict[membership.Key, bytes] = {}  # the last ones that were asked for
_MOST = 64


def identity_of(member: Member) -> bytes:
    """Return 32 bytes that are equal for the same pool only, and differ for a copy of its file.

    A copied file has the id of the original, and its block numbers lead to other data. So the
    identity also has the running machine, and the device and inode of the file.
    """
    key = membership.key_of(member)
    known = _identities.get(key)
    if known is None:
        from hashlib import blake2b  # only when needed, so that imports stay fast

        if len(_identities) >= _MOST:
            _identities.clear()
        where = f"{_boot_id()} {key[1]} {key[2]}".encode()
        known = _identities[key] = key[0] + blake2b(where, digest_size=ID_BYTES).digest()
    return known


def _boot_id() -> str:
    try:
        with open(_BOOT_ID, encoding="ascii") as file:  # noqa: PTH123 - pathlib is not loaded
            return file.read().strip()
    except OSError:  # unknown: this process sees no process but those that cannot read it either
        return ""


def flat_bytes(buffer: Any) -> memoryview[Any]:
    """Return a contiguous buffer as bytes.

    Raises
    ------
    BufferError
        It is not contiguous.
    TypeError
        It is not a buffer.
    """
    return PickleBuffer(buffer).raw()


def find(member: Member, memory: memoryview[Any]) -> Place | None:
    """Find the place of bytes that lie in a block of a pool. The bytes' owner holds the block."""
    if not memory.nbytes:
        return None
    handle = member.where(memory)
    if handle is None:
        return None
    block = np.frombuffer(memoryview(member.lease(handle)), np.uint8)
    offset = address(np.frombuffer(memory, np.uint8)) - address(block)
    if offset + memory.nbytes > block.nbytes:  # of several blocks
        return None
    return Place(identity_of(member), handle, offset, memory.nbytes)


def checked(item: object) -> Place:
    """Check the form of a place, which may come from anywhere.

    Raises
    ------
    StaleRef
        It cannot be a place.
    """
    match item:
        case (bytes() as pool, int() as block, int() as offset, int() as nbytes) if (
            len(pool) == 2 * ID_BYTES
            and not any(isinstance(number, bool) for number in (block, offset, nbytes))
            and 0 < block < _BLOCK_END
            and offset >= 0
            and nbytes > 0
        ):
            return Place(pool, block, offset, nbytes)
    raise StaleRef(
        f"{item!r:.200} is not a place of a pool: its message is damaged or forged. Send the bytes"
    )


def memory_at(member: Member, place: Place, held: dict[int, memoryview[Any]]) -> memoryview[Any]:
    """Return the memory of a place. It holds its block.

    Parameters
    ----------
    member : Member
        The membership in the pool that the place shall be in.
    place : Place
        A place of the right form.
    held : dict
        Blocks that this call holds already.

    Raises
    ------
    StaleRef
        The memory is not there.
    """
    if place.pool != identity_of(member):
        same = place.pool[:ID_BYTES] == member.id
        raise StaleRef(
            "the place is in another pool than this one"
            + (": in a copy of its file, or on another machine" if same else "")
            + ". Compare the pools first (can_see), and send the bytes if they differ"
        )
    whole = held.get(place.block)
    if whole is None:
        whole = held[place.block] = memoryview(member.lease(place.block))
    end = place.offset + place.nbytes
    if end > whole.nbytes:
        raise StaleRef(
            f"bytes {place.offset} to {end} are not in the block of that place, which has "
            f"{whole.nbytes} bytes: the place is damaged or forged. Send the bytes"
        )
    return whole[place.offset : end]
