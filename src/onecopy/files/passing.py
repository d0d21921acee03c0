"""How memory in mapped files passes through the codecs: named, and not copied.

`onecopy.codecs` calls this once a file has been mapped, and does not know of files otherwise.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy.files import mapping
from onecopy.files.mapped import MappedArray, over
from onecopy.files.mapping import Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from _typeshed import ReadableBuffer

__all__ = ["MARK", "reduce_array", "span_of", "unwrap", "wrap"]

MARK = 0  # the first byte of data with spans; a pickle begins with 0x80
_HEAD = 9  # bytes: the mark, and the length of the spans' own pickle


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
        mapped, with the same right to write.
    """
    if not array.size:
        return None
    first = low = high = array.__array_interface__["data"][0]
    for count, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (count - 1) * stride
        else:
            high += (count - 1) * stride
    span = mapping.find(low, high + array.itemsize - low)
    if span is None:
        return None
    kind = isinstance(array, MappedArray)
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
        As from `mapping.find`.
    """
    address = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
    return mapping.find(address, memory.nbytes)


def wrap(data: bytes, spans: list[tuple[int, Span]]) -> bytes:
    """Put the places of buffers that lie in files before a pickle.

    Parameters
    ----------
    data : bytes
        The pickle.
    spans : list of (int, Span)
        Which of its buffers, counted from 0, ascending; and where it lies.

    Returns
    -------
    bytes
        What `unwrap` takes.
    """
    head = pickle.dumps([(index, tuple(span)) for index, span in spans], 5)
    return bytes([MARK]) + len(head).to_bytes(8, "little") + head + data


def unwrap(
    data: memoryview[Any], buffers: Sequence[ReadableBuffer]
) -> tuple[memoryview[Any], list[ReadableBuffer]]:
    """Undo `wrap`: map the files, and give the pickle and all of its buffers.

    Parameters
    ----------
    data : memoryview
        Of bytes, beginning with `MARK`.
    buffers : sequence of buffers
        Those that lie in no file.

    Returns
    -------
    data : memoryview
        The pickle.
    buffers : list of buffers
        In the pickle's order.

    Raises
    ------
    StaleRef, OSError
        As `mapping.resolve`.
    """
    size = int.from_bytes(data[1:_HEAD], "little")
    every = list(buffers)
    for index, span in pickle.loads(data[_HEAD : _HEAD + size]):
        every.insert(index, mapping.memory_of(Span(*span)))
    return data[_HEAD + size :], every


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
    return np.ndarray(shape, dtype, memory, where.offset + first, strides)
