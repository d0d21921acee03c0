"""`MappedArray`: an array over a mapped file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from onecopy._codec import pickler
from onecopy._codec.arrays import InPlaceArray

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy.files.mapping import Mapping

__all__ = ["MappedArray", "over"]


class MappedArray(InPlaceArray, np.memmap[Any, Any]):
    """An array whose memory is a file: a `numpy.memmap` that travels by naming the file.

    Made by `onecopy.open_array`. Pickled, put into a pool, sent on a queue or given to a worker of
    an executor, it and its views arrive as the same file, mapped by the receiver with the same
    mode (a read-only view for reading only); nothing is copied. What is computed from it, and a
    copy of it, is an ordinary array. An array that was opened with mode ``"c"`` is this process's
    own, and is copied on its way.

    Nothing keeps two processes from writing the same bytes at the same time (``"r+"``, ``"w+"``):
    use a lock, or let each write a part of its own. A file that somebody cuts short while it is
    mapped ends a process that reads beyond its new end (SIGBUS).
    """

    def __getitem__(self, index: Any) -> Any:
        """Give a view as a mapped array, and a copy (by fancy indexing) as an ordinary one."""
        part = super().__getitem__(index)
        if type(part) is MappedArray and part._mmap is None:  # type: ignore[attr-defined]  # of numpy.memmap
            return part.view(np.ndarray)
        return part

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickle by the file's name and identity."""
        named = None if pickler.files is None else pickler.files.reduce_array(self)
        return self.view(np.ndarray).__reduce_ex__(protocol) if named is None else named

    def __reduce__(self) -> Any:
        """Pickle by the file's name and identity."""
        return self.__reduce_ex__(2)

    def flush(self) -> None:
        """Write what was changed to the disk, and wait until it is there.

        Processes need no flush to see each other's writes. Without effect for modes ``"r"`` and
        ``"c"``.

        Raises
        ------
        OSError
            The disk is full, or failed.
        """
        if self._mmap is not None and self.mode in {"r+", "w+"}:  # type: ignore[attr-defined]  # of numpy.memmap
            self._mmap.flush()  # type: ignore[attr-defined]  # as above


def over(
    file: Mapping,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    offset: int,
    *,
    order: str = "C",
    strides: tuple[int, ...] | None = None,
) -> MappedArray:
    """Lay an array over a mapped file.

    Parameters
    ----------
    file : Mapping
        Long enough.
    shape : tuple of int
        Of the array.
    dtype : numpy.dtype
        Without Python objects.
    offset : int
        Of the first element, in bytes of the file.
    order : {"C", "F"}
        Unless there are strides.
    strides : tuple of int, optional
        In bytes.

    Returns
    -------
    MappedArray
        With the attributes that `numpy.memmap` has: ``filename``, ``offset``, ``mode``.
    """
    array: npt.NDArray[Any] = np.ndarray.__new__(
        MappedArray,
        shape,
        dtype,
        file,
        offset,
        strides,
        order="F" if order == "F" else "C",
    )
    array._mmap = file  # type: ignore[attr-defined]  # what numpy.memmap sets
    array.filename = file.path  # type: ignore[attr-defined]  # as above
    array.offset = offset  # type: ignore[attr-defined]  # as above
    array.mode = file.mode  # type: ignore[attr-defined]  # as above
    return array  # type: ignore[return-value]  # it is one
