"""`MappedArray`: an array over a mapped file; and how memory in such files travels: by name.

The codecs ask here once a file has been mapped, and do not know of files otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from onecopy import _native
from onecopy._codec import pickler
from onecopy._codec.arrays import InPlaceArray
from onecopy._codec.copy_mode import is_private
from onecopy.files import mapping
from onecopy.files.mapping import Span

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy.files.mapping import Mapping

__all__ = ["MappedArray", "bytes_of", "over", "reduce_array", "span_of"]


class MappedArray(InPlaceArray, np.memmap[Any, Any]):
    """An array whose memory is a file: a `numpy.memmap` that travels by naming the file.

    Made by `onecopy.open_array`. Pickled, put into a pool, sent on a queue or given to a worker of
    an executor, it and its views arrive as the same file, mapped by the receiver with the same
    mode (a read-only view for reading only); nothing is copied. What is computed from it, and a
    copy of it, is an ordinary array. An array that was opened with mode ``"c"`` is this process's
    own, and is copied on its way.

    Nothing keeps two processes from writing the same bytes at the same time (``"r+"``, ``"w+"``):
    use a lock, or let each write a part of its own. A file that somebody cuts short while it is
    mapped ends a process that reads beyond its new end (SIGBUS).
    """

    def __getitem__(self, index: Any) -> Any:
        """Give a view as a mapped array, and a copy (by fancy indexing) as an ordinary one."""
        part = super().__getitem__(index)
        if type(part) is MappedArray and part._mmap is None:  # type: ignore[attr-defined]  # of numpy.memmap
            return part.view(np.ndarray)
        return part

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickle by the file's name and identity."""
        named = reduce_array(self)
        return self.view(np.ndarray).__reduce_ex__(protocol) if named is None else named

    def __reduce__(self) -> Any:
        """Pickle by the file's name and identity."""
        return self.__reduce_ex__(2)

    def flush(self) -> None:
        """Write what was changed to the disk, and wait until it is there.

        Processes need no flush to see each other's writes. Without effect for modes ``"r"`` and
        ``"c"``.

        Raises
        ------
        OSError
            The disk is full, or failed.
        """
        if self._mmap is not None and self.mode in {"r+", "w+"}:  # type: ignore[attr-defined]  # of numpy.memmap
            self._mmap.flush()  # type: ignore[attr-defined]  # as above


def over(
    file: Mapping,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    offset: int,
    *,
    order: str = "C",
    strides: tuple[int, ...] | None = None,
) -> MappedArray:
    """Lay an array over a mapped file.

    Parameters
    ----------
    file : Mapping
        Long enough.
    shape : tuple of int
        Of the array.
    dtype : numpy.dtype
        Without Python objects.
    offset : int
        Of the first element, in bytes of the file.
    order : {"C", "F"}
        Unless there are strides.
    strides : tuple of int, optional
        In bytes.

    Returns
    -------
    MappedArray
        With the attributes that `numpy.memmap` has: ``filename``, ``offset``, ``mode``.
    """
    array: npt.NDArray[Any] = np.ndarray.__new__(
        MappedArray,
        shape,
        dtype,
        file,
        offset,
        strides,
        order="F" if order == "F" else "C",
    )
    array._mmap = file  # type: ignore[attr-defined]  # what numpy.memmap sets
    array.filename = file.path  # type: ignore[attr-defined]  # as above
    array.offset = offset  # type: ignore[attr-defined]  # as above
    array.mode = file.mode  # type: ignore[attr-defined]  # as above
    return array  # type: ignore[return-value]  # it is one


def reduce_array(array: npt.NDArray[Any]) -> tuple[Any, ...] | None:
    """Take apart an array whose memory lies in a mapped file.

    Parameters
    ----------
    array : ndarray
        Any strides.

    Returns
    -------
    tuple or None
        As from ``__reduce__``; None if its memory lies elsewhere. The receiver gets the same file
        mapped. It may write it if `array` may, and is a `MappedArray`: who gets an ordinary array,
        as a column of a data frame, does not expect to change a file by changing it.
    """
    if not array.size:
        return None
    first = low = high = array.__array_interface__["data"][0]
    for count, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (count - 1) * stride
        else:
            high += (count - 1) * stride
    kind = isinstance(array, MappedArray)
    span = mapping.find(low, high + array.itemsize - low, kind and array.flags.writeable)
    if span is None:
        return None
    return _rebuild, (tuple(span), array.dtype, array.shape, array.strides, first - low, kind)


def span_of(memory: memoryview[Any]) -> Span | None:
    """Find the file that a buffer lies in.

    Parameters
    ----------
    memory : memoryview
        Contiguous, of bytes, not empty.

    Returns
    -------
    Span or None
        As from `mapping.find`, for reading: who gets a table does not expect to change a file, and
        the sender's table, by changing it.
    """
    address = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
    return mapping.find(address, memory.nbytes, writable=False)


def bytes_of(*span: Any) -> memoryview[Any]:
    """Give the bytes of a span, taken apart; raises what `mapping.resolve` raises."""
    memory = mapping.memory_of(Span(*span))
    return memoryview(bytearray(memory)) if is_private() else memory


def _rebuild(
    span: tuple[Any, ...],
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    first: int,
    mapped: bool,
) -> npt.NDArray[Any]:
    where = Span(*span)
    memory = mapping.resolve(where)
    if mapped:
        return over(memory, shape, dtype, where.offset + first, strides=strides)
    array: npt.NDArray[Any] = np.ndarray(shape, dtype, memory, where.offset + first, strides)
    return array.copy("K") if is_private() else array


def _connect() -> None:
    """Let the codecs ask for memory in files; for good.

    Taken back when the last mapping goes, it would race with a new mapping.
    """
    pickler.files = pickler.MemoryInFiles(reduce_array, span_of, bytes_of)
    _native.set_file_hook(mapping.contains)


mapping.connect_when_mapped(_connect)
