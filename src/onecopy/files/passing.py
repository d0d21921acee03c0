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

    from onecopy.tables.packing import Later

__all__ = ["reduce_array", "span_of", "wrap"]


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


def wrap(
    data: bytes, spans: list[tuple[int, Span]], buffers: Sequence[ReadableBuffer | Later]
) -> bytes:
    """Put a pickle, and the places of its buffers that lie in files, into another pickle.

    Parameters
    ----------
    data : bytes
        The pickle.
    spans : list of (int, Span)
        Which of its buffers, counted from 0, ascending; and where it lies.
    buffers : sequence of buffers
        The others, in order.

    Returns
    -------
    bytes
        A pickle of the same object, for the others alone: ``pickle.loads(…, buffers=buffers)``.
        It raises what `mapping.resolve` raises.
    """
    return pickle.dumps(_Whole(data, spans, buffers), 5, buffer_callback=lambda _: None)


class _Whole:
    """What `wrap` pickles."""

    def __init__(
        self, data: bytes, spans: list[tuple[int, Span]], buffers: Sequence[ReadableBuffer | Later]
    ) -> None:
        self._parts = (
            data,
            [(index, tuple(span)) for index, span in spans],
            # Pickle notes whether one may be written; what is yet to be written, may.
            [
                pickle.PickleBuffer(bytearray() if isinstance(part, tuple) else part)
                for part in buffers
            ],
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _loads, self._parts


def _loads(data: bytes, spans: list[tuple[int, Any]], buffers: list[ReadableBuffer]) -> Any:
    for index, span in spans:
        buffers.insert(index, mapping.memory_of(Span(*span)))
    return pickle.loads(data, buffers=buffers)


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
