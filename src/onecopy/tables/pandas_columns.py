"""pandas' columns, without copies.

Most of pandas pickles without copies: its blocks and indexes are numpy arrays. But pandas copies
two things first. Here they travel without a copy:

- An Arrow-backed column combines its chunks. This copies it even if there is only one chunk.
- pandas 3 copies a block of several columns if there are gaps between its elements, as in a
  selection of rows. Here, such a block in a pool or in a mapped file is not copied. Elsewhere, it
  is copied directly into the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._codec.packing import has_own_reducer

if TYPE_CHECKING:
    from onecopy._codec.packing import Packing, Reducer

__all__ = ["types_of"]


def types_of(_library: str) -> tuple[tuple[type[Any], Reducer], ...]:
    """Return the types that this module takes apart.

    Blocks are an internal part of pandas. They are included only if pandas has the functions that
    are needed, as versions 3.0 and 3.1 do.
    """
    return (*_arrow_backed(), *_blocks())


def _arrow_backed() -> tuple[tuple[type[Any], Reducer], ...]:
    from pandas.arrays import ArrowExtensionArray

    def reduce(column: Any, _packing: Packing) -> Any:
        kind: Any = type(column)
        if (
            kind.__getstate__ is not ArrowExtensionArray.__getstate__
            or kind.__reduce_ex__ is not object.__reduce_ex__
            or kind.__reduce__ is not object.__reduce__
            or has_own_reducer(kind)
        ):
            return NotImplemented
        state = dict(vars(column))
        if "_cache" in state:
            state["_cache"] = {}  # it is rebuilt when needed
        return _column, (kind, state)

    return ((ArrowExtensionArray, reduce),)


def _blocks() -> tuple[tuple[type[Any], Reducer], ...]:
    try:
        from pandas._libs.internals import _unpickle_block
        from pandas.core.internals.blocks import Block
    except ImportError:
        return ()
    block: Any = Block
    by_pandas = block.__reduce_ex__, block.__reduce__
    if object.__reduce_ex__ in by_pandas or object.__reduce__ in by_pandas:
        return ()  # this pandas does not copy blocks (pandas 2), or does it elsewhere

    def reduce(block: Any, _packing: Packing) -> Any:
        kind, values = type(block), block.values
        if (
            type(values) is not np.ndarray
            or values.flags.forc
            or values.dtype.hasobject
            or (kind.__reduce_ex__, kind.__reduce__) != by_pandas
            or has_own_reducer(kind)
        ):
            return NotImplemented
        return _unpickle_block, (values, block.mgr_locs.indexer, block.ndim)

    return ((Block, reduce),)


def _column(kind: Any, state: dict[str, Any]) -> Any:
    column = kind.__new__(kind)
    vars(column).update(state)
    return column
