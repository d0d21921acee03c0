"""How memory in mapped files passes through the codecs: named, and not copied.

The codecs ask here once a file has been mapped, and do not know of files otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy import _native
from onecopy._codec import pickler
from onecopy._codec.copy_mode import is_private
from onecopy.files import mapping
from onecopy.files.mapped import MappedArray, over
from onecopy.files.mapping import Span

if TYPE_CHECKING:
    import numpy.typing as npt


__all__ = ["bytes_of", "reduce_array", "span_of"]


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
