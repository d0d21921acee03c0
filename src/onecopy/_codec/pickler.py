"""Encodes objects to bytes and decodes them; large parts stay where they are.

The native core encodes None, bool, int, float, str, bytes, small tuples of them, and single arrays.
This module encodes all other objects with pickle's protocol 5. The result is a short pickle and a
list of buffers. The core copies each buffer into the pool. If a buffer lies in the pool already,
only its place travels.

Arrays inside other objects (`{"id": 7, "image": image}`, a list of them, a data frame's columns):

========================================  =======================================================
array                                     how it travels
========================================  =======================================================
in a pool, any strides                    by reference: block, offset, strides; nothing is copied
in a mapped file, any strides             by the file's name and identity; nothing is copied
in a pool open for reading only           by the pool's name and identity; nothing is copied
in another pool than its message          like an array in ordinary memory. A `SharedArray`
                                          travels by the pool's name and identity. Its holders
                                          must keep it; the message does not
elsewhere, 4 KiB or more                  one copy into the pool (in the order C or F of the array)
elsewhere, less than 4 KiB                inside the pickle: the receiver gets a private, writable
of a subclass, masked, a memory map       as above; the receiver makes the subclass again
a contiguous memoryview                   as above
of Python objects                         pickled; many strings: see `_codec.text`
========================================  =======================================================

If the pickling of another library would copy, the code that is registered for its types takes its
objects apart, above all tables (`_codec.registry`). The results are the same buffers and arrays.

Memory in a pool is read-only for the receiver, except a `SharedArray`.
"""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast, overload

import numpy as np

from onecopy import _native
from onecopy._codec import blocks, built, ndarrays  # noqa: F401 - ndarrays registers itself
from onecopy._codec.arrays import SharedArray
from onecopy._codec.backing import address, lease_of
from onecopy._codec.leased import reduce_leased
from onecopy._codec.naming import wrap
from onecopy._codec.plans import plan_of
from onecopy._codec.registry import has_tables, registry
from onecopy._codec.text import reduce_text
from onecopy._core import membership
from onecopy._core.keepalive import keep_for_child

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from _typeshed import ReadableBuffer, WriteableBuffer

    from onecopy._codec.naming import Named
    from onecopy._codec.packing import Later, Write
    from onecopy._native import Lease, Member

__all__ = ["OUT_OF_BAND", "Pickler", "decode", "encode", "private_copy", "raise_missing"]

OUT_OF_BAND = 4096  # bytes; buffers of this size or larger are not in the pickle
_PLAIN_FORMATS = frozenset("?cbBhHiIlLqQnNfdP")  # the formats that memoryview.cast accepts


@overload
def encode(
    obj: object, member: None = None
) -> tuple[bytes, list[ReadableBuffer], list[npt.NDArray[Any]]]: ...
@overload
def encode(
    obj: object, member: Member
) -> tuple[bytes, list[ReadableBuffer | Later], list[npt.NDArray[Any]]]: ...
@overload
def encode(
    obj: object, member: Member, outside: set[int] | None
) -> tuple[bytes, list[ReadableBuffer | Later], list[npt.NDArray[Any]]] | None: ...
def encode(
    obj: object, member: Member | None = None, outside: set[int] | None = None
) -> tuple[bytes, Sequence[ReadableBuffer | Later], list[npt.NDArray[Any]]] | None:
    """Pickle an object, without its large buffers.

    Parameters
    ----------
    obj : object
        Any object that pickle accepts.
    member : Member, optional
        A membership in the pool that the object will be written to. With it, some buffers may be
        written later.
    outside : set of int, optional
        The addresses of objects that belong to another part of the same message.

    Returns
    -------
    data : bytes
        The pickle.
    buffers : list of buffers
        One-dimensional, contiguous, of bytes, in the order that `decode` needs. With `member`, some
        may be tuples instead: the size in bytes, and a function that must be called once, with
        writable memory of that size. It fills the memory.
    sent : list of ndarray
        Arrays of `obj` that lie in a pool. When the object has been sent, the core makes them and
        their bases read-only.

    `None` stands for all three if `obj` refers to one of the objects `outside`: it would arrive
    twice.

    Raises
    ------
    Exception
        The error of pickle, if the object cannot be pickled. Nothing has been sent then.
    """
    file = io.BytesIO()
    buffers: list[ReadableBuffer | Later] = []
    registry.refresh()
    pickler = Pickler(file, buffers, member)
    pickler.dump(obj)
    # The memo has every object that pickle would write once only. Its keys are addresses.
    if outside and not outside.isdisjoint(pickler.memo.copy()):
        return None
    return file.getvalue(), buffers, pickler.sent


