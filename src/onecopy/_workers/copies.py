"""The cache of copies: what was written into a pool for the arguments of calls, found again."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary, ref

import numpy as np

from onecopy._codec import arrays
from onecopy._codec.backing import address
from onecopy._core import memory_pressure
from onecopy._native import same_bytes
from onecopy._workers.owners import watch

if TYPE_CHECKING:
    import numpy.typing as npt
    from _typeshed import WriteableBuffer

    from onecopy._codec.packing import Write
    from onecopy._workers.owners import Watch
    from onecopy._workers.pickling import Part
    from onecopy.pool import Pool

    Key = tuple[int, ...]

__all__ = ["Copies", "NotNowError", "bytes_of"]


class NotNowError(Exception):
    """There may be room, but calls have enough of it."""


class Copies:
    """What has been written into the pool for arguments, found again by where it came from.

    A copy stays while a call that takes it is on its way. After that it stays until the array that
    owns the original memory is deleted or, if no array owns it, until the arguments of the call
    are. Before a copy is used again, every byte is compared. Copies that no call needs take half
    of the pool at most, and are released when their room is needed.

    Parameters
    ----------
    pool : Pool
        The pool to write to. Closing it is up to its owner.

    Attributes
    ----------
    hold_back : bool
        Whether a call waits for room: then none is encoded ahead of its turn.

    Notes
    -----
    Threads take turns, so that two that submit the same object write it once.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._turn = RLock()  # a signal handler may submit, too
        self._most = pool.size // 2
        self._found: WeakValueDictionary[Key, npt.NDArray[np.uint8]] = WeakValueDictionary()
        # The longest unused one first. Each step on these is atomic in the interpreter, because
        # finalizers and failing allocations may come between two steps in any thread.
        self._kept: OrderedDict[Key, npt.NDArray[np.uint8]] = OrderedDict()
        self._watches: dict[Key, list[Watch]] = {}
        self.hold_back = False
        memory_pressure.register(self)

    def clear(self) -> bool:
        """Keep no copy that no call needs; tell whether there was any."""
        keys = list(self._kept)
        for key in keys:
            self._release(key)
        return bool(keys)

    def forget_all(self) -> None:
        """Forget all, in a forked child, where another thread may have had the turn."""
        self._turn = RLock()
        self.clear()

    def check_room(self, nbytes: int, ahead: bool) -> None:
        """Raise `NotNowError` if so much more would be too much for calls.

        Of the memory that others do not use, a third is for calls. The rest is for results, which
        may be larger, and need it in one piece.
        """
        if ahead and self.hold_back:
            raise NotNowError
        stats = self._pool.member.stats()
        capacity, used = stats["capacity"], stats["used"]
        if 3 * (used + nbytes) <= capacity:
            return
        with self._turn:
            own = sum({id(copy): copy.nbytes for copy in self._found.values()}.values())
        if 3 * (own + nbytes) > capacity - max(0, used - own):
            raise NotNowError

    def room_for(self, part: Part, position: int, owners: tuple[Any, ...]) -> int:
        """Tell how many bytes `of` will probably write: none, if there is a copy from this place.

        It is not compared. If it is stale, calls take that much more than they should.
        """
        if isinstance(part, tuple):
            return part[0]
        memory = bytes_of(part)
        key, _ = _place_of(position, memory, owners)
        return 0 if key in self._found else memory.nbytes

    def of(self, part: Part, position: int, owners: tuple[Any, ...]) -> npt.NDArray[np.uint8]:
        """Give a copy, in the pool, of what lies elsewhere, or is yet to be written.

        Parameters
        ----------
        part : buffer or tuple
            The bytes, or how many there are and what writes them.
        position : int
            Which part of the call it is: what a library makes again for each call, at another
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
        with self._turn:
            if isinstance(part, tuple):
                memory = self._written(*part)
                key, living = _key_of(position, memory, owners)
                known = self._known(memory, key)
                return self._remembered(key, memory, living) if known is None else known
            memory = bytes_of(part)
            key, living = _place_of(position, memory, owners)
            known = self._known(memory, key)
            return self._remembered(key, self._copied(memory), living) if known is None else known

    def of_pickle(self, data: bytes) -> npt.NDArray[np.uint8]:
        """Give a copy of a pickle, found by its bytes: it has a new address each time."""
        memory = bytes_of(data)
        key = (hash(data), -len(data))
        with self._turn:
            known = self._known(memory, key)
            return self._remembered(key, self._copied(memory), ()) if known is None else known

    def _known(self, memory: npt.NDArray[np.uint8], key: Key) -> npt.NDArray[np.uint8] | None:
        known = self._found.get(key)
        if known is None or not same_bytes(memory, known):
            return None
        with suppress(KeyError):  # it need not be kept
            self._kept.move_to_end(key)
        return known

    def _remembered(
        self, key: Key, copy: npt.NDArray[np.uint8], owners: tuple[Any, ...]
    ) -> npt.NDArray[np.uint8]:
        self._found[key] = copy
        self._release(key)  # what it was before is stale
        if owners and copy.nbytes <= self._most:
            self._kept[key] = copy
            drop = partial(_drop, ref(self), key)
            self._watches[key] = [watch(owner, drop) for owner in owners]
            self._bound()
        return copy

    def _bound(self) -> None:
        # Not `items`: making a pair may collect garbage, and a finalizer then changes the dict.
        sizes = {old: self._kept[old].nbytes for old in list(self._kept) if old in self._kept}
        total = sum(sizes.values())
        for old, nbytes in sizes.items():
            if total <= self._most:
                break
            total -= nbytes
            self._release(old)

    def _release(self, key: Key) -> None:
        self._kept.pop(key, None)
        for begun in self._watches.pop(key, ()):
            begun.end()

    def _copied(self, memory: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return self._written(memory.nbytes, lambda room: self._pool.member.fill(room, memory.data))

    def _written(self, nbytes: int, write: Write) -> npt.NDArray[np.uint8]:
        # An allocation that fails releases the copies that are kept, here and elsewhere, and is
        # tried again.
        copy = arrays.empty(self._pool.member, nbytes, np.uint8)
        write(cast("WriteableBuffer", copy))
        copy.flags.writeable = False
        return copy


def _drop(copies: ref[Copies], key: Key) -> None:
    known = copies()
    if known is not None:
        known._release(key)


def _place_of(
    position: int, memory: npt.NDArray[np.uint8], owners: tuple[Any, ...]
) -> tuple[Key, tuple[Any, ...]]:
    """Return the key of a copy, and the objects with whose end the copy is released.

    That is the array that owns the memory. If no array owns it, it is the arguments of the call.
    """
    living = _owner_of(memory)
    if living:
        return (address(memory), memory.nbytes), living
    return _key_of(position, memory, owners)


def _key_of(
    position: int, memory: npt.NDArray[np.uint8], owners: tuple[Any, ...]
) -> tuple[Key, tuple[Any, ...]]:
    living = tuple(owner for owner in owners if _can_be_watched(owner))
    return (position, memory.nbytes, *map(id, living)), living


def bytes_of(buffer: Any) -> npt.NDArray[np.uint8]:
    """Give any buffer as bytes."""
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
