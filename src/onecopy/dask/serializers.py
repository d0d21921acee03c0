"""Serializers of Dask that would copy what is, or could be, memory of the pool.

* Arrow's tables are written to one new buffer. For peers of the same pool, Dask's serializer for
  them declines, and pickle gives their buffers out of band. Any peer can read that.
* Received memory may be read-only (``writable="readonly"``). Dask notes in a message that an array
  was writable, and copies it to make it so again. Memory of the pool is left as it is.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from distributed.protocol import numpy as of_numpy
from distributed.protocol.serialize import (
    dask_deserialize,
    dask_serialize,
    families,
    register_serialization_family,
)

from onecopy._native import Lease
from onecopy.dask.comms import shares_pool

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["install"]

_installed = False


def install() -> None:
    """Put our serializers in front of Dask's own; once in a process."""
    global _installed  # noqa: PLW0603 - of the process
    if _installed:
        return
    _installed = True
    pickle_dumps, pickle_loads, _ = families["pickle"]

    def loads(header: dict[str, Any], frames: list[Any]) -> Any:
        if any(map(_is_of_pool, frames)):
            writeable = zip(header["writeable"], frames[1:], strict=True)
            header = {**header, "writeable": tuple(w and not _is_of_pool(f) for w, f in writeable)}
        return pickle_loads(header, frames)

    register_serialization_family("pickle", pickle_dumps, loads)

    def deserialize_array(header: dict[str, Any], frames: list[Any]) -> Any:
        if "writeable" in header and len(frames) == 1 and _is_of_pool(frames[0]):
            header = {**header, "writeable": [False]}
        return of_numpy.deserialize_numpy_ndarray(header, frames)

    dask_deserialize.register(np.ndarray)(deserialize_array)
    if "pyarrow" in sys.modules:
        _install_arrow()
    else:
        dask_serialize.register_lazy("pyarrow")(_install_arrow)


def _is_of_pool(frame: object) -> bool:
    """Tell whether a frame is memory of the pool that may not be written."""
    while isinstance(frame, memoryview):
        if not frame.readonly:
            return False
        frame = frame.obj
    return isinstance(frame, Lease)


def _install_arrow() -> None:
    import pyarrow as pa

    try:
        from distributed.protocol import arrow as of_arrow
    except ImportError:
        return

    for kind, theirs in (
        (pa.Table, of_arrow.serialize_table),
        (pa.RecordBatch, of_arrow.serialize_batch),
    ):
        dask_serialize.register(kind)(_declining(theirs))


def _declining(theirs: Callable[[Any], Any]) -> Callable[..., Any]:
    def serialize(obj: Any, context: Any = None) -> Any:
        if shares_pool(context):
            raise NotImplementedError  # pickle is next, and copies nothing
        return theirs(obj)

    return serialize
