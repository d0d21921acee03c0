"""`open_array`: raw and .npy files as arrays."""

from __future__ import annotations

import contextlib
import math
import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from onecopy import _native
from onecopy._core.newfile import NewFile
from onecopy._core.shapes import checked_dtype, checked_shape
from onecopy.files import (
    npy,
    passing,  # noqa: F401 - it connects mapped files to the codecs
)
from onecopy.files.advice import Advice, advise_range, checked_advice
from onecopy.files.errors import bad_file
from onecopy.files.mapped import MappedArray, over
from onecopy.files.mapping import map_file, open_file

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy._core.shapes import ShapeLike

__all__ = ["open_array"]

_MODES = ("r", "r+", "w+", "c")
_OTHER_KINDS = {
    b"ARROW1": "an Arrow file; see open_table",
    b"FEA1": "a Feather file of version 1; see pyarrow.feather.read_table",
    b"PAR1": "a Parquet file; see open_table",
    b"PK\x03\x04": "an archive (.npz?); see numpy.load",
}


def open_array(
    path: str | os.PathLike[str],
    dtype: npt.DTypeLike | None = None,
    shape: ShapeLike | None = None,
    mode: Literal["r", "r+", "w+", "c"] = "r",
    *,
    offset: int = 0,
    order: Literal["C", "F"] = "C",
    prefault: bool = False,
    advise: Advice = None,
) -> MappedArray:
    """Open a file of numbers as an array, without reading the file.

    Parameters
    ----------
    path : str or path-like
        A .npy file, or a raw file, which contains only elements.
    dtype : dtype-like, optional
        Without Python objects. Default: the dtype of the .npy file; for a raw file uint8, as in
        `numpy.memmap`. A file of another known format (Arrow, Parquet, an archive), or a file named
        .npy that is not one, is opened as a raw file only if a dtype is given.
    shape : int or sequence of int, optional
        Default: the shape of the .npy file; for a raw file all its elements, in one dimension.
    mode : {"r", "r+", "w+", "c"}, optional
        As for `numpy.memmap`. ``"r"``: read. ``"r+"``: read and write. ``"w+"``: make a new file,
        full of zeros, and write (with a header, if the path ends in ``.npy``). ``"c"``: read;
        writes are private to this process. If a file of that name exists, ``"w+"`` replaces it and
        does not overwrite it: existing mappings of the old file, and its other names (hard links),
        stay valid. The new file gets the permissions of the old one, and its owner and group if
        this process may set them.
    offset : int, optional
        Bytes of a raw file before the first element. With an offset, a .npy file is opened as a raw
        file.
    order : {"C", "F"}, optional
        The order of the elements in a raw file or a new file.
    prefault : bool, optional
        Whether to read the whole file into memory now, so that later reads need not wait for the
        disk.
    advise : {"sequential", "random"}, optional
        How the file will be read. The kernel then reads further ahead, or does not read ahead.

    Returns
    -------
    MappedArray
        It travels by the name of the file. Each process maps a file once per mode, also if it is
        opened several times.

    Raises
    ------
    BadFile
        The file is empty, cut short, a pool, not a regular file, or has another shape or dtype.
    OSError
        The file does not exist, this process may not open it, or (``"w+"``) the disk is full.
    ValueError, TypeError
        An argument is not valid.

    Notes
    -----
    Several threads may open and use arrays at the same time. A forked child has its parent's
    mappings.

    Examples
    --------
    >>> np.save("numbers.npy", np.arange(1_000_000))
    >>> numbers = oc.open_array("numbers.npy")  # nothing is read yet
    >>> int(numbers[-1])
    999999
    >>> with oc.Executor(1) as executor:  # its name is sent, and the worker maps the file
    ...     int(executor.submit(np.sum, numbers).result())
    499999500000
    """
    if mode not in _MODES:
        raise ValueError(f"mode={mode!r}: it is one of {', '.join(map(repr, _MODES))}")
    if order not in {"C", "F"}:
        raise ValueError(f"order={order!r}: it must be 'C' or 'F'")
    if offset < 0:
        raise ValueError(f"offset={offset}: it cannot be negative")
    checked_advice(advise)
    asked_shape = None if shape is None else checked_shape(shape)
    asked_dtype = None if dtype is None else checked_dtype(dtype)
    name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - pathlib has no paths of bytes
    if mode == "w+":
        fd, header = _make(name, asked_dtype, asked_shape, offset, order)
    else:
        fd, there = open_file(name, mode == "r+")
        try:
            header = _header(fd, name, there.st_size, asked_dtype, asked_shape, offset, order)
        except BaseException:
            os.close(fd)
            raise
    nbytes = math.prod(header.shape) * header.dtype.itemsize
    try:
        if nbytes == 0:
            return _empty(header, name, mode)
        mapping = map_file(fd, name, mode)
    finally:
        os.close(fd)
    advise_range(mapping, header.offset, nbytes, advise, prefault)
    try:
        array = over(mapping, header.shape, header.dtype, header.offset, order=header.order)
    except ValueError as error:  # for example, too many dimensions
        raise bad_file(name, len(mapping), f"numpy cannot make such an array: {error}") from error
    array.mode = mode
    return array


