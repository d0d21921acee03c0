"""Calls and results as messages.

A call is pickled when it is submitted. A small one travels in its message; the large parts of
others go into the pool, and what was written there for an earlier call is used again if it is, byte
for byte, what the object holds now. So a table that a thousand calls take is there once, and one
that was changed in between is there twice.
"""

from __future__ import annotations

import io
import pickle
from threading import RLock
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary, finalize, ref

import numpy as np

from onecopy import arrays
from onecopy._native import Ref, same_bytes
from onecopy.codecs import OUT_OF_BAND, Pickler
from onecopy.errors import PoolFull
from onecopy.tables.registry import registry

if TYPE_CHECKING:
    import numpy.typing as npt
    from _typeshed import ReadableBuffer, WriteableBuffer

    from onecopy._native import Member
    from onecopy.pool import Pool
    from onecopy.tables.packing import Later, Write

    Part = ReadableBuffer | Later
    Key = tuple[int, ...]

__all__ = ["Copies", "Packed", "Picklers", "pack", "unpack"]

INLINE = 16 << 10  # bytes of a pickle that travel in the message itself

# Of these nothing is gained by pickling here: the queue's own codec takes them as they are.
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, np.ndarray})


class Packed:
    """A pickle and its buffers, on the way; unpickling it gives the object itself."""

    __slots__ = ("_buffers", "_data")

    def __init__(self, data: Any, buffers: list[npt.NDArray[np.uint8]]) -> None:
        self._data = data
        self._buffers = buffers

    def __reduce__(self) -> Any:
        return unpack, (self._data, self._buffers)


def unpack(data: ReadableBuffer, buffers: list[Any]) -> Any:
    """Rebuild what was packed."""
    return pickle.loads(data, buffers=buffers)


class CallPickler(Pickler):
    """Pickle for calls and results: a reference in them keeps its object alive on the way."""

    def __init__(self, file: io.BytesIO, buffers: list[Part], member: Member) -> None:
        super().__init__(file, buffers, member)

    def reducer_override(self, obj: Any) -> Any:
        """Send the block that a reference is for; leave all other objects to the codecs."""
        if type(obj) is Ref and not obj.released and obj.member is self.member:
            # What is sent by reference is held by the message, as the reference itself is not.
            block = np.frombuffer(memoryview(obj.member.lease(obj.handle)), np.uint8)
            return _ref_to, (self._out_of_band(block),)
        return super().reducer_override(obj)


Picklers = type[CallPickler]


def _ref_to(block: Any) -> Ref:
    lease = arrays.lease_of(np.frombuffer(block, np.uint8))
    if lease is None:
        raise pickle.UnpicklingError("a reference arrived without its block")
    return lease.member.ref(lease.handle)


