"""Special arrays of numpy: subclasses, memory maps, masked arrays.

numpy pickles all of these as bytes inside the pickle, which is a copy on both sides. Here their
memory travels like that of a plain array, and the receiver makes an object of the subclass over it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._codec.backing import address, memory_behind
from onecopy._codec.packing import has_own_reducer
from onecopy._codec.registry import register

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy._codec.packing import Packing, Reducer

__all__ = ["reduce", "types_of"]


def types_of(library: str) -> tuple[tuple[type[Any], Reducer], ...]:
    """Return the types that this module takes apart."""
    if library == "numpy.ma":
        return ((np.ma.MaskedArray, reduce_masked),)
    return ((np.ndarray, reduce),)


def reduce(array: npt.NDArray[Any], packing: Packing) -> Any:
    """Take apart an array of a subclass that numpy itself would pickle.

    A memory map arrives as a plain array, because the file belongs to the sender. Subclasses that
    define their own pickling, and arrays of Python objects, are left to pickle.
    """
    kind = type(array)
    if array.dtype.hasobject or has_own_reducer(kind):
        return NotImplemented
    if kind is np.memmap:
        packing.sends(array)
        return _plain, (np.ndarray.view(array, np.ndarray),)
    if (
        kind.__reduce__ is not np.ndarray.__reduce__
        or kind.__reduce_ex__ is not np.ndarray.__reduce_ex__
        or kind.__setstate__ is not np.ndarray.__setstate__
    ):
        return NotImplemented
    packing.sends(array)
    return _look_as, (np.ndarray.view(array, np.ndarray), kind)


def reduce_masked(array: np.ma.MaskedArray[Any, Any], packing: Packing) -> Any:
    """Take apart a masked array: its data and its mask become separate arrays."""
    if (
        type(array) is not np.ma.MaskedArray
        or array.baseclass is not np.ndarray
        or array.dtype.hasobject
        or has_own_reducer(np.ma.MaskedArray)
    ):
        return NotImplemented
    packing.sends(array)
    mask: Any = np.ma.getmask(array)
    # Do not use the property: it would store the default fill value in the array.
    fill_value = getattr(array, "_fill_value", None)
    data = np.ndarray.view(array, np.ndarray)
    return _masked, (data, None if mask is np.ma.nomask else mask, fill_value, array.hardmask)


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array


def _look_as(array: npt.NDArray[Any], kind: type[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Make an array of a subclass over the memory of an array, as numpy's pickle does.

    So `__array_finalize__` gets None. With a view it would get a plain array. A class may refuse
    that, or reset its attributes because of it.
    """
    if not array.size:
        return np.ndarray.__new__(kind, array.shape, array.dtype)
    behind = memory_behind(array)
    memory: npt.NDArray[np.uint8]
    if behind is not None:
        memory = np.frombuffer(memoryview(behind), np.uint8)
    elif array.flags.forc:
        memory = array.reshape(-1, order="A").view(np.uint8)
    else:
        return array.view(kind)
    offset = address(array) - address(memory)
    return np.ndarray.__new__(kind, array.shape, array.dtype, memory, offset, array.strides)


def _masked(
    data: npt.NDArray[Any], mask: npt.NDArray[Any] | None, fill_value: Any, hard: bool
) -> np.ma.MaskedArray[Any, Any]:
    return np.ma.MaskedArray(
        data,
        mask=np.ma.nomask if mask is None else mask,
        fill_value=fill_value,
        hard_mask=hard,
        keep_mask=False,  # this is the whole mask; do not combine it with another one
        copy=False,
    )


# In this order: the registry asks the types of later entries first, and masked arrays are arrays.
register("numpy", reducers=__name__)
register("numpy.ma", reducers=__name__)  # numpy loads it on first use
