"""How memory in mapped files is encoded: by the name of the file, without a copy.

The codecs do not depend on this module. It registers itself with them (`_codec.registry`) when a
file has been mapped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy import _native
from onecopy._codec.copy_mode import is_private
from onecopy._codec.registry import MemoryInFiles, register_files
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
        An array with any strides.

    Returns
    -------
    tuple or None
        As from ``__reduce__``, or None if its memory lies elsewhere. The receiver maps the same
        file. It may write to the file only if `array` may, and is a `MappedArray`. A receiver of an
        ordinary array, for example of a column of a data frame, does not expect that writing to it
        changes a file.
    """
    if not array.size:
        return None
    first = low = high = _native.address(array)
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
    """Find the file that contains a buffer.

    Parameters
    ----------
    memory : memoryview
        Contiguous, of bytes, not empty.

    Returns
    -------
    Span or None
        As from `mapping.find`, for reading: a receiver of a table does not expect that writing to
        it changes a file, and the sender's table.
    """
    first = _native.address(np.frombuffer(memory, np.uint8))
    return mapping.find(first, memory.nbytes, writable=False)


def bytes_of(*span: Any) -> memoryview[Any]:
    """Return the bytes of a span, from its fields. It raises the errors of `mapping.resolve`."""
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
    """Connect mapped files to the codecs, permanently.

    Disconnecting when the last mapping ends would race with a new mapping.
    """
    register_files(MemoryInFiles(reduce_array, span_of, bytes_of))
    _native.set_file_hook(mapping.contains)


mapping.connect_when_mapped(_connect)