def private_copy(obj: object) -> object:
    """Copy an object by taking it apart and rebuilding it. All its memory is private and writable.

    Parameters
    ----------
    obj : object
        Any object that pickle accepts.

    Returns
    -------
    object
        Equal to `obj`. No buffer is copied more than once.
    """
    file = io.BytesIO()
    buffers: list[ReadableBuffer | Later] = []
    registry.refresh()
    Pickler(file, buffers, private=True).dump(obj)
    return decode(file.getvalue(), [cast("ReadableBuffer", _own_memory(part)) for part in buffers])


def _own_memory(part: ReadableBuffer | Later) -> npt.NDArray[np.uint8]:
    if not isinstance(part, tuple):
        return np.array(np.frombuffer(memoryview(part), np.uint8))
    nbytes, write = part
    memory = np.empty(nbytes, np.uint8)
    write(cast("WriteableBuffer", memory))
    return memory


def decode(data: ReadableBuffer, buffers: Sequence[ReadableBuffer]) -> object:
    """Rebuild an object that `encode` took apart in this process; the core rebuilds messages.

    Parameters
    ----------
    data : buffer
        The pickle.
    buffers : sequence of buffers
        The buffers that are not in the pickle. Each keeps its memory alive.

    Returns
    -------
    object
        Equal to the original. Use this only for data that this user wrote, because a pickle can run
        any code.

    Raises
    ------
    Exception
        Errors of the object's own code.
    """
    return pickle.loads(data, buffers=buffers)


def raise_missing(error: ModuleNotFoundError) -> NoReturn:
    """Raise an error that says which module the receiver lacks, and how to get it.

    Parameters
    ----------
    error : ModuleNotFoundError
        The error of an import while an object was rebuilt.

    Raises
    ------
    ModuleNotFoundError
        An error with the same name and path, and a text that says what to do.
    """
    library = (error.name or "").partition(".")[0]
    how = (
        f"pip install 'onecopy[tables]' brings {library}"
        if has_tables(library)
        else f"install {library!r}, or make it importable here, as it is in the sender"
    )
    raise ModuleNotFoundError(
        f"an object was received that needs the module {error.name!r}, and process {os.getpid()} "
        f"({sys.executable}) does not have it: {how}",
        name=error.name,
        path=error.path,
    ) from error


