"""Arrays of Python strings, as in columns of dtype object.

Strings are Python objects, so the receiver always makes new ones. Pickle writes them one by one.
Arrow writes them as offsets and UTF-8 in a third of that time, and rebuilds them in half of the
time. If the same string objects occur many times, pickle is better: it sends each object once, and
the receiver has it once. So a sample decides. If pyarrow is not loaded, pickle is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._codec.registry import registry

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["reduce_text"]

_FEW = 4096  # arrays with fewer elements are pickled
_SAMPLE = 512
_DISTINCT = 0.95  # the part of the sample that must be distinct objects for Arrow to be faster
_TEXT = {str, type(None)}


def reduce_text(array: npt.NDArray[Any]) -> Any:
    """Take apart an array of strings and None. NotImplemented for other objects.

    Parameters
    ----------
    array : ndarray
        An array of Python objects.

    Returns
    -------
    tuple or NotImplemented
        A result for `pickle.Pickler.reducer_override`.
    """
    if array.size < _FEW or array.dtype.kind != "O" or not registry.has("pyarrow"):
        return NotImplemented
    if not array.flags.forc:
        return NotImplemented
    flat = array.ravel(order="K")
    if type(flat[0]) not in _TEXT:
        return NotImplemented
    sample = flat[:: flat.size // _SAMPLE].tolist()
    if len(set(map(id, sample))) < _DISTINCT * len(sample):
        return NotImplemented
    if not set(map(type, flat.tolist())) <= _TEXT:  # subclasses would become plain strings
        return NotImplemented
    import pyarrow as pa

    try:
        column = pa.array(flat, pa.large_string(), from_pandas=False)
    except (pa.ArrowException, UnicodeError):  # for example surrogates, which are not text
        return NotImplemented
    return _text, (column, array.shape, "C" if array.flags.c_contiguous else "F")


def _text(column: Any, shape: tuple[int, ...], order: str) -> npt.NDArray[Any]:
    flat: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return np.reshape(flat, shape, order="F" if order == "F" else "C")
