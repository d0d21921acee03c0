"""Values of a worker that other processes ask for: moved into the pool, once.

A moved value is replaced in the worker by one that looks at the pool (at private pages of it, if
received data is writable). So the worker has the data once, and the next receiver costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from distributed.protocol.serialize import deserialize, serialize
from distributed.utils import offload

from onecopy.dask.comms import KEY, ByPlace
from onecopy.dask.counts import counts
from onecopy.dask.membership import membership
from onecopy.errors import PoolFull

if TYPE_CHECKING:
    from distributed import Worker

    from onecopy.pool import Pool

__all__ = ["Mover"]

_logger: logging.Logger = logging.getLogger("onecopy.dask")

# Values of these libraries are equal to what they are rebuilt from, and have no other identity.
_LIBRARIES = {"pandas", "pyarrow", "scipy", "xarray"}
_MOST_PARTS = 64
_MOST_KNOWN = 100_000


def is_data(value: object, depth: int = 0) -> bool:
    """Tell whether a value is nothing but data, so that an equal one can replace it."""
    kind = type(value)
    if kind is np.ndarray:
        return not value.dtype.hasobject  # type: ignore[attr-defined]
    if kind in {list, tuple, dict}:
        parts: Any = value.values() if isinstance(value, dict) else value
        few = depth < 2 and 0 < len(parts) <= _MOST_PARTS
        return few and all(is_data(part, depth + 1) for part in parts)
    library = kind.__module__.partition(".")[0]
    return library in _LIBRARIES and library in sys.modules


def without_gaps(value: Any, pool: Pool) -> tuple[Any, int]:
    """Copy arrays with gaps into the pool, without their gaps.

    Serializing would copy them to private memory, and `export` from there into the pool.

    Returns
    -------
    value : object
        An equal value.
    copied : int
        Bytes that were copied.
    """
    kind = type(value)
    if kind in {list, tuple, dict}:
        parts = [without_gaps(part, pool) for part in (value.values() if kind is dict else value)]
        copied = sum(nbytes for _, nbytes in parts)
        if not copied:
            return value, 0
        equal = (part for part, _ in parts)
        return (dict(zip(value, equal, strict=True)) if kind is dict else kind(equal)), copied
    if kind is not np.ndarray or value.nbytes < membership.threshold:
        return value, 0
    # Dask sends repeated elements (a stride of 0) once. Between fields there may be padding, which
    # would keep what was in the pool before.
    if value.flags.forc or 0 in value.strides or value.dtype.fields is not None:
        return value, 0
    try:
        copy = pool.empty(value.shape, value.dtype)
    except PoolFull:
        return value, 0  # other parts may have room
    copy[...] = value
    return copy, copy.nbytes


def moved(value: object, pool: Pool) -> tuple[object] | None:
    """Return an equal value that lies in the pool. None: there is nothing to move, or no room."""
    value, copied = without_gaps(value, pool)
    header, frames = serialize(value, on_error="raise", context={KEY: True})
    places, lease = pool.export(frames, membership.threshold)
    with lease:
        copied += lease.copied
        if not copied:  # it lies there already, or it is small
            return None
        counts.copied += copied
        views = pool.import_(places, membership.settings.writable)
    return (
        deserialize(header, [f if v is None else v for f, v in zip(frames, views, strict=True)]),
    )


class Mover:
    """Stands before the `get_data` of a worker.

    Parameters
    ----------
    worker : Worker
        The worker. Its handler is replaced.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._original = worker.handlers["get_data"]
        self._done: dict[Any, int] = {}  # by key: the identity of the value that was looked at
        self._busy: dict[Any, asyncio.Event] = {}
        worker.handlers["get_data"] = self.get_data

    async def get_data(self, comm: Any, keys: Any, who: Any = None, serializers: Any = None) -> Any:
        """Answer as the worker does; for a peer of the same pool, move the values first."""
        pool = comm.pool if isinstance(comm, ByPlace) else None
        if pool is not None:
            for key in keys:
                await self._move(key, pool)
        return await self._original(comm, keys, who=who, serializers=serializers)

    async def _move(self, key: Any, pool: Pool) -> None:
        while key in self._busy:
            await self._busy[key].wait()
        value = self._in_memory(key)
        if value is None or self._done.get(key) == id(value) or not is_data(value):
            return
        finished = self._busy[key] = asyncio.Event()
        try:
            new = await offload(moved, value, pool)
            # It may have been deleted, replaced or spilled meanwhile.
            if new is not None and self._in_memory(key) is value:
                self._worker.data[key] = value = new[0]
                counts.moved += 1
        except Exception as error:  # noqa: BLE001 - it is sent as it would have been sent
            _logger.debug("%r is not moved into the pool: %r", key, error)
        finally:
            del self._busy[key]
            finished.set()
        if len(self._done) >= _MOST_KNOWN:
            self._done.clear()
        self._done[key] = id(value)

    def _in_memory(self, key: Any) -> object:
        """Return a large value that is in memory; None: it is small, on disk, or gone."""
        data = self._worker.data
        known = self._worker.state.tasks.get(key)
        if known is None or (known.nbytes or 0) < membership.threshold:
            return None
        # Do not read it from disk, and do not change the order in which values are spilled.
        fast = getattr(data, "fast", data)
        fast = getattr(fast, "d", fast)
        return fast.get(key)
