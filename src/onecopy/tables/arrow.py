"""Slices of pyarrow's arrays.

pyarrow pickles an array as its buffers, out of band, and a table as its columns. Buffers in a pool
stay where they are. Other buffers are copied into the pool once. But a slice has the buffers of the
whole array that it was cut from. If these are much larger, the part of the slice is written as an
Arrow IPC stream, directly into a block of the pool of exactly that size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from onecopy._codec.packing import has_own_reducer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from onecopy._codec.packing import Packing, Reducer

__all__ = ["types_of"]

_MUCH = 4096  # bytes outside of its part that a slice may carry
_VIEW = 16  # bytes of a string view; the first four are its length
_INSIDE = 12  # the longest string that is stored in the view itself, in bytes


def types_of(_library: str) -> tuple[tuple[type[Any], Reducer], ...]:
    """Return the types that this module takes apart."""
    return ((pa.Array, _reduce),)


def _reduce(array: Any, packing: Packing) -> Any:
    kind: Any = array.type
    held = array.get_total_buffer_size()
    if held <= _MUCH or has_own_reducer(type(array)):
        return NotImplemented
    is_view = pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)
    if not is_view and held - array.nbytes <= _MUCH:
        return NotImplemented
    if _needs_no_copy(array, packing):
        return NotImplemented
    if is_view:
        return _reduce_views(array, held)
    if isinstance(kind, pa.BaseExtensionType):
        # If the receiver has not registered the extension type, the stream alone would lose it.
        return pa.ExtensionArray.from_storage, (kind, array.storage)
    if not len(array) or not _can_stream(kind):
        # A stream without rows would contain all offsets of the original array.
        return _compact(array)
    batch = pa.record_batch([array], names=[""])
    counter = pa.MockOutputStream()
    _write_stream(counter, batch)

    def write(memory: WriteableBuffer) -> None:
        with pa.FixedSizeBufferWriter(pa.py_buffer(memory)) as sink:
            _write_stream(sink, batch)

    return _from_stream, (packing.later(counter.size(), write),)


def _reduce_views(array: Any, held: int) -> Any:
    """Take apart an array of views. Its bytes may be scattered over large buffers."""
    views = np.frombuffer(array.buffers()[1], np.int32).reshape(-1, 4)
    lengths = views[array.offset : array.offset + len(array), 0]
    own = _VIEW * len(array) + int(lengths.sum(where=lengths > _INSIDE, dtype=np.int64))
    if held <= max(2 * own, own + _MUCH):
        return NotImplemented
    plain = pa.large_string() if pa.types.is_string_view(array.type) else pa.large_binary()
    try:
        # Copy its own bytes into one buffer, and make new views of them.
        return array.cast(plain).cast(array.type).__reduce__()
    except pa.ArrowInvalid:  # the buffer would be too large for views
        return NotImplemented


def _compact(array: Any) -> Any:
    """Take apart a copy that has only the array's own values, if pyarrow can make one."""
    try:
        own = array.take(pa.array(np.arange(len(array))))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        if len(array):
            return NotImplemented
        own = pa.nulls(0, array.type)
    return own.__reduce__() if own.type == array.type else NotImplemented


def _needs_no_copy(array: Any, packing: Packing) -> bool:
    """Tell whether all large buffers of an array need no copy."""
    return all(
        buffer is None or buffer.size < _MUCH or packing.has(buffer) for buffer in array.buffers()
    )


def _can_stream(kind: Any) -> bool:
    """Tell whether a stream preserves a type."""
    if isinstance(kind, pa.BaseExtensionType):
        return False
    if pa.types.is_map(kind) and kind.keys_sorted:
        return False  # a stream keeps this, but a table's pickle around it does not
    if pa.types.is_dictionary(kind):
        return _can_stream(kind.value_type)
    if pa.types.is_run_end_encoded(kind):
        return _can_stream(kind.value_type)
    return all(_can_stream(kind.field(i).type) for i in range(kind.num_fields))


def _write_stream(sink: Any, batch: Any) -> None:
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _from_stream(memory: ReadableBuffer) -> Any:
    with pa.ipc.open_stream(pa.py_buffer(memory)) as reader:
        return reader.read_next_batch().column(0)