class Pickler(pickle.Pickler):
    """Pickle with arrays by reference and large buffers out of band."""

    __slots__ = ("_buffers", "_elsewhere", "_file", "_later", "_own", "_private", "member", "sent")

    # Whether the sender keeps what travels by name until it has arrived (`keepalive.Keeping`). If
    # so, data in other pools is not copied either.
    keeps = False

    def __init__(
        self,
        file: io.BytesIO,
        buffers: list[ReadableBuffer | Later],
        member: Member | None = None,
        private: bool = False,
    ) -> None:
        # The callback is not a method of self. A method would make a reference cycle, which keeps
        # arrays alive until the garbage collector runs.
        self._own: list[pickle.PickleBuffer] = []
        self._later: list[tuple[pickle.PickleBuffer, Later]] = []
        self._private = private  # data in a pool is copied like other data
        self.member: Member | None = member
        self.sent: list[npt.NDArray[Any]] = []
        self._file, self._buffers = file, buffers
        self._elsewhere = None if private else _Elsewhere(buffers, member if self.keeps else None)
        callback = _callback(buffers, self._own, self._later, self._elsewhere)
        super().__init__(file, 5, buffer_callback=callback)
        if "multiprocessing.reduction" in sys.modules:
            self.dispatch_table = _reducers

    def dump(self, obj: Any) -> None:
        """Write the pickle. If some buffers travel by name, wrap it with their names."""
        super().dump(obj)
        if self._elsewhere is not None and self._elsewhere.some:
            whole = self._elsewhere.wrap(self._file.getvalue())
            self._file.seek(0)
            self._file.truncate()
            self._file.write(whole)

    def reducer_override(self, obj: Any) -> Any:
        """Take arrays apart without pickling them; leave all other objects to pickle."""
        kind = type(obj)
        if self._private and issubclass(kind, np.memmap):
            obj, kind = np.ndarray.view(obj, np.ndarray), np.ndarray  # not by the file's name
        if kind is memoryview:
            return self._take_view_apart(obj)
        if kind is not np.ndarray and kind is not SharedArray:
            return (
                registry.reduce(obj, self) if issubclass(kind, registry.kinds) else NotImplemented
            )
        if obj.dtype.hasobject:
            return reduce_text(obj)
        lease = None if self._private else lease_of(obj)
        if lease is not None and self._is_elsewhere(lease.member):
            reduced = self._from_another_pool(obj, lease)
            if reduced is not None:
                return reduced
            lease = None
        if lease is not None:
            span, offset = _span(obj, lease)
            shared = kind is SharedArray
            if not shared:
                self.sent.append(obj)
            return _view, (
                self._out_of_band(span),
                _spell(obj.dtype),
                obj.shape,
                obj.strides,
                offset,
                shared,
            )
        if registry.files is not None and not self._private:
            named = registry.files.reduce_array(obj)
            if named is not None:
                return named
        small = obj.nbytes < OUT_OF_BAND
        spelled = _spell(obj.dtype)
        if small and obj.flags.forc and isinstance(spelled, str):
            # numpy itself pickles the dtype as an object. That takes twice as long, and ends the
            # process if there is no memory for it.
            writable = obj if obj.flags.writeable else bytearray(obj.tobytes("A"))
            buffer = pickle.PickleBuffer(cast("ReadableBuffer", writable))
            return _whole, (buffer, spelled, obj.shape, "C" if obj.flags.c_contiguous else "F")
        # numpy's pickles of dates, and of arrays that are not contiguous, lose the byte order.
        if small and (obj.dtype.isnative or not obj.dtype.itemsize):
            if not obj.flags.writeable:
                return obj.view(np.ndarray).__reduce__()  # protocol 5 would make it read-only
            if kind is np.ndarray:
                return NotImplemented
            return obj.view(np.ndarray).__reduce_ex__(5)
        if not small and not obj.flags.forc:
            return _whole, (self.later(*_gathered(obj)), spelled, obj.shape, "C")
        array = obj if obj.flags.forc else np.ascontiguousarray(obj)
        order = "C" if array.flags.c_contiguous else "F"
        memory = _bytes(array)
        buffer = (
            pickle.PickleBuffer(cast("ReadableBuffer", memory))
            if small
            else self._out_of_band(memory)
        )
        return _whole, (buffer, spelled, obj.shape, order)

    def _take_view_apart(self, view: memoryview[Any]) -> Any:
        """Take apart a memoryview. Pickle itself cannot."""
        item = (view.format or "B").removeprefix("@")
        shape = view.shape or ()
        # `memoryview.cast` cannot make others.
        if not view.c_contiguous or item not in _PLAIN_FORMATS or not shape or 0 in shape[1:]:
            return NotImplemented
        memory = np.frombuffer(view, np.uint8) if view.nbytes else np.empty(0, np.uint8)
        if not memory.flags.writeable:
            memory = np.asarray(_Unsealed(memory))
        buffer = pickle.PickleBuffer(cast("ReadableBuffer", memory))
        return _view_of, (buffer, item, shape)

    def _from_another_pool(self, array: npt.NDArray[Any], lease: Lease) -> Any:
        """Take apart an array that travels by the name of its pool. None: it must be copied."""
        by_name = self._goes_by_name(lease.member)
        if type(array) is SharedArray and not lease.member.readonly:
            # A copy would be private to the receiver.
            return array.__reduce_ex__(5) if by_name or self.refers_to(lease.member) else None
        if not by_name or (array.nbytes < OUT_OF_BAND and not lease.member.readonly):
            return None
        keep_for_child(array)
        self.sent.append(array)
        return reduce_leased(array, lease)

    def _is_elsewhere(self, member: Member) -> bool:
        """Tell whether a pool is not the pool of this pickle, if that pool is known."""
        return member.readonly or (self.member is not None and member is not self.member)

    def _goes_by_name(self, member: Member) -> bool:
        return self._elsewhere is not None and member in self._elsewhere.pools

    def refers_to(self, member: Member) -> bool:
        """Tell whether another pool's shared array travels by reference although nothing keeps it.

        It does not if no process could join its pool. It does not if the target pool is persistent
        and its own pool is not.
        """
        goes_to = self.member
        lasts = member.persistent or goes_to is None or not goes_to.persistent
        return lasts and membership.is_linked(member)

    def later(self, nbytes: int, write: Write, /) -> pickle.PickleBuffer:
        """Return a buffer that is written later, when its memory is allocated; see `Packing`."""
        if self.member is None and not self._private:
            memory = np.empty(nbytes, np.uint8)
            write(cast("WriteableBuffer", memory))
            return self._out_of_band(memory)
        # A placeholder. It is writable because the later buffer is, and pickle records this.
        buffer = pickle.PickleBuffer(bytearray())
        self._later.append((buffer, (nbytes, write)))
        return buffer

    def has(self, buffer: ReadableBuffer, /) -> bool:
        """Tell whether a buffer needs no copy; see `Packing`."""
        if self.member is not None and self.member.where(buffer) is not None:
            return True
        return self._elsewhere is not None and self._elsewhere.has(memoryview(buffer))

    def sends(self, array: npt.NDArray[Any], /) -> None:
        """Record an array that becomes read-only when it has been sent; see `Packing`."""
        lease = None if self._private else lease_of(array)
        if lease is not None and (lease.member is self.member or self._goes_by_name(lease.member)):
            self.sent.append(array)

    def _out_of_band(self, memory: npt.NDArray[np.uint8]) -> pickle.PickleBuffer:
        if not memory.flags.writeable:
            # Pickle would record that it is read-only. But a private copy in a receiver must be
            # writable.
            memory = np.asarray(_Unsealed(memory))
        buffer = pickle.PickleBuffer(cast("ReadableBuffer", memory))
        self._own.append(buffer)
        return buffer


