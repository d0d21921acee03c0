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
from contextlib import suppress
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from onecopy import _native
from onecopy._codec import arrays
from onecopy._codec.backing import address
from onecopy._codec.pickler import OUT_OF_BAND
from onecopy._codec.registry import registry
from onecopy._core import memory_pressure
from onecopy._core.keepalive import Keeping
from onecopy._core.pool_full import pool_full_message
from onecopy._native import Ref, is_plain
from onecopy._workers.copies import bytes_of
from onecopy._workers.pickling import CallPickler
from onecopy.errors import PoolFull

if TYPE_CHECKING:
    import numpy.typing as npt
    from _typeshed import ReadableBuffer, WriteableBuffer

    from onecopy._native import Member
    from onecopy._workers.copies import Copies
    from onecopy._workers.pickling import Part, Picklers

__all__ = [
    "Message",
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


class Urgency(Enum):
    """Whether a call is encoded ahead of its turn, in its turn, or while no other is out."""

    AHEAD = 0
    TURN = 1
    ALONE = 2


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
        memories.append(bytes_of(part) if memory is None else memory)
    _seal(sent)
    large = len(data) >= OUT_OF_BAND
    return Packed(bytes_of(data) if large else data, memories), kept


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
        from onecopy._workers.by_value import ValuePickler
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
    memory = bytes_of(buffer)
    start = address(memory) - address(block)
    return block[start : start + memory.nbytes]


def _seal(sent: list[npt.NDArray[Any]]) -> None:
    """Make arrays that were sent by reference, and what they are views of, read-only here."""
    for array in sent:
        _native.seal(array)
