"""polars' frames and series, by way of Arrow.

polars pickles a frame as one string of bytes. If pyarrow is installed, polars exports and imports
memory without a copy. Then frames and series travel as Arrow tables. Their names travel separately,
and the columns of the table are numbered: polars invents names for columns without a name, and
interprets some names as patterns. Columns of Python objects, which polars cannot pickle, travel as
lists.

If a child is forked after its parent has used polars, it has polars' thread pool, but none of the
threads. A call that needs them waits for ever. So a frame is rebuilt with calls that need no
threads: the import of an Arrow stream, and methods of a series.
"""

from __future__ import annotations

import logging
import pickle
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl

from onecopy._codec.packing import has_own_reducer, is_being_loaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onecopy._codec.packing import Packing, Reducer

    # The table, whose columns are numbered; names and types; sorted columns, and whether
    # descending.
    _Parts: TypeAlias = "tuple[Any, list[str], list[Any], dict[int, bool]]"

__all__ = ["types_of"]

_SMALL = 4096  # bytes; below this Arrow is not faster
_LEAVES = (
    pl.Boolean,
    pl.Int8,
    pl.Int16,
    pl.Int32,
    pl.Int64,
    pl.UInt8,
    pl.UInt16,
    pl.UInt32,
    pl.UInt64,
    pl.Float32,
    pl.Float64,
    pl.Decimal,
    pl.Date,
    pl.Time,
    pl.Datetime,
    pl.Duration,
    pl.String,
    pl.Binary,
    pl.Categorical,
    pl.Enum,
    pl.Null,
)


def types_of(_library: str) -> tuple[tuple[type[Any], Reducer], ...]:
    """Return the types that this module takes apart.

    None, if this version of polars cannot export its strings without a copy.
    """
    if not hasattr(pl, "CompatLevel"):
        return ()
    return ((pl.DataFrame, _reduce_frame), (pl.Series, _reduce_series))


def _reduce_frame(frame: Any, _packing: Packing) -> Any:
    if type(frame) is not pl.DataFrame or has_own_reducer(pl.DataFrame):
        return NotImplemented
    if pl.Object in frame.dtypes:
        # A dict, because polars would invent names for the columns of a list.
        return pl.DataFrame, ({column.name: column for column in frame.iter_columns()},)
    parts = _take_apart(frame)
    return NotImplemented if parts is None else (_frame, parts)


def _reduce_series(series: Any, _packing: Packing) -> Any:
    if type(series) is not pl.Series or has_own_reducer(pl.Series):
        return NotImplemented
    if series.dtype == pl.Object:
        return _objects, (series.name, series.to_list())
    parts = _take_apart(series.to_frame())
    return NotImplemented if parts is None else (_series, parts)


def _take_apart(frame: Any) -> _Parts | None:
    """Return the arguments of `_frame`.

    None: the frame is small, or has a type that Arrow does not have, or pyarrow does not work. Then
    polars' own pickling is used.
    """
    if frame.width == 0 or frame.estimated_size() < _SMALL:
        return None
    # If a thread was loading pyarrow when this process was forked, it will never finish.
    if not all(map(_is_known, frame.dtypes)) or is_being_loaded("pyarrow") or not _has_arrow():
        return None
    if not _comes_back(tuple(frame.dtypes)):
        return None
    table = frame.to_arrow(compat_level=pl.CompatLevel.newest())
    sorted_downwards = {}
    for i, column in enumerate(frame.iter_columns()):
        flags: dict[str, bool] = column.flags
        if flags.get("SORTED_ASC") or flags.get("SORTED_DESC"):
            sorted_downwards[i] = flags["SORTED_DESC"]
    numbered = table.rename_columns([str(i) for i in range(frame.width)])
    return numbered, frame.columns, frame.dtypes, sorted_downwards


@cache
def _has_arrow() -> bool:
    """Load pyarrow, which polars needs to export its memory; return whether that works."""
    try:
        pl.Series(["a"]).to_frame().to_arrow(compat_level=pl.CompatLevel.newest())
    except Exception as error:  # noqa: BLE001 - missing, broken, too old, or another module
        logging.getLogger("onecopy").info(
            "polars cannot export its memory without a working pyarrow, so its frames and "
            "series are copied by its own pickling (%r): pip install 'onecopy[tables]'",
            error,
        )
        return False
    return True


def _is_known(dtype: Any) -> bool:
    """Tell whether Arrow has the same type.

    Only types that are known to survive. For example, polars exports Python objects to Arrow as
    bare addresses.
    """
    if isinstance(dtype, (pl.List, pl.Array)):
        return _is_known(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return all(_is_known(field.dtype) for field in dtype.fields)
    return isinstance(dtype, _LEAVES)


@lru_cache(maxsize=256)
def _comes_back(dtypes: tuple[Any, ...]) -> bool:
    """Tell whether a frame of these types can be rebuilt, by a trial with one row.

    A receiver could only raise an error. The sender can still use polars' own pickling.
    """
    try:
        row = pl.DataFrame(
            {str(i): pl.Series([_sample(dtype)], dtype=dtype) for i, dtype in enumerate(dtypes)}
        )
        table = row.to_arrow(compat_level=pl.CompatLevel.newest())
        table = pickle.loads(pickle.dumps(table))  # loses the metadata of nested fields
        rebuilt = _frame(table, row.columns, list(dtypes), {})
        return rebuilt.dtypes == list(dtypes) and bool(rebuilt.equals(row))
    except Exception as error:  # noqa: BLE001 - polars' errors have no common base
        logging.getLogger("onecopy").info(
            "polars cannot rebuild the types %r from Arrow (%r), so frames of them are copied by "
            "its own pickling",
            dtypes,
            error,
        )
        return False


def _sample(dtype: Any) -> Any:
    """Make a value that is not empty at any level of a nested type."""
    if isinstance(dtype, pl.Array):
        return [_sample(dtype.inner)] * dtype.size
    if isinstance(dtype, pl.List):
        return [_sample(dtype.inner)]
    if isinstance(dtype, pl.Struct):
        return {field.name: _sample(field.dtype) for field in dtype.fields}
    if isinstance(dtype, pl.Enum):
        return next(iter(dtype.categories), None)
    return "a" if isinstance(dtype, pl.Categorical) else None


class _Stream:
    """A table that polars can read only as a stream.

    polars has a special path for pyarrow's tables. That path needs its threads, and loses types
    that Arrow's fields have only in their metadata.
    """

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def _frame(
    table: Any, names: Sequence[str], dtypes: Sequence[Any], sorted_downwards: dict[int, bool]
) -> Any:
    # Import each column alone: columns of one stream keep each other alive.
    frame: Any = pl.DataFrame(_Stream(table.select([0])))
    for i in range(1, len(dtypes)):
        frame.insert_column(i, pl.DataFrame(_Stream(table.select([i]))).to_series())
    for i, dtype in enumerate(dtypes):
        if frame.dtypes[i] != dtype:
            frame.replace_column(i, frame.to_series(i).cast(dtype))
    for i, down in sorted_downwards.items():
        frame.replace_column(i, frame.to_series(i).set_sorted(descending=down))
    frame.columns = names
    return frame


def _objects(name: str, values: list[Any]) -> Any:
    return pl.Series(name, values, dtype=pl.Object)


def _series(*parts: Any) -> Any:
    return _frame(*parts).to_series()
