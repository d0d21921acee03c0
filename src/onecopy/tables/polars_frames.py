"""polars' frames and series, by way of Arrow.

polars pickles itself as one string of bytes. With pyarrow installed it hands out its memory as it
is, and takes memory in as it is; frames and series travel as Arrow tables then, with their names
beside them: Arrow's columns are numbered, because polars finds names for those that have none, and
takes some names for patterns. Columns of Python objects, which polars does not pickle at all,
travel as lists.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl

from onecopy.tables.packing import has_own_reducer, is_being_loaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onecopy.tables.packing import Packing, Reducer

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


def _frame(
    table: Any, names: Sequence[str], dtypes: Sequence[Any], sorted_downwards: dict[int, bool]
) -> Any:
    frame: Any = pl.from_arrow(table, rechunk=False)
    if frame.dtypes != dtypes:
        frame = frame.cast({str(i): dtype for i, dtype in enumerate(dtypes)})
    if sorted_downwards:
        frame = frame.with_columns(
            frame.to_series(i).set_sorted(descending=down) for i, down in sorted_downwards.items()
        )
    frame.columns = names
    return frame


def _objects(name: str, values: list[Any]) -> Any:
    return pl.Series(name, values, dtype=pl.Object)


def _series(*parts: Any) -> Any:
    return _frame(*parts).to_series()