class Copies:
    """What has been written into the pool for arguments, found again by where it came from.

    A copy stays while a call that takes it is on its way, and as long as the array, or the argument
    (a table, say), that it was made of. It is never taken for current without a look at every byte.

    Parameters
    ----------
    pool : Pool
        The pool to write to. Closing it is up to its owner.

    Notes
    -----
    Threads take turns, so that two that submit the same object write it once.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._turn = RLock()  # a signal handler may submit, too
        self._found: WeakValueDictionary[Key, npt.NDArray[np.uint8]] = WeakValueDictionary()
        self._kept: dict[Key, npt.NDArray[np.uint8]] = {}
        self._watched: set[Key] = set()  # those that the end of an object takes along

    def clear(self) -> None:
        """Keep no copy that no call needs."""
        self._kept.clear()

    def of(self, part: Part, position: int, owners: tuple[Any, ...]) -> npt.NDArray[np.uint8]:
        """Give a copy, in the pool, of what lies elsewhere, or is yet to be written.

        Parameters
        ----------
        part : buffer or tuple
            The bytes, or how many there are and what writes them.
        position : int
            Which part of the call it is: what a library makes anew for each call, at another
            address, is found by this and the arguments.
        owners : tuple of object
            The arguments.

        Returns
        -------
        ndarray of uint8
            Read-only.

        Raises
        ------
        PoolFull
            There is no room, even without the copies that no call needs.
        """
        living = tuple(owner for owner in owners if _can_be_watched(owner))
        with self._turn:
            if isinstance(part, tuple):
                copy = self._written(*part)
                key = (position, copy.nbytes, *map(id, living))
                known = self._known(copy, key)
                return self._remembered(key, copy, living) if known is None else known
            memory = _bytes_of(part)
            address = (arrays.address(memory), memory.nbytes)
            key = (position, memory.nbytes, *map(id, living))
            for place in (address, key):
                known = self._known(memory, place)
                if known is not None:
                    return known
            copy = self._copied(memory)
            self._remembered(address, copy, _owner_of(memory))
            return self._remembered(key, copy, living)

    def of_pickle(self, data: bytes) -> npt.NDArray[np.uint8]:
        """Give a copy of a pickle, which was made anew; one that is on its way is found again."""
        memory = _bytes_of(data)
        key = (hash(data), -len(data))
        with self._turn:
            known = self._known(memory, key)
            return self._remembered(key, self._copied(memory), ()) if known is None else known

    def _known(self, memory: npt.NDArray[np.uint8], key: Key) -> npt.NDArray[np.uint8] | None:
        known = self._found.get(key)
        return known if known is not None and same_bytes(memory, known) else None

    def _remembered(
        self, key: Key, copy: npt.NDArray[np.uint8], owners: tuple[Any, ...]
    ) -> npt.NDArray[np.uint8]:
        self._found[key] = copy
        self._kept.pop(key, None)  # what it was before is stale
        if owners:
            self._kept[key] = copy
            if key not in self._watched:
                self._watched.add(key)
                for owner in owners:
                    finalize(owner, _drop, ref(self), key).atexit = False
        return copy

    def _copied(self, memory: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return self._written(memory.nbytes, lambda room: self._pool.member.fill(room, memory.data))

    def _written(self, nbytes: int, write: Write) -> npt.NDArray[np.uint8]:
        member = self._pool.member
        try:
            copy = arrays.empty(member, nbytes, np.uint8)
        except PoolFull:
            self.clear()
            copy = arrays.empty(member, nbytes, np.uint8)
        write(cast("WriteableBuffer", copy))
        copy.flags.writeable = False
        return copy


def _drop(copies: ref[Copies], key: Key) -> None:
    known = copies()
    if known is not None:
        known._kept.pop(key, None)
        known._watched.discard(key)


def pack(
    call: Any, member: Member, picklers: Picklers, copies: Copies, owners: tuple[Any, ...]
) -> tuple[bytes | Ref, list[npt.NDArray[np.uint8]]]:
    """Encode an object that goes to a worker.

    Parameters
    ----------
    call : object
        Anything that pickle takes.
    member : Member
        The pool that large parts go to.
    picklers : type
        What pickles.
    copies : Copies
        What is there already.
    owners : tuple of object
        What large parts may belong to.

    Returns
    -------
    message : bytes or Ref
        To be sent. Without large parts: the pickle.
    used : list of ndarray
        The copies that it needs, to be found by others while it is on its way.

    Raises
    ------
    PoolFull
        There is no room.
    Exception
        What pickle raises.
    """
    data, buffers, sent = _pickled(call, member, picklers)
    if not buffers and len(data) <= INLINE:
        return data, []
    used = []
    for position, part in enumerate(buffers):
        memory = _within(member, part)
        used.append(copies.of(part, position, owners) if memory is None else memory)
    if len(data) > INLINE:
        used.append(copies.of_pickle(data))
        message = member.put(Packed(used[-1], used[:-1]))
    else:
        message = member.put(Packed(data, used))
    for array in sent:
        _seal(array)
    return message, used


def pack_result(value: Any, member: Member, picklers: Picklers) -> Any:
    """Encode an object that comes back from a worker; raises what pickle raises.

    Returns
    -------
    object
        For the queue. What was a view of an argument travels by reference.
    """
    if type(value) in _PLAIN:
        return value
    data, buffers, sent = _pickled(value, member, picklers)
    memories = []
    for part in buffers:
        memory = _within(member, part)
        if memory is None and isinstance(part, tuple):
            nbytes, write = part
            memory = arrays.empty(member, nbytes, np.uint8)
            write(cast("WriteableBuffer", memory))
        memories.append(_bytes_of(part) if memory is None else memory)
    for array in sent:
        _seal(array)
    large = len(data) >= OUT_OF_BAND
    return Packed(np.frombuffer(data, np.uint8) if large else data, memories)


def _pickled(
    obj: Any, member: Member, picklers: Picklers
) -> tuple[bytes, list[Part], list[npt.NDArray[Any]]]:
    file = io.BytesIO()
    buffers: list[Part] = []
    registry.refresh()
    pickler = picklers(file, buffers, member)
    pickler.dump(obj)
    return file.getvalue(), buffers, pickler.sent


def _within(member: Member, buffer: Part) -> npt.NDArray[np.uint8] | None:
    """Give the buffer as a part of its block, if it lies in the pool."""
    handle = None if isinstance(buffer, tuple) else member.where(buffer)
    if handle is None:
        return None
    block = np.frombuffer(memoryview(member.lease(handle)), np.uint8)
    memory = _bytes_of(buffer)
    start = arrays.address(memory) - arrays.address(block)
    return block[start : start + memory.nbytes]


def _bytes_of(buffer: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(buffer, np.uint8)


def _owner_of(memory: npt.NDArray[np.uint8]) -> tuple[Any, ...]:
    """Find the array that owns the memory; none, if something else does."""
    base: Any = memory
    while True:
        if isinstance(base, memoryview):
            base = base.obj
        elif isinstance(base, np.ndarray):
            if base.base is None:
                return (base,)
            base = base.base
        else:
            return ()


def _can_be_watched(owner: Any) -> bool:
    return type(owner).__weakrefoffset__ != 0 and not callable(owner)


def _seal(array: Any) -> None:
    """Make an array that was sent by reference, and what it is a view of, read-only here."""
    while isinstance(array, np.ndarray):
        array.flags.writeable = False
        array = array.base
