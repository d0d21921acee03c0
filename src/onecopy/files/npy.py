"""The header of a .npy file, by numpy's own functions."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.lib import format as npy

from onecopy.files.errors import BadFile, bad_file

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

__all__ = ["MAGIC", "Header", "header_bytes", "read_header"]

MAGIC: bytes = npy.MAGIC_PREFIX
# 3.0 is 2.0 with names in UTF-8; numpy has no public function for it.
_READERS: dict[tuple[int, int], Callable[[Any], tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
    (3, 0): lambda file: npy._read_array_header(file, (3, 0)),  # type: ignore[attr-defined]
}
_MOST = 1 << 20  # bytes of a header that are read; those of structured dtypes may be long


class Header(NamedTuple):
    """What a .npy file says of itself.

    Attributes
    ----------
    shape : tuple of int
        Of the array.
    dtype : numpy.dtype
        Of its elements.
    order : {"C", "F"}
        How they lie.
    offset : int
        Bytes before the first one.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: str
    offset: int


def read_header(fd: int, path: str, size: int) -> Header | None:
    """Read the header of a .npy file.

    Parameters
    ----------
    fd : int
        Of the file; its position stays.
    path : str
        Of the file, for messages.
    size : int
        Its length in bytes.

    Returns
    -------
    Header or None
        None: it is no .npy file.

    Raises
    ------
    BadFile
        The header is cut short, damaged, or of a version that numpy does not know; or the elements
        are Python objects, which cannot be mapped.
    """
    text = os.pread(fd, _MOST, 0)
    if not text.startswith(MAGIC):
        return None
    file = io.BytesIO(text)
    try:
        version = npy.read_magic(file)
        read = _READERS.get(version)
        if read is None:
            raise bad_file(path, size, f"it is a .npy file of version {version}, which is unknown")
        shape, fortran, dtype = read(file)
    except BadFile:
        raise
    except ValueError as error:
        raise bad_file(path, size, f"it begins as a .npy file, but {error}") from error
    if dtype.hasobject:
        raise bad_file(
            path,
            size,
            f"its elements (dtype {dtype}) are Python objects, which cannot be mapped; numpy.load "
            "with allow_pickle=True reads them, if you trust the file",
        )
    return Header(shape, dtype, "F" if fortran else "C", file.tell())


def header_bytes(shape: tuple[int, ...], dtype: np.dtype[Any], order: str) -> bytes:
    """Write the header of a .npy file.

    Parameters
    ----------
    shape, dtype, order
        As in `Header`.

    Returns
    -------
    bytes
        As `numpy.save` would write them.
    """
    file = io.BytesIO()
    about = {
        "descr": npy.dtype_to_descr(dtype),
        "fortran_order": order == "F",
        "shape": shape,
    }
    try:
        npy.write_array_header_1_0(file, about)
    except ValueError:  # too long for it
        file = io.BytesIO()
        npy.write_array_header_2_0(file, about)
    return file.getvalue()
