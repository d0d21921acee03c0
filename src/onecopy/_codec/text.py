"""Arrays of Python strings, as columns of dtype object have them.

Strings are Python objects, so the receiver makes new ones in any case. Pickle writes them one by
one; Arrow lays them out as offsets and UTF-8 in a third of the time, and makes them again in half
of it. Only if the same strings occur again and again is pickle better: it sends each object once,
and the receiver has it once. So a sample decides. Without pyarrow loaded, pickle it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._codec.registry import registry

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["reduce_text"]

_FEW = 4096  # elements below which pickle does it
_SAMPLE = 512
_DISTINCT = 0.95  # of the sample, so that Arrow is worth it
_TEXT = {str, type(None)}


def reduce_text(array: npt.NDArray[Any]) -> Any:
    """Take apart an array of strings and None; NotImplemented for other objects.

    Parameters
    ----------
    array : ndarray
        Of Python objects.

    Returns
    -------
    tuple or NotImplemented
        As `pickle.Pickler.reducer_override` is to answer.
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
    if not set(map(type, flat.tolist())) <= _TEXT:  # subclasses would come back as plain strings
        return NotImplemented
    import pyarrow as pa

    try:
        column = pa.array(flat, pa.large_string(), from_pandas=False)
    except (pa.ArrowException, UnicodeError):  # surrogates that are no text, say
        return NotImplemented
    return _text, (column, array.shape, "C" if array.flags.c_contiguous else "F")


def _text(column: Any, shape: tuple[int, ...], order: str) -> npt.NDArray[Any]:
    flat: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return np.reshape(flat, shape, order="F" if order == "F" else "C")
