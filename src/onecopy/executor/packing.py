"""Calls and results as messages.

A call is pickled when it is submitted. A small one travels in its message; the large parts of
others go into the pool, and what was written there for an earlier call is used again if it is, byte
for byte, what the object holds now. So a table that a thousand calls take is there once, and one
that was changed in between is there twice.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import OrderedDict
from contextlib import suppress
from enum import Enum
from functools import cache
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakValueDictionary, finalize, ref

import numpy as np

from onecopy._codec import arrays
from onecopy._codec.backing import address
from onecopy._codec.pickler import OUT_OF_BAND
from onecopy._codec.registry import registry
from onecopy._core import memory_pressure
from onecopy._core.keepalive import Keeping
from onecopy._core.pool_full import pool_full_message
from onecopy._native import Ref, is_plain, same_bytes
from onecopy.errors import PoolFull
from onecopy.executor.pickling import CallPickler

if TYPE_CHECKING:
    import numpy.typing as npt
    from _typeshed import ReadableBuffer, WriteableBuffer

    from onecopy._codec.packing import Write
    from onecopy._native import Member
    from onecopy.executor.pickling import Part, Picklers
    from onecopy.pool import Pool

    Key = tuple[int, ...]

__all__ = [
    "Copies",
    "Message",
    "NotNowError",
    "Packed",
    "Urgency",
    "is_interactive",
    "pack",
    "pack_result",
    "unpack",
    "value_picklers",
]

NEVER = "It is no use to wait for room."
INLINE = 16 << 10  # bytes of a pickle that travel in the message itself


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


class NotNowError(Exception):
    """There may be room, but calls have enough of it."""


class Urgency(Enum):
    """Whether a call is encoded ahead of its turn, in its turn, or while no other is out."""

    AHEAD = 0
    TURN = 1
    ALONE = 2


class Copies:
    """What has been written into the pool for arguments, found again by where it came from.

    A copy stays while a call that takes it is on its way, and after that as long as the array that
    owns the memory it was made of; where no array does, as long as the arguments of the call. It is
    never taken for current without a look at every byte. Copies that no call needs take half of the
    pool at most, and go when somebody needs the room.

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
        # The longest unused one first. Each step on these is one of the interpreter's: finalizers,
        # and allocations that fail, come in between in any thread.
        self._kept: OrderedDict[Key, npt.NDArray[np.uint8]] = OrderedDict()
        self._watches: dict[Key, list[finalize[Any, Any]]] = {}
        self.hold_back = False
        memory_pressure.register(self)

    def clear(self) -> bool:
        """Keep no copy that no call needs; tell whether there was any."""
        keys = list(self._kept)
        for key in keys:
            self._let_go(key)
        return bool(keys)

    def begin_anew(self) -> None:
        """Forget all, in a forked child, where another thread may have had the turn."""
        self._turn = RLock()
        self.clear()

    def check_room(self, nbytes: int, ahead: bool) -> None:
        """Raise `NotNowError` if so much more would be too much for calls.

        Of what is not somebody else's a third is for calls; the rest is for results, which may be
        larger, and have to find it in one piece.
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
        memory = _bytes_of(part)
        key, _ = _place_of(position, memory, owners)
        return 0 if key in self._found else memory.nbytes

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
        with self._turn:
            if isinstance(part, tuple):
                memory = self._written(*part)
                key, living = _key_of(position, memory, owners)
                known = self._known(memory, key)
                return self._remembered(key, memory, living) if known is None else known
            memory = _bytes_of(part)
            key, living = _place_of(position, memory, owners)
            known = self._known(memory, key)
            return self._remembered(key, self._copied(memory), living) if known is None else known

    def of_pickle(self, data: bytes) -> npt.NDArray[np.uint8]:
        """Give a copy of a pickle, which was made anew; one that is on its way is found again."""
        memory = _bytes_of(data)
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
        self._let_go(key)  # what it was before is stale
        if owners and copy.nbytes <= self._most:
            self._kept[key] = copy
            self._watches[key] = [finalize(owner, _drop, ref(self), key) for owner in owners]
            for watch in self._watches[key]:
                watch.atexit = False
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
            self._let_go(old)

    def _let_go(self, key: Key) -> None:
        self._kept.pop(key, None)
        for watch in self._watches.pop(key, ()):
            watch.detach()

    def _copied(self, memory: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return self._written(memory.nbytes, lambda room: self._pool.member.fill(room, memory.data))

    def _written(self, nbytes: int, write: Write) -> npt.NDArray[np.uint8]:
        # An allocation that fails lets go of what is kept, here and elsewhere, and is tried again.
        copy = arrays.empty(self._pool.member, nbytes, np.uint8)
        write(cast("WriteableBuffer", copy))
        copy.flags.writeable = False
        return copy


def _drop(copies: ref[Copies], key: Key) -> None:
    known = copies()
    if known is not None:
        known._let_go(key)


def _place_of(
    position: int, memory: npt.NDArray[np.uint8], owners: tuple[Any, ...]
) -> tuple[Key, tuple[Any, ...]]:
    """Give what memory is found by, and with whom its copy goes: its array, or the arguments."""
    living = _owner_of(memory)
    if living:
        return (address(memory), memory.nbytes), living
    return _key_of(position, memory, owners)


def _key_of(
    position: int, memory: npt.NDArray[np.uint8], owners: tuple[Any, ...]
) -> tuple[Key, tuple[Any, ...]]:
    living = tuple(owner for owner in owners if _can_be_watched(owner))
    return (position, memory.nbytes, *map(id, living)), living


class Message(NamedTuple):
    """A call, encoded.

    Attributes
    ----------
    call : bytes or Ref
        What is sent, or whose handle is. Without large parts: the pickle.
    kept : list of object
        What has to stay until the call is answered: copies, so that others find them, and what was
        pickled by reference.
    """

    call: bytes | Ref
    kept: list[Any]


def pack(
    call: Any,
    member: Member,
    picklers: Picklers,
    copies: Copies,
    owners: tuple[Any, ...],
    urgency: Urgency,
    *,
    keeps: bool = True,
) -> Message:
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
    urgency : Urgency
        How much of the pool it may take.
    keeps : bool
        Whether the message's `kept` is kept until the call is answered.

    Returns
    -------
    Message

    Raises
    ------
    PoolFull
        There is no room.
    NotNowError
        It should wait for its turn.
    Exception
        What pickle raises.
    """
    with Keeping() as kept:
        data, buffers, sent = _pickled(call, member, picklers, keeps=keeps)
    if not buffers and len(data) <= INLINE:
        _seal(sent)
        return Message(data, kept)
    nbytes = sum(
        copies.room_for(part, position, owners)
        for position, part in enumerate(buffers)
        if isinstance(part, tuple) or member.where(part) is None
    )
    if len(data) > INLINE:
        nbytes += len(data)
    if nbytes > member.capacity:
        error = PoolFull(pool_full_message(member, nbytes))
        error.add_note(NEVER)
        raise error
    if nbytes and urgency is not Urgency.ALONE:
        copies.check_room(nbytes, urgency is Urgency.AHEAD)
    used = []
    for position, part in enumerate(buffers):
        memory = _within(member, part)
        used.append(copies.of(part, position, owners) if memory is None else memory)
    if len(data) > INLINE:
        used.append(copies.of_pickle(data))
        packed = Packed(used[-1], used[:-1])
    else:
        packed = Packed(data, used)
    before = memory_pressure.times()
    try:
        ref_to_it = member.put(packed)
    except PoolFull:
        if memory_pressure.times() == before:
            raise
        ref_to_it = member.put(packed)
    _seal(sent)
    return Message(ref_to_it, kept + used)


