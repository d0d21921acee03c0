"""pandas' frames, taken apart into the arrays of their blocks, and put together again.

pandas' own pickling asks Python code for each block, index and type, and checks again what it
checked before. Here a frame is the values of its blocks, their places, and its two indexes. The
core packs these without pickle. Values of other kinds (categories, Arrow-backed columns, times with
a zone) and other indexes are pickled, each as before, inside of the same message.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas._libs.internals import _unpickle_block
from pandas.api.extensions import ExtensionArray
from pandas.core.internals.managers import BlockManager

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._codec.built import Apart

__all__ = ["frame_of", "index_of", "range_of", "text_index_of", "types_of"]

# As in `registration`.
_FRAME, _RANGE, _INDEX, _TEXT_INDEX = 1, 2, 3, 4
_MOST_TEXTS = 256  # an index of more texts is pickled: its Arrow buffer is copied at once
_OBJECTS, _ARROW = 0, 1  # what an index of texts has
_NUMBERS = "biufc"  # kinds of dtypes

_DatetimeArray: Any = pd.arrays.DatetimeArray
_TimedeltaArray: Any = pd.arrays.TimedeltaArray
_Index: Any = pd.Index
_RangeIndex: Any = pd.RangeIndex
_DataFrame: Any = pd.DataFrame
_Blocks: Any = BlockManager
_ArrowText: Any = getattr(pd.arrays, "ArrowStringArray", None)


def types_of() -> dict[type[Any], Callable[[Any], Apart]]:
    """Return the types that this module takes apart.

    Raises
    ------
    AttributeError, TypeError
        If this pandas does not have what the builders need.
    """
    for needed in (_DataFrame._from_mgr, _Index._simple_new, _RangeIndex._simple_new):
        if not callable(needed):
            raise TypeError(f"this pandas has {needed} instead of a function")
    return {_DataFrame: _frame, _RangeIndex: _range, _Index: _index}


def _frame(frame: Any) -> Apart:
    manager = frame._mgr
    if type(manager) is not _Blocks or frame._metadata:
        return None
    blocks = []
    for block in manager.blocks:
        values = block.values
        kind = type(values)
        if (kind is _DatetimeArray or kind is _TimedeltaArray) and type(values.dtype) is not (
            pd.DatetimeTZDtype
        ):
            values = values._ndarray
        place = block.mgr_locs.indexer
        if type(place) is slice:
            place = place.start, place.stop, place.step
            if None in place:  # backwards to the first column
                place = block.mgr_locs.as_array
        blocks.append((values, place))
    columns, index = manager.axes
    allows = frame._flags._allows_duplicate_labels
    return _FRAME, (tuple(blocks), columns, index, frame._attrs or None, allows)


def frame_of(
    blocks: tuple[tuple[Any, Any], ...],
    columns: Any,
    index: Any,
    attributes: dict[Any, Any] | None,
    allows_duplicate_labels: bool,
) -> Any:
    """Put a frame together.

    Parameters
    ----------
    blocks : tuple
        The values of each block, and its columns: the arguments of a slice, or an array.
    columns, index : pandas.Index
        Both axes.
    attributes : dict, optional
        The `attrs` of the frame.
    allows_duplicate_labels : bool
        Its flag.

    Returns
    -------
    pandas.DataFrame
        It has the arrays that were given.

    Raises
    ------
    ValueError, AssertionError
        If blocks and indexes do not fit.
    """
    if not (isinstance(columns, _Index) and isinstance(index, _Index)):
        raise TypeError(f"the axes of a frame are of types {type(columns)} and {type(index)}")
    width = len(columns)
    made = []
    for values, place in blocks:
        where = slice(*place) if type(place) is tuple else place
        _check_place(where, width)
        if not isinstance(values, ExtensionArray) and not (
            isinstance(values, np.ndarray) and values.ndim == 2
        ):
            raise TypeError(f"a block of a frame has values of type {type(values)}")
        made.append(_unpickle_block(values, where, 2))
    manager = _Blocks(tuple(made), [columns, index])
    frame = _DataFrame._from_mgr(manager, manager.axes)
    if attributes:
        frame.attrs = attributes
    if not allows_duplicate_labels:
        frame._flags._allows_duplicate_labels = False
    return frame


def _check_place(place: Any, width: int) -> None:
    """Refuse places outside of the frame: pandas does not look."""
    if type(place) is slice:
        places: Any = range(place.start, place.stop, place.step)
        if len(places) == 0:
            return
        first, last = places[0], places[-1]
    elif type(place) is np.ndarray and place.ndim == 1 and place.dtype.kind == "i":
        if len(place) == 0:
            return
        first, last = place.min(), place.max()
    else:
        raise TypeError(f"the places of a block are of type {type(place)}")
    if not (0 <= first < width and 0 <= last < width):
        raise ValueError(f"a block has columns {first} to {last}; its frame has {width}")


def _range(index: Any) -> Apart:
    values = index._range
    return _RANGE, (values.start, values.stop, values.step, index._name)


def range_of(start: int, stop: int, step: int, name: Any) -> Any:
    """Put a range index together.

    Parameters
    ----------
    start, stop, step : int
        The arguments of its range.
    name : object
        Its name.

    Returns
    -------
    pandas.RangeIndex
        A new one.
    """
    return _RangeIndex._simple_new(range(start, stop, step), name)


def _index(index: Any) -> Apart:
    values = index._data
    if type(values) is np.ndarray:
        if values.dtype.kind in _NUMBERS:
            return _INDEX, (values, index._name)
        if values.dtype.kind != "O" or len(values) > _MOST_TEXTS:
            return None
        texts, kind = values.tolist(), _OBJECTS
    elif type(values) is _ArrowText and _is_text(values._dtype) and len(values) <= _MOST_TEXTS:
        texts, kind = values._pa_array.to_pylist(), _ARROW
    else:
        return None
    if set(map(type, texts)) != {str}:
        return None  # some are missing, or are something else
    return _TEXT_INDEX, (texts, kind, index._name)


def _is_text(dtype: Any) -> bool:
    """Tell whether it is the dtype that pandas 3 has for text."""
    return dtype.storage == "pyarrow" and _is_nan(dtype.na_value)


def _is_nan(value: Any) -> bool:
    return type(value) is float and math.isnan(value)


def index_of(values: Any, name: Any) -> Any:
    """Put an index over an array together.

    Parameters
    ----------
    values : ndarray
        Of numbers, one-dimensional.
    name : object
        Its name.

    Returns
    -------
    pandas.Index
        It has the array that was given.

    Raises
    ------
    TypeError
        If it is no such array.
    """
    if type(values) is not np.ndarray or values.ndim != 1 or values.dtype.kind not in _NUMBERS:
        raise TypeError("an index needs an array of numbers with one dimension")
    return _Index._simple_new(values, name)


def text_index_of(texts: list[str], kind: int, name: Any) -> Any:
    """Put an index of texts together.

    Parameters
    ----------
    texts : list of str
        The labels.
    kind : int
        Whether it has an array of objects, or one of Arrow.
    name : object
        Its name.

    Returns
    -------
    pandas.Index
        A new one.
    """
    if kind == _ARROW:
        import pyarrow as pa

        values = _ArrowText(pa.array(texts, pa.large_string()), dtype=_text_dtype())
    else:
        values = np.empty(len(texts), object)
        values[:] = texts
    return _Index._simple_new(values, name)


def _text_dtype() -> Any:
    global _dtype  # noqa: PLW0603 - made once
    if _dtype is None:
        _dtype = pd.StringDtype("pyarrow", na_value=np.nan)
    return _dtype


_dtype: Any = None
