"""dtypes as JSON and CBOR can hold them, and back. Nothing here evaluates what a file says."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
from numpy.lib import format as npy

__all__ = ["NotPlain", "array_from", "described", "dtype_from", "is_plain", "raw_bytes"]

_KINDS = "biufcmMSUV"
_NAME = re.compile(r"[<>|=][biufcmMSUV]\d{1,9}(\[\d{0,9}[A-Za-z]{0,7}\])?")
_MOST_FIELDS, _DEEPEST = 1000, 8


class NotPlain(Exception):  # noqa: N818 - it is caught in this package only
    """The plain codec has no form for a value."""


def is_plain(dtype: np.dtype[Any]) -> bool:
    """Tell whether elements of a dtype are plain bytes, which mean the same in every process."""
    return (
        dtype.kind in _KINDS
        and not dtype.hasobject
        and dtype.isbuiltin != 2  # of another library
        and dtype.itemsize > 0
        and dtype.metadata is None
    )


def described(dtype: np.dtype[Any]) -> Any:
    """Describe a dtype by strings, numbers and lists, as the .npy format does.

    Raises
    ------
    NotPlain
        The dtype has Python objects, or something else that a description loses.
    """
    if not is_plain(dtype):
        raise NotPlain
    if dtype.names is None and dtype.subdtype is None:
        return dtype.str
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = _as_lists(npy.dtype_to_descr(dtype))
        same = dtype_from(found) == dtype
    except (UserWarning, ValueError, TypeError):
        raise NotPlain from None
    if not same:
        raise NotPlain
    return found


def _as_lists(description: Any) -> Any:
    if isinstance(description, list | tuple):
        return [_as_lists(part) for part in description]
    return description


def dtype_from(description: Any) -> np.dtype[Any]:
    """Return the dtype of a description.

    Raises
    ------
    ValueError
        It does not describe a dtype of plain elements.
    """
    checked = _checked(description, 0)
    try:
        found = npy.descr_to_dtype(checked)
    except (TypeError, ValueError, LookupError, OverflowError, MemoryError) as error:
        raise ValueError(f"it does not describe a dtype: {error}") from None
    if found.hasobject or found.itemsize <= 0:
        raise ValueError("its dtype has Python objects, or no size")
    return found


def _checked(description: Any, depth: int) -> Any:
    """Return the description with tuples where numpy expects them."""
    if isinstance(description, str):
        if not _NAME.fullmatch(description):
            raise ValueError(f"{description[:40]!r} is not a plain dtype")
        return description
    if not isinstance(description, list) or depth > _DEEPEST or len(description) > _MOST_FIELDS:
        raise ValueError("it does not describe a dtype")
    if len(description) == 2 and isinstance(description[0], str) and _is_shape(description[1]):
        return (_checked(description[0], depth + 1), tuple(description[1]))  # a subarray
    return [_checked_field(field, depth + 1) for field in description]


def _checked_field(field: Any, depth: int) -> tuple[Any, ...]:
    if not isinstance(field, list) or len(field) not in {2, 3}:
        raise ValueError("it does not describe a field")
    name = tuple(field[0]) if isinstance(field[0], list) else field[0]  # a title and a name
    names = name if isinstance(name, tuple) else (name,)
    if len(names) > 2 or not all(isinstance(each, str) for each in names):
        raise ValueError("it does not name a field")
    kind = _checked(field[1], depth)
    if len(field) == 2:
        return (name, kind)
    if not _is_shape(field[2]):
        raise ValueError("it does not describe the shape of a field")
    return (name, kind, tuple(field[2]))


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) <= 32
        and all(type(side) is int and 0 <= side < 1 << 31 for side in shape)
    )


def raw_bytes(array: np.ndarray[Any, Any]) -> memoryview:
    """Return the elements of an array in C order, without a copy if they lie so."""
    whole = np.ascontiguousarray(array)
    if whole.size == 0:
        return memoryview(b"")
    return whole.reshape(-1).view(np.uint8).data


def array_from(dtype: np.dtype[Any], shape: Any, data: memoryview) -> np.ndarray[Any, Any]:
    """Make a private, writable array of bytes in C order.

    Raises
    ------
    ValueError
        The number of bytes is not that of the shape.
    """
    if not isinstance(shape, list) or len(shape) > 64:
        raise ValueError("it has no shape")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"its shape is {shape!r}")
    size = dtype.itemsize
    for side in shape:
        size *= side
    if size != len(data):
        raise ValueError(
            f"shape {tuple(shape)} and dtype {dtype} need {size} bytes, not {len(data)}"
        )
    try:
        found = np.empty(tuple(shape), dtype)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"its shape is {tuple(shape)}: {error}") from None
    if size:
        found.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)
    return found