def pack_result(value: Any, member: Member, picklers: Picklers) -> tuple[Any, list[Any]]:
    """Encode an object that comes back from a worker; raises what pickle raises.

    Returns
    -------
    value : object
        For the queue, whose own codec takes plain values and arrays as they are. What was a view
        of an argument travels by reference.
    kept : list of object
        What was pickled by reference: it should stay until it has arrived.
    """
    if is_plain(value) or (type(value) is np.ndarray and not value.dtype.hasobject):
        return value, []
    with Keeping() as kept:
        data, buffers, sent = _pickled(value, member, picklers, keeps=False)
    memories = []
    for part in buffers:
        memory = _within(member, part)
        if memory is None and isinstance(part, tuple):
            nbytes, write = part
            try:
                memory = arrays.empty(member, nbytes, np.uint8)
            except PoolFull:
                memory = np.empty(nbytes, np.uint8)  # the queue waits for room, and copies it
            write(cast("WriteableBuffer", memory))
        memories.append(_bytes_of(part) if memory is None else memory)
    _seal(sent)
    large = len(data) >= OUT_OF_BAND
    return Packed(_bytes_of(data) if large else data, memories), kept


def _pickled(
    obj: Any, member: Member, picklers: Picklers, *, keeps: bool
) -> tuple[bytes, list[Part], list[npt.NDArray[Any]]]:
    registry.refresh()
    if picklers is CallPickler and is_interactive():
        picklers = value_picklers() or picklers
    if picklers is not CallPickler:
        return _dumped(obj, member, picklers, keeps)
    try:
        return _dumped(obj, member, picklers, keeps)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        by_value = value_picklers()
        if by_value is None:
            raise _without_cloudpickle(error) from None
        with suppress(Exception):  # the first error says more
            return _dumped(obj, member, by_value, keeps)
        raise