class _Reducers:
    """A dispatch table that also has the reducers registered with multiprocessing.

    So connections and sockets travel, and other types that were registered with `ForkingPickler`.
    """

    def __getitem__(self, kind: type[Any]) -> Any:
        extra = sys.modules["multiprocessing.reduction"].ForkingPickler._extra_reducers
        reducer = extra.get(kind)
        # The reducers of multiprocessing.sharedctypes work only while a process is being started.
        if reducer is None or reducer.__module__ == "multiprocessing.sharedctypes":
            return copyreg.dispatch_table[kind]
        return reducer


_reducers: Any = _Reducers()


class _Unsealed:
    """The memory of a read-only array, marked as writable. It is only read."""

    def __init__(self, memory: npt.NDArray[np.uint8]) -> None:
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": memory.shape,
            "strides": memory.strides,
            "data": (address(memory), False),
        }
        self._memory = memory


class _Elsewhere:
    """The buffers of a pickle that travel by name, because other processes can find them.

    These are buffers in files that this process has mapped, and in pools that it has open for
    reading only. If the sender keeps the buffers, buffers in other pools are included. The pickle
    is wrapped with their names.

    Parameters
    ----------
    buffers : list of buffers
        The other buffers of the pickle, in order. The pickler appends to it.
    kept_for : Member, optional
        A membership in the pool that the pickle is sent to, if its sender keeps what it refers to
        until it has arrived.
    """

    __slots__ = ("_buffers", "_kept_for", "_named", "_pools")

    def __init__(
        self, buffers: list[ReadableBuffer | Later], kept_for: Member | None = None
    ) -> None:
        self._buffers = buffers
        self._kept_for = kept_for
        self._named: list[tuple[int, Named]] = []
        self._pools: list[Member] | None = None  # None: not determined yet

    @property
    def pools(self) -> list[Member]:
        """The pools whose blocks travel by name."""
        if self._pools is None:
            target = self._kept_for
            self._pools = membership.others(target) if target else membership.readers()
        return self._pools

    @property
    def some(self) -> bool:
        """Whether any buffer travels by name."""
        return bool(self._named)

    def has(self, memory: memoryview[Any]) -> bool:
        """Tell whether memory travels by name."""
        return self._name_of(memory) is not None

    def takes(self, memory: memoryview[Any]) -> bool:
        """If the next buffer of the pickle travels by name, record it and return True."""
        name = self._name_of(memory)
        if name is None:
            return False
        keep_for_child(memory)
        self._named.append((len(self._buffers) + len(self._named), name))
        return True

    def _name_of(self, memory: memoryview[Any]) -> Named | None:
        files = registry.files
        if files is not None and (span := files.span_of(memory)) is not None:
            return files.bytes_of, tuple(span)
        if not self.pools:
            return None
        place = blocks.find(memory, self.pools)
        return None if place is None else (blocks.bytes_of, tuple(place))

    def wrap(self, data: bytes) -> bytes:
        """Return a pickle of the same object that needs only the buffers without a name."""
        return wrap(data, self._named, self._buffers)


