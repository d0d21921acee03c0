"""polars' frames and series, by way of Arrow.

polars pickles itself as one string of bytes. With pyarrow installed it exports its memory without a
copy, and imports memory without a copy. Frames and series then travel as Arrow tables. Their names
travel beside the table: its columns are numbered, because polars makes up names for columns that
have none, and takes some names for patterns. Columns of Python objects, which polars cannot pickle,
travel as lists.

A child that was forked after its parent used polars has polars' pool of threads, and none of the
threads. Whatever needs them waits for ever. So a frame is rebuilt with calls that need none: the
import of an Arrow stream, and methods of a series.
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

    # The table, whose columns are numbered; names and types; which are sorted, downwards or not.
    _Parts: TypeAlias = "tuple[Any, list[str], list[Any], dict[int, bool]]"

__all__ = ["types_of"]

_SMALL = 4096  # bytes below which nothing is won
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
    """Name the types that this module takes apart.

    None for a polars that cannot yet hand out its strings as they are.
    """
    if not hasattr(pl, "CompatLevel"):
        return ()
    return ((pl.DataFrame, _reduce_frame), (pl.Series, _reduce_series))


def _reduce_frame(frame: Any, _packing: Packing) -> Any:
    if type(frame) is not pl.DataFrame or has_own_reducer(pl.DataFrame):
        return NotImplemented
    if pl.Object in frame.dtypes:
        # By name: of a list, polars would name those that have none.
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
    """Give a frame as what `_frame` takes.

    None: it is small, or has something that Arrow has not, or there is no pyarrow that works;
    polars' own pickling does then.
    """
    if frame.width == 0 or frame.estimated_size() < _SMALL:
        return None
    # A thread that was loading it when this process was forked will never be done.
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
    """Load pyarrow, which polars needs to hand out its memory; tell whether that works."""
    try:
        pl.Series(["a"]).to_frame().to_arrow(compat_level=pl.CompatLevel.newest())
    except Exception as error:  # noqa: BLE001 - missing, broken, too old, or something else's name
        logging.getLogger("onecopy").info(
            "polars cannot hand out its memory without a pyarrow that works, so its frames and "
            "series are copied by its own pickling (%r): pip install 'onecopy[tables]'",
            error,
        )
        return False
    return True


def _is_known(dtype: Any) -> bool:
    """Tell whether Arrow has the same type.

    Only what is known to come back as it was: polars hands Python objects to Arrow as bare
    addresses.
    """
    if isinstance(dtype, (pl.List, pl.Array)):
        return _is_known(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return all(_is_known(field.dtype) for field in dtype.fields)
    return isinstance(dtype, _LEAVES)


@lru_cache(maxsize=256)
def _comes_back(dtypes: tuple[Any, ...]) -> bool:
    """Tell whether a frame of these types can be rebuilt, by doing it with one row.

    A receiver could only fail. The sender can still choose polars' own pickling.
    """
    try:
        row = pl.DataFrame(
            {str(i): pl.Series([_sample(dtype)], dtype=dtype) for i, dtype in enumerate(dtypes)}
        )
        table = row.to_arrow(compat_level=pl.CompatLevel.newest())
        table = pickle.loads(pickle.dumps(table))  # loses the metadata of nested fields
        rebuilt = _frame(table, row.columns, list(dtypes), {})
        return rebuilt.dtypes == list(dtypes) and bool(rebuilt.equals(row))
    except Exception as error:  # noqa: BLE001 - of any kind: polars' errors have no common base
        logging.getLogger("onecopy").info(
            "polars cannot rebuild the types %r from Arrow (%r), so frames of them are copied by "
            "its own pickling",
            dtypes,
            error,
        )
        return False


def _sample(dtype: Any) -> Any:
    """Make a value that has something at each level of a type."""
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
    """A table of which polars sees nothing but the stream.

    polars has a path of its own for pyarrow's tables. That one needs its threads, and loses the
    types that Arrow's fields only name in their metadata.
    """

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def _frame(
    table: Any, names: Sequence[str], dtypes: Sequence[Any], sorted_downwards: dict[int, bool]
) -> Any:
    # Each column by itself: those that come in one stream keep each other.
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