def _dumped(
    obj: Any, member: Member, picklers: Picklers, keeps: bool
) -> tuple[bytes, list[Part], list[npt.NDArray[Any]]]:
    file = io.BytesIO()
    buffers: list[Part] = []
    pickler = picklers(file, buffers, member, keeps=keeps)
    pickler.dump(obj)
    return file.getvalue(), buffers, pickler.sent


def is_interactive() -> bool:
    """Tell whether functions of `__main__` are in no file that a worker could import.

    Where workers are forked they have those that were there before, which may have changed since.
    """
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return hasattr(sys, "ps1") or file is None or file.startswith("<")


@cache
def value_picklers() -> Picklers | None:
    """Give what pickles functions by value; None: cloudpickle is not installed."""
    try:
        from onecopy.executor.by_value import ValuePickler
    except ImportError:
        return None
    return ValuePickler


def _without_cloudpickle(error: Exception) -> Exception:
    """Name what is missing, if the error is about a function or a class without a name."""
    text = str(error)
    if isinstance(error, TypeError) or not text.startswith(("Can't pickle", "Can't get local")):
        return error
    return type(error)(
        f"{text}. Lambdas, functions within functions, and functions and classes of an interactive "
        "session are sent by value if cloudpickle is installed: "
        "pip install 'onecopy[cloudpickle]'. Without it, define it at the top level of a module."
    )


def _within(member: Member, buffer: Part) -> npt.NDArray[np.uint8] | None:
    """Give the buffer as a part of its block, if it lies in the pool."""
    handle = None if isinstance(buffer, tuple) else member.where(buffer)
    if handle is None:
        return None
    block = np.frombuffer(memoryview(member.lease(handle)), np.uint8)
    memory = _bytes_of(buffer)
    start = address(memory) - address(block)
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


def _seal(sent: list[npt.NDArray[Any]]) -> None:
    """Make arrays that were sent by reference, and what they are views of, read-only here."""
    for array in sent:
        base: Any = array
        while isinstance(base, np.ndarray):
            base.flags.writeable = False
            base = base.base
