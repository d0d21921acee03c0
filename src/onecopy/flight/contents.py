"""What can be served, as batches of Arrow; and how it is described to a client.

A description is JSON. Arrays and bytes are sent as batches with one column of bytes, tables and
data frames as their own batches, which any client of Arrow Flight can read. Nothing is pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

__all__ = ["BYTES", "Content", "check_type", "content_of"]

PIECE = 4 << 20  # bytes of a batch
BYTES = pa.schema([pa.field("bytes", pa.uint8(), nullable=False)])
_LARGEST_DESCRIPTION = 1 << 16  # characters of the text of a dtype

_CAN_BE = (
    "a server gives numpy arrays, bytes, tables and record batches of pyarrow, and data frames of "
    "pandas and polars: another host must not unpickle what it gets"
)


@dataclass(frozen=True)
class Content:
    """An object as a client gets it."""

    description: dict[str, Any]
    schema: pa.Schema
    batches: Callable[[], Iterator[pa.RecordBatch]]


def content_of(value: object) -> Content:
    """Return the description and the batches of an object.

    Raises
    ------
    TypeError
        Objects of this type are not served, or a part of it has no form in Arrow.
    """
    check_type(value)
    if isinstance(value, np.ndarray):
        return _of_array(value)
    if isinstance(value, bytes):
        flat = np.frombuffer(value, np.uint8)
        return Content({"kind": "bytes", "nbytes": flat.nbytes}, BYTES, lambda: _pieces(flat))
    if isinstance(value, pa.Table):
        return _of_table("table", value)
    if isinstance(value, pa.RecordBatch):
        return _of_batches("batch", value.schema, [value])
    frame: Any = value
    if _library_of(frame) == "polars":
        return _of_table("polars", frame.to_arrow())
    try:
        return _of_table("pandas", pa.Table.from_pandas(frame))
    except (pa.ArrowException, TypeError) as error:
        raise TypeError(f"this data frame has no form in Arrow: {error}. {_CAN_BE}") from error


def check_type(value: object) -> None:
    """Raise a `TypeError` if objects of this type are not served."""
    if type(value) in {np.ndarray, bytes, pa.Table, pa.RecordBatch}:
        return
    if type(value).__name__ == "DataFrame" and _library_of(value) in {"pandas", "polars"}:
        return
    what = "a subclass of ndarray" if isinstance(value, np.ndarray) else "an object"
    raise TypeError(f"{what} of type {type(value).__qualname__} cannot be served: {_CAN_BE}")


def _library_of(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def _of_array(array: npt.NDArray[Any]) -> Content:
    dtype = array.dtype
    if dtype.hasobject:
        raise TypeError(f"an array of dtype {dtype} holds Python objects: {_CAN_BE}")
    description = repr(np.lib.format.dtype_to_descr(dtype))
    if not _is_described(description, dtype):
        raise TypeError(f"the dtype {dtype} has no description in text, as in a .npy file")
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    about = {
        "kind": "array",
        "dtype": description,
        "shape": list(array.shape),
        "order": order,
        "nbytes": array.nbytes,
    }
    return Content(about, BYTES, lambda: _pieces(_flat(array, order)))


def _flat(array: npt.NDArray[Any], order: str) -> npt.NDArray[np.uint8]:
    """Return the bytes of an array. Only one that is not contiguous is copied, for this fetch."""
    if not array.nbytes:
        return np.empty(0, np.uint8)
    straight = array.T if order == "F" else np.ascontiguousarray(array)
    return straight.reshape(-1).view(np.uint8)


def _is_described(description: str, dtype: np.dtype[Any]) -> bool:
    import ast

    if len(description) > _LARGEST_DESCRIPTION:
        return False
    return bool(np.lib.format.descr_to_dtype(ast.literal_eval(description)) == dtype)


def _pieces(flat: npt.NDArray[np.uint8]) -> Iterator[pa.RecordBatch]:
    """Cut bytes into batches that refer to them."""
    for start in range(0, flat.nbytes, PIECE):
        part = flat[start : start + PIECE]
        column = pa.Array.from_buffers(pa.uint8(), part.nbytes, [None, pa.py_buffer(part)])
        yield pa.record_batch([column], schema=BYTES)


def _of_table(kind: str, table: pa.Table) -> Content:
    rows = max(1, PIECE * table.num_rows // max(1, table.nbytes))
    return _of_batches(kind, table.schema, table.to_batches(max_chunksize=rows))


def _of_batches(kind: str, schema: pa.Schema, batches: list[pa.RecordBatch]) -> Content:
    counter = pa.MockOutputStream()
    with pa.ipc.new_stream(counter, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    about = {"kind": kind, "nbytes": counter.size(), "batches": len(batches)}
    return Content(about, schema, lambda: iter(batches))
