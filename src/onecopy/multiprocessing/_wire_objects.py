"""The messages of managers and proxies: pickles with stand-ins for blocks of a pool."""

from __future__ import annotations

import pickle
import threading
from multiprocessing import managers as standard
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from onecopy._codec.arrays import SharedArray
from onecopy._codec.backing import lease_of
from onecopy._core import membership
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from onecopy._core.membership import PoolHandle
    from onecopy._native import Member, Ref

    class Receiver(Protocol):
        """What is used of a `Connection` here, to which a message goes."""

        handle: PoolHandle | None
        serializer: SerializerName | None

        def pool(self) -> Member | None: ...
        def pool_id(self) -> bytes | None: ...
        def is_ours(self) -> bool: ...

    class Asker(Protocol):
        """What is used of a `ClientConnection` here, from which a message comes."""

        owes: bool


__all__ = [
    "SERIALIZER",
    "STANDARD",
    "Apart",
    "MessagePickler",
    "arrive",
    "receivers_own",
    "receiving",
    "together",
]

LARGE = 64 << 10  # bytes; from here a copy into the pool takes less time than a socket

# `connection`: this thread unpickles a message of it. `serializer`: of that connection, with TLS.
receiving = threading.local()


class SerializerName(str):
    """The name of this serializer, as managers and proxies use it.

    A pickle of it imports this module. So a proxy can be unpickled in a process that has not
    imported the module yet.
    """

    __slots__ = ()
    __module__ = "onecopy.multiprocessing._wire"  # the module that registers it

    def __reduce__(self) -> str:
        return "SERIALIZER"


SERIALIZER = SerializerName("onecopy")


def receivers_own() -> SerializerName:
    """Return the serializer of the connection of a message, which has the receiver's files for TLS.

    It replaces the sender's serializer with TLS in a message over TLS: names of files have no
    meaning on another host.

    Raises
    ------
    UnpicklingError
        The message did not come over TLS.
    """
    own: SerializerName | None = getattr(receiving, "serializer", None)
    if own is None:
        raise pickle.UnpicklingError("this proxy belongs to a message that came over TLS")
    return own


# Proxy types of onecopy, and the standard types for peers without onecopy. `managers` fills it.
STANDARD: dict[Any, Any] = {}


class MessagePickler(reduction.ForkingPickler):
    """Pickle a message for one connection."""

    def __init__(self, file: io.BytesIO, to: Receiver) -> None:
        self._to = to
        self.kept: list[Ref] = []
        self.apart: list[int] = []  # blocks of buffers that are not arrays
        # Not a method of self: such a reference cycle would keep arrays alive until the garbage
        # collector runs.
        super().__init__(file, 5, True, _callback(to, self.kept, self.apart))

    def reducer_override(self, obj: Any) -> Any:
        """Reduce arrays, proxies and the serializer's name; leave other objects to pickle."""
        kind = type(obj)
        if kind is np.ndarray or kind is SharedArray:
            return self._array(obj)
        if issubclass(kind, SerializerName):
            if kind is not SerializerName and self._to.serializer is not None:
                return receivers_own, ()
            return NotImplemented if self._to.is_ours() else (str, ("pickle",))
        if issubclass(kind, standard.BaseProxy) and not self._to.is_ours():
            _, (function, *rest) = obj.__reduce__()
            return standard.RebuildProxy, (STANDARD.get(function, function), *rest)  # type: ignore[attr-defined]  # undocumented
        return NotImplemented

    def _array(self, array: npt.NDArray[Any]) -> Any:
        if array.dtype.hasobject:
            return NotImplemented
        lease = lease_of(array)
        lies_there = lease is not None and lease.member.id == self._to.pool_id()
        if lies_there or (array.nbytes >= LARGE and type(array) is np.ndarray):
            ref = _put(self._to, array)
            if ref is not None:
                self.kept.append(ref)
                return arrive, (self._to.handle, ref.handle)
        if type(array) is SharedArray or array.flags.writeable:
            return NotImplemented
        # With protocol 5, the copy of a read-only array is read-only too.
        return array.__reduce_ex__(4)


def _callback(
    to: Receiver, kept: list[Ref], apart: list[int]
) -> Callable[[pickle.PickleBuffer], bool]:
    """Make the function that puts large buffers into the pool; the others stay in the pickle."""

    def stays(buffer: pickle.PickleBuffer) -> bool:
        try:
            memory = buffer.raw()
        except BufferError:
            return True  # not contiguous: pickle raises its own error
        ref = None
        if memory.nbytes >= LARGE:
            ref = _put(to, np.frombuffer(memory, np.uint8))
        if ref is None:
            return True
        kept.append(ref)
        apart.append(ref.handle)
        return False

    return stays


def _put(to: Receiver, array: npt.NDArray[Any]) -> Ref | None:
    """Put an array into the common pool; None: there is no such pool, or it is full."""
    pool = to.pool()
    if pool is None:
        return None
    try:
        return pool.put(array)
    except OneCopyError:
        return None


class Apart:
    """A pickle whose buffers are in the pool."""

    def __init__(self, data: bytes, pool: PoolHandle, blocks: list[int]) -> None:
        self._arguments = data, pool, blocks

    def __reduce__(self) -> tuple[Any, ...]:
        return together, self._arguments


arrivals = 0  # stand-ins that this process has unpickled


def arrive(pool: PoolHandle, block: int) -> Any:
    """Return the object of a stand-in. Its one receiver calls this once.

    Parameters
    ----------
    pool : PoolHandle
        The pool.
    block : int
        The handle of the object in it.

    Returns
    -------
    object
        Arrays that were copied for this are private copies.

    Raises
    ------
    PoolNotFound, StaleRef
        The sender has died, and the object does not exist any more.
    """
    to: Asker | None = getattr(receiving, "connection", None)
    if to is not None:
        to.owes = True
    global arrivals  # noqa: PLW0603 - of the process
    arrivals += 1
    return membership.join(pool).ref(block)._take()


def together(data: bytes, pool: PoolHandle, blocks: Sequence[int]) -> Any:
    """Unpickle a message whose buffers are in the pool.

    Parameters
    ----------
    data : bytes
        The pickle.
    pool, blocks
        Of the buffers, as for `arrive`.

    Returns
    -------
    object
        The message.
    """
    return pickle.loads(data, buffers=[memoryview(arrive(pool, block)) for block in blocks])