def _header(
    fd: int,
    path: str,
    size: int,
    dtype: np.dtype[Any] | None,
    shape: tuple[int, ...] | None,
    offset: int,
    order: str,
) -> npy.Header:
    """Read what the file contains, and compare it with the arguments."""
    found = npy.read_header(fd, path, size) if offset == 0 else None
    if found is None:
        if dtype is None and offset == 0:
            _refuse_other_kinds(fd, path, size)
        dtype = np.dtype(np.uint8) if dtype is None else dtype
        if shape is None:
            shape = (_count(path, size, dtype, offset),)
        found = npy.Header(shape, dtype, order, offset)
    else:
        for what, asked, there in (("dtype", dtype, found.dtype), ("shape", shape, found.shape)):
            if asked is not None and asked != there:
                raise bad_file(
                    path,
                    size,
                    f"its header has {what}={there}, but the call has {what}={asked}; leave {what} "
                    f"out to use that of the file, or pass an offset to open it as a raw file",
                )
    needed = found.offset + math.prod(found.shape) * found.dtype.itemsize
    if size < needed:
        raise bad_file(
            path,
            size,
            f"{needed} bytes are needed for shape={found.shape}, dtype={found.dtype} from byte "
            f"{found.offset} on: the file was cut short, or is another file than you expect",
        )
    return found


def _refuse_other_kinds(fd: int, path: str, size: int) -> None:
    """Refuse a file of another known format, if the caller gave no dtype."""
    start = os.pread(fd, 8, 0)
    kind = next((kind for magic, kind in _OTHER_KINDS.items() if start.startswith(magic)), None)
    if kind is None and path.endswith(".npy"):
        kind = "not a .npy file, in spite of its name"
    if kind is not None:
        raise bad_file(path, size, f"it is {kind}; to open it as bytes, pass dtype='uint8'")


def _count(path: str, size: int, dtype: np.dtype[Any], offset: int) -> int:
    """Count the elements of a raw file."""
    if size == 0:
        raise bad_file(path, size, "the file is empty; it cannot be mapped")
    if offset > size or dtype.itemsize == 0 or (size - offset) % dtype.itemsize:
        raise bad_file(
            path,
            size,
            f"the bytes from {offset} on are not a whole number of elements of dtype={dtype} "
            f"({dtype.itemsize} bytes each): the file was cut short, or has another dtype or "
            "offset; pass a shape to open a part of it",
        )
    return (size - offset) // dtype.itemsize


def _make(
    path: str,
    dtype: np.dtype[Any] | None,
    shape: tuple[int, ...] | None,
    offset: int,
    order: str,
) -> tuple[int, npy.Header]:
    """Make a file of zeros, and give it the name in the place of an old file."""
    if shape is None:
        raise ValueError("shape is missing: a new file (mode='w+') needs one")
    dtype = np.dtype(np.uint8) if dtype is None else dtype
    start = b""
    if path.endswith(".npy"):
        if offset:
            raise ValueError(f"offset={offset}: a new .npy file determines the offset itself")
        start = npy.header_bytes(shape, dtype, order)
        offset = len(start)
    size = offset + math.prod(shape) * dtype.itemsize
    goal = os.path.realpath(path)
    old = _replaceable(goal)
    with NewFile(goal, 0o666) as file:
        try:
            if old is not None:
                _take_over_rights(file.fd, old)
            os.write(file.fd, start)
            if size:
                # Reserve the space: a full disk then is an error now, not a SIGBUS later.
                os.posix_fallocate(file.fd, 0, size)
            file.replace()
        except BaseException as error:
            os.close(file.fd)
            if isinstance(error, OSError):
                raise OSError(
                    error.errno, f"{error.strerror}: {size} bytes for a new array", path
                ) from error
            raise
    return file.fd, npy.Header(shape, dtype, order, offset)


def _replaceable(path: str) -> os.stat_result | None:
    """Return the status of the file to replace, or None; refuse a pool."""
    try:
        fd, there = open_file(path, writable=False)
    except FileNotFoundError:
        return None
    try:
        if os.pread(fd, len(_native.POOL_MAGIC), 0) == _native.POOL_MAGIC:
            raise bad_file(path, there.st_size, "it is a pool; remove it if it is not needed")
    finally:
        os.close(fd)
    return there


def _take_over_rights(fd: int, old: os.stat_result) -> None:
    """Give a new file the owner and the permissions of the old one, as far as allowed."""
    new = os.fstat(fd)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(fd, old.st_uid, old.st_gid)
    os.fchmod(fd, old.st_mode & 0o777)


def _empty(header: npy.Header, path: str, mode: str) -> MappedArray:
    """Return an array without elements. Its memory does not lie in the file."""
    try:
        memory = np.empty(header.shape, header.dtype, order="F" if header.order == "F" else "C")
    except ValueError as error:
        raise bad_file(path, 0, f"numpy cannot make such an array: {error}") from error
    array = memory.view(MappedArray)
    array.flags.writeable = mode != "r"
    array.filename, array.offset, array.mode = path, header.offset, mode
    return array
