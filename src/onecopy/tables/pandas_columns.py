"""pandas' columns, as they are.

Most of pandas pickles well: its blocks and indexes are numpy arrays, and pandas takes itself apart
around them. Two things it copies first, and here they travel as they are:

- An Arrow-backed column joins its chunks, which copies it even if it is a single chunk.
- A block of several columns is gathered in memory of its own (by pandas 3) if its elements lie
  scattered, as they do in some of a frame's rows. Such a block may lie in a pool, or in a mapped
  file; and if it has to be gathered, then in the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._codec.packing import has_own_reducer

if TYPE_CHECKING:
    from onecopy._codec.packing import Packing, Reducer

__all__ = ["types_of"]


def types_of(_library: str) -> tuple[tuple[type[Any], Reducer], ...]:
    """Name the types that this module takes apart.

    Blocks are pandas' own business. They are among them only where pandas has what it takes, as
    versions 3.0 and 3.1 have.
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
            state["_cache"] = {}  # made again when it is needed
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
        return ()  # it does not gather them, as pandas 2 does not, or does it somewhere else

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
