"""`MappedArray`: an array over a mapped file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from onecopy._codec.arrays import InPlaceArray
from onecopy._codec.registry import registry

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy.files.mapping import Mapping

__all__ = ["MappedArray", "over"]


class MappedArray(InPlaceArray, np.memmap[Any, Any]):
    """An array whose memory is a file: a `numpy.memmap` that travels by the file's name.

    `onecopy.open_array` makes it. You may pickle it, put it into a pool, send it on a queue or pass
    it to a worker of an executor, and also its views. The receiver maps the same file with the same
    mode (for a read-only view: for reading only). Nothing is copied. Results of computations, and
    copies, are ordinary arrays. An array that was opened with mode ``"c"`` is private to this
    process, and is copied when it is sent.

    Two processes can write to the same bytes at the same time (``"r+"``, ``"w+"``): use a lock, or
    let each process write to another part. If a file is cut short while it is mapped, SIGBUS ends a
    process that reads beyond the new end.

    Examples
    --------
    >>> array = oc.open_array("numbers.npy", np.float32, (1000, 3), mode="w+")
    >>> array[:] = 1
    >>> array.flush()  # until it is on the disk
    >>> oc.open_array("numbers.npy").shape
    (1000, 3)
    """

    def __getitem__(self, index: Any) -> Any:
        """Return a view as a mapped array, and a copy (by fancy indexing) as an ordinary array."""
        part = super().__getitem__(index)
        if type(part) is MappedArray and part._mmap is None:  # type: ignore[attr-defined]  # of numpy.memmap
            return part.view(np.ndarray)
        return part

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickle by the file's name and identity."""
        named = None if registry.files is None else registry.files.reduce_array(self)
        return self.view(np.ndarray).__reduce_ex__(protocol) if named is None else named

    def __reduce__(self) -> Any:
        """Pickle by the file's name and identity."""
        return self.__reduce_ex__(2)

    def flush(self) -> None:
        """Write all changes to the disk, and wait until they are there.

        Processes see each other's writes without a flush. For modes ``"r"`` and ``"c"`` this does
        nothing.

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
    """Make an array over a mapped file.

    Parameters
    ----------
    file : Mapping
        A mapping that is long enough.
    shape : tuple of int
        Of the array.
    dtype : numpy.dtype
        Without Python objects.
    offset : int
        The offset of the first element, in bytes of the file.
    order : {"C", "F"}
        The order of the elements. Not used if `strides` are passed.
    strides : tuple of int, optional
        In bytes.

    Returns
    -------
    MappedArray
        It has the attributes of `numpy.memmap`: ``filename``, ``offset``, ``mode``.
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