def _callback(
    buffers: list[ReadableBuffer | Later],
    own: list[pickle.PickleBuffer],
    later: list[tuple[pickle.PickleBuffer, Later]],
    elsewhere: _Elsewhere | None,
) -> Callable[[pickle.PickleBuffer], bool]:
    """Make the buffer callback: it returns true for a buffer that stays in the pickle."""

    def stays(buffer: pickle.PickleBuffer) -> bool:
        if later and later[-1][0] is buffer:
            buffers.append(later.pop()[1])
            return False
        if own and own[-1] is buffer:
            buffers.append(own.pop().raw())
            return False
        try:
            memory = buffer.raw()
        except BufferError:
            return True  # not contiguous: pickle raises the error
        if memory.nbytes < OUT_OF_BAND:
            return True
        if elsewhere is None or not elsewhere.takes(memory):
            buffers.append(memory)
        return False

    return stays


def _span(array: npt.NDArray[Any], lease: Lease) -> tuple[npt.NDArray[np.uint8], int]:
    """Return the bytes from the lowest to the highest element, and the offset of the first one."""
    if array.flags.forc:
        return _bytes(array), 0
    memory = np.frombuffer(memoryview(lease), np.uint8)
    base, first = address(memory), address(array)
    low = high = first
    for count, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (count - 1) * stride
        else:
            high += (count - 1) * stride
    high += array.itemsize
    return memory[low - base : high - base], first - low


def _bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the memory of a contiguous array, in memory order."""
    rows = array if array.flags.c_contiguous else array.T
    return rows.reshape(-1).view(np.ndarray).view(np.uint8)


def _gathered(array: npt.NDArray[Any]) -> Later:
    """Return how to write an array with gaps between its elements, in C order."""

    def write(memory: WriteableBuffer) -> None:
        np.copyto(np.ndarray(array.shape, array.dtype, memoryview(memory)), array)

    return array.nbytes, write


def _spell(dtype: np.dtype[Any]) -> str | np.dtype[Any]:
    """Return the short string of a plain dtype, which pickles smaller and faster."""
    return dtype.str if dtype.isbuiltin == 1 and dtype.kind not in "VMm" else dtype


def _view_of(buffer: Any, item: str, shape: tuple[int, ...]) -> memoryview[Any]:
    """Rebuild a memoryview."""
    whole = memoryview(buffer).cast("B")
    form: Any = item
    return whole.cast(form) if len(shape) == 1 else whole.cast(form, shape)


def _view(
    buffer: Any,
    dtype: str | np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
    shared: bool,
) -> npt.NDArray[Any]:
    """Rebuild an array that lies in a pool: the same shape and strides over the same memory."""
    kind: type[npt.NDArray[Any]] = SharedArray if shared else np.ndarray
    array = kind(shape, np.dtype(dtype), buffer, offset, strides)
    if not shared and array.flags.writeable and memoryview(buffer).nbytes < array.nbytes:
        return array.copy("K")  # elements that share memory: a store would change several
    return array


def _whole(
    buffer: Any, dtype: str | np.dtype[Any], shape: tuple[int, ...], order: str
) -> npt.NDArray[Any]:
    """Rebuild an array that was copied into the pool."""
    return np.ndarray(shape, np.dtype(dtype), buffer, order="F" if order == "F" else "C")


registry.refresh()  # numpy is always loaded: its types are known from now on
_native.set_hooks(encode, raise_missing, membership.handle_of)
_native.set_plan_hook(plan_of)
_native.set_build_hooks(built.take_apart, built.builder_of)
_native.set_shared_array(SharedArray)
