"""pandas' Arrow-backed columns, as they are.

Everything else of pandas pickles well: its blocks and indexes are numpy arrays, and pandas takes
itself apart around them. But an Arrow-backed column joins its chunks before it is pickled, which
copies it even if it is a single chunk. Here the chunks travel as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy.tables.packing import has_own_reducer

if TYPE_CHECKING:
    from onecopy.tables.packing import Packing, Reducer

__all__ = ["types_of"]


def types_of(_library: str) -> tuple[tuple[type[Any], Reducer], ...]:
    """Name the types that this module takes apart."""
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


def _column(kind: Any, state: dict[str, Any]) -> Any:
    column = kind.__new__(kind)
    vars(column).update(state)
    return column
