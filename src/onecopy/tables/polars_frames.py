"""polars' frames and series, by way of Arrow.

polars pickles itself as one string of bytes. With pyarrow installed it hands out its memory as it
is, and takes memory in as it is; frames and series travel as Arrow tables then. Columns of Python
objects, which polars does not pickle at all, travel as lists.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import polars as pl

from onecopy.tables.packing import has_own_reducer

if TYPE_CHECKING:
    from onecopy.tables.packing import Packing, Reducer

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

    None without pyarrow, nor for a polars that cannot yet hand out its strings as they are.
    """
    if find_spec("pyarrow") is None or not hasattr(pl, "CompatLevel"):
        return ()
    return ((pl.DataFrame, _reduce_frame), (pl.Series, _reduce_series))


def _reduce_frame(frame: Any, _packing: Packing) -> Any:
    if type(frame) is not pl.DataFrame or has_own_reducer(pl.DataFrame):
        return NotImplemented
    if pl.Object in frame.dtypes:
        return pl.DataFrame, (frame.get_columns(),)
    parts = _take_apart(frame)
    return NotImplemented if parts is None else (_frame, parts)


def _reduce_series(series: Any, _packing: Packing) -> Any:
    if type(series) is not pl.Series or has_own_reducer(pl.Series):
        return NotImplemented
    if series.dtype == pl.Object:
        return _objects, (series.name, series.to_list())
    parts = _take_apart(series.to_frame())
    return NotImplemented if parts is None else (_series, parts)


def _take_apart(frame: Any) -> tuple[Any, dict[str, Any], dict[str, bool]] | None:
    """Give a frame's Arrow table, its schema, and which columns are sorted, downwards or not.

    None: it is small, or has something that Arrow has not; polars' own pickling does then.
    """
    if frame.width == 0 or frame.estimated_size() < _SMALL:
        return None
    if not all(map(_is_known, frame.dtypes)):
        return None
    table = frame.to_arrow(compat_level=pl.CompatLevel.newest())
    flags: dict[str, dict[str, bool]] = frame.flags
    descending = {
        name: flag["SORTED_DESC"]
        for name, flag in flags.items()
        if flag.get("SORTED_ASC") or flag.get("SORTED_DESC")
    }
    return table, dict(frame.schema), descending


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


def _frame(table: Any, schema: dict[str, Any], descending: dict[str, bool]) -> Any:
    frame: Any = pl.from_arrow(table, rechunk=False)
    if frame.schema != schema:
        frame = frame.cast(schema)
    if descending:
        frame = frame.with_columns(
            frame[name].set_sorted(descending=down) for name, down in descending.items()
        )
    return frame


def _objects(name: str, values: list[Any]) -> Any:
    return pl.Series(name, values, dtype=pl.Object)


def _series(table: Any, schema: dict[str, Any], descending: dict[str, bool]) -> Any:
    return _frame(table, schema, descending).to_series()
