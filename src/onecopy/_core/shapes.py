"""Shapes and dtypes as users pass them, checked."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias

import numpy as np

from onecopy._core.arguments import refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["ShapeLike", "checked_dtype", "checked_shape", "described"]

ShapeLike: TypeAlias = "SupportsIndex | Sequence[SupportsIndex]"


def checked_shape(shape: ShapeLike, hint: str = "") -> tuple[int, ...]:
    """Convert a shape, as numpy accepts it, to a tuple.

    Parameters
    ----------
    shape : int or sequence of int
        No entry below zero.
    hint : str, optional
        What the caller should write instead, for the error.

    Returns
    -------
    tuple of int

    Raises
    ------
    TypeError
        An entry is not an integer.
    ValueError
        An entry is negative.
    """
    try:
        # Exact types first: `isinstance` with a protocol takes 10 us for a tuple.
        if type(shape) is int or (type(shape) is not tuple and isinstance(shape, SupportsIndex)):
            result: tuple[int, ...] = (operator.index(shape),)
        else:
            result = tuple(operator.index(count) for count in shape)
    except TypeError:
        refuse("shape", "an integer or integers", shape, hint)
    if any(count < 0 for count in result):
        raise ValueError(f"shape={result}: negative dimensions are not allowed")
    return result


def described(dtype: npt.DTypeLike | None) -> np.dtype[Any]:
    """Convert a dtype-like object to a dtype, as `numpy.dtype` does.

    If numpy has no memory to find out that a type is a ctypes type, it makes a dtype of Python
    objects. This function raises then.

    Raises
    ------
    MemoryError
        There is no memory for the dtype.
    TypeError
        It is not a dtype.
    """
    result: np.dtype[Any] = np.dtype(dtype)
    if result.char == "O" and isinstance(dtype, type) and _is_of_ctypes(dtype):
        raise MemoryError(f"there is no memory to make a dtype for {dtype.__name__}")
    return result


def _is_of_ctypes(kind: type) -> bool:
    """Tell whether this is a ctypes type whose values are not Python objects."""
    base = kind.__mro__[-2] if len(kind.__mro__) > 1 else kind
    return base.__module__ == "_ctypes" and getattr(kind, "_type_", None) != "O"


def checked_dtype(dtype: npt.DTypeLike | None) -> np.dtype[Any]:
    """Convert a dtype-like object to a dtype that shared memory can contain.

    Parameters
    ----------
    dtype : dtype-like
        Without Python objects in it. None: float64, as in numpy.

    Returns
    -------
    numpy.dtype

    Raises
    ------
    TypeError
        It contains Python objects, or is not a dtype.
    """
    result = described(dtype)
    if result.hasobject:
        raise TypeError(
            f"an array of dtype {result} contains Python objects, which are valid in one process "
            "only; put() and queues pickle such an array instead"
        )
    return result
