"""The header of a .npy file, by numpy's own functions."""

from __future__ import annotations

import ast
import io
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.lib import format as npy

from onecopy.files.errors import bad_file

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MAGIC", "Header", "header_bytes", "read_header"]

MAGIC: bytes = npy.MAGIC_PREFIX
_MOST = 1 << 20  # bytes; the longest header that is read (structured dtypes need long ones)


class Header(NamedTuple):
    """The contents of the header of a .npy file.

    Attributes
    ----------
    shape : tuple of int
        Of the array.
    dtype : numpy.dtype
        Of its elements.
    order : {"C", "F"}
        The order of the elements in memory.
    offset : int
        Bytes before the first element.
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
        A descriptor of the file. Its position does not change.
    path : str
        Of the file, for messages.
    size : int
        Its length in bytes.

    Returns
    -------
    Header or None
        None: it is not a .npy file.

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
        if version == (1, 0):
            shape, fortran, dtype = npy.read_array_header_1_0(file, _MOST)
        elif version == (2, 0):
            shape, fortran, dtype = npy.read_array_header_2_0(file, _MOST)
        else:
            shape, fortran, dtype = _read_3_0(file, version)
        _check_shape(shape)
    except Exception as error:  # numpy evaluates the text, which may raise anything
        raise bad_file(path, size, f"it begins like a .npy file, but {error}") from error
    if dtype.hasobject:
        raise bad_file(
            path,
            size,
            f"its elements (dtype {dtype}) are Python objects, which cannot be mapped; numpy.load "
            "with allow_pickle=True reads them, if you trust the file",
        )
    return Header(shape, dtype, "F" if fortran else "C", file.tell())


def _read_3_0(
    file: io.BytesIO, version: tuple[int, int]
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read a header like version 2.0, but in UTF-8. numpy has no public function for it."""
    if version != (3, 0):
        raise ValueError(f"version {version} is unknown")
    length = int.from_bytes(file.read(4), "little")
    text = file.read(length)
    if len(text) < length:
        raise ValueError("its header is cut short")
    about = ast.literal_eval(text.decode())
    return tuple(about["shape"]), bool(about["fortran_order"]), npy.descr_to_dtype(about["descr"])


def _check_shape(shape: tuple[object, ...]) -> None:
    """Refuse shapes that numpy's reader accepts although no array can have them."""
    if any(type(count) is not int or count < 0 for count in shape):
        raise ValueError(f"its shape is {shape!r:.200}, which no array can have")


def header_bytes(shape: tuple[int, ...], dtype: np.dtype[Any], order: str) -> bytes:
    """Write the header of a .npy file.

    Parameters
    ----------
    shape, dtype, order
        As in `Header`.

    Returns
    -------
    bytes
        The same bytes as `numpy.save` writes.

    Raises
    ------
    ValueError
        The description of the dtype has more than 1 MiB, so the file could not be read again.
    """
    file = io.BytesIO()
    about = {
        "descr": npy.dtype_to_descr(dtype),
        "fortran_order": order == "F",
        "shape": shape,
    }
    try:
        npy.write_array_header_1_0(file, about)
    except UnicodeEncodeError:  # a kind of ValueError
        file = io.BytesIO(_header_3_0(about))
    except ValueError:  # too long for it
        file = io.BytesIO()
        try:
            npy.write_array_header_2_0(file, about)
        except UnicodeEncodeError:
            file = io.BytesIO(_header_3_0(about))
    header = file.getvalue()
    if len(header) > _MOST:
        raise ValueError(
            f"dtype with {len(dtype.names or ())} fields: its description in a .npy file has "
            f"{len(header)} bytes, but at most {_MOST} are read; write a raw file (with an ending "
            "other than .npy), or use fewer or shorter names"
        )
    return header


def _header_3_0(about: dict[str, Any]) -> bytes:
    """Write a header in UTF-8. numpy has no public function for this either."""
    text = f"{about!r}\n".encode()
    start = npy.magic(3, 0)
    spaces = -(len(start) + 4 + len(text)) % npy.ARRAY_ALIGN
    text = text[:-1] + b" " * spaces + text[-1:]
    return bytes(start) + len(text).to_bytes(4, "little") + text
