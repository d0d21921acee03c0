"""How joblib's calls are pickled: arrays by reference, functions as joblib's own backend does.

joblib's users write lambdas, closures and functions of a script or a notebook; cloudpickle sends
these by value. It comes with joblib: in it, or as its dependency.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._codec.backing import address, lease_of
from onecopy._workers.by_value import ValuePickler

try:
    from numpy.lib.array_utils import byte_bounds
except ImportError:  # numpy 1
    from numpy import byte_bounds  # type: ignore[attr-defined, no-redef]  # gone in numpy 2

if TYPE_CHECKING:
    import io

    import numpy.typing as npt

    from onecopy._native import Member
    from onecopy._workers.pickling import Part

__all__ = ["JoblibPickler"]


class JoblibPickler(ValuePickler):
    """Pickle arrays and references as an executor does, files in memory by name, and any function.

    Arrays of files (`numpy.memmap`, and views of one) are opened again in the worker, with the mode
    that they have here: what a worker writes into one is in the file. Those whose writes stay
    private (mode "c") are shared like any other array.

    Parameters
    ----------
    file, buffers, member, keeps
        As for any `ValuePickler`.
    share_above : float
        Bytes above which an array in ordinary memory is shared; smaller ones are pickled, and the
        receiver may write its copy. scikit-learn's estimators learn in place
        (``partial_fit``, ``warm_start``), which shared arrays would not let them; a model is seldom
        that large, and joblib's own backend makes the same difference.
    """

    def __init__(
        self,
        file: io.BytesIO,
        buffers: list[Part],
        member: Member,
        share_above: float,
        keeps: bool = False,
    ) -> None:
        super().__init__(file, buffers, member, keeps)
        self._share_above = share_above

    def reducer_override(self, obj: Any) -> Any:
        """Reduce arrays of files and small arrays; leave the rest to `ValuePickler`."""
        if isinstance(obj, np.ndarray) and obj.size:
            file = _file_of(obj)
            if file is not None:
                return _by_name(obj, file)
            if type(obj) is np.memmap:  # of no file that a worker could open
                return self._plain(obj.view(np.ndarray))
            if self._is_small(obj):
                return obj.__reduce__()  # with its bytes in the pickle
        return super().reducer_override(obj)

    def _plain(self, array: npt.NDArray[Any]) -> Any:
        if self._is_small(array):
            return array.__reduce__()
        reduced = super().reducer_override(array)
        return array.__reduce_ex__(5) if reduced is NotImplemented else reduced

    def _is_small(self, array: npt.NDArray[Any]) -> bool:
        """Tell whether an array is to be copied, and can be without losing its byte order."""
        return (
            type(array) is np.ndarray
            and array.nbytes <= self._share_above
            and array.dtype.isnative
            and not array.dtype.hasobject
            and lease_of(array) is None
        )


def _file_of(array: npt.NDArray[Any]) -> np.memmap[Any, Any] | None:
    """Find the mapped file that an array is a view of, if it has a name and is written through."""
    if array.dtype.hasobject or type(array) not in {np.ndarray, np.memmap}:
        return None
    base: Any = array
    while isinstance(base, np.ndarray):
        owner: Any = base.base
        if isinstance(owner, mmap.mmap):
            if not isinstance(base, np.memmap) or base.filename is None or base.mode == "c":
                return None
            return base
        base = owner
    return None


def _by_name(array: npt.NDArray[Any], file: np.memmap[Any, Any]) -> Any:
    low, high = byte_bounds(array)
    return _open, (
        str(file.filename),
        "r+" if array.flags.writeable else "r",  # not "w+": that would empty the file
        low - byte_bounds(file)[0] + file.offset,
        high - low,
        address(array) - low,
        array.dtype,
        array.shape,
        array.strides,
    )


def _open(
    name: str,
    mode: Any,
    start: int,
    length: int,
    first: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> Any:
    """Map a part of a file as an array like the one that was sent."""
    memory = np.memmap(name, np.uint8, mode, start, (length,))
    element = memory[first : first + dtype.itemsize].view(dtype)
    return np.lib.stride_tricks.as_strided(element, shape, strides, subok=True)
