"""`open_array`: raw and .npy files as arrays."""

from __future__ import annotations

import contextlib
import math
import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

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
    """Open a file of numbers as an array, without reading it.

    Parameters
    ----------
    path : str or path-like
        Of a .npy file, or of one that has nothing but elements.
    dtype : dtype-like, optional
        Without Python objects. Default: what the .npy file says; for a raw file uint8, as in
        `numpy.memmap`. Files that are known to be of another kind (Arrow, Parquet, archives, a
        .npy that is none) are taken as raw ones only if a dtype is given.
    shape : int or sequence of int, optional
        Default: what the .npy file says; for a raw file as many elements as it has, in one
        dimension.
    mode : {"r", "r+", "w+", "c"}, optional
        As for `numpy.memmap`: read; read and write; make a new file, full of zeros, and write
        (``.npy`` at the end of the path gives it a header); read, and keep what is written to
        oneself. A file that ``"w+"`` finds under the name is replaced, not overwritten: whoever
        has it mapped keeps the old one, and so do its other names (hard links). The new file has
        the permissions of the old one, and its owner and group if this process may give them.
    offset : int, optional
        Bytes of a raw file before the first element. A .npy file that is opened with an offset is
        taken as a raw one.
    order : {"C", "F"}, optional
        How the elements of a raw file, or a new one, lie.
    prefault : bool, optional
        Whether to read all of it into memory now, so that nothing waits for the disk later.
    advise : {"sequential", "random"}, optional
        How it is going to be read: the kernel then reads further ahead, or not at all.

    Returns
    -------
    MappedArray
        It travels by naming the file. Each process maps a file once per mode, whoever opens it and
        however often.

    Raises
    ------
    BadFile
        The file is empty, cut short, a pool, no regular file, or has another shape or dtype.
    OSError
        It is not there, this process has no right to it, or (``"w+"``) the disk is full.
    ValueError, TypeError
        An argument will not do.

    Notes
    -----
    Threads may open and use arrays at once. A child made by fork has its parent's mappings.
    """
    if mode not in _MODES:
        raise ValueError(f"mode={mode!r}: it is one of {', '.join(map(repr, _MODES))}")
    if order not in {"C", "F"}:
        raise ValueError(f"order={order!r}: it is 'C' or 'F'")
    if offset < 0:
        raise ValueError(f"offset={offset}: it cannot be negative")
    checked_advice(advise)
    asked_shape = None if shape is None else checked_shape(shape)
    asked_dtype = None if dtype is None else checked_dtype(dtype)
    name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a path of bytes is none of pathlib's
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
    except ValueError as error:  # of more dimensions than numpy has, say
        raise bad_file(name, len(mapping), f"there is no array like it: {error}") from error
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
    """Find out what the file has, and whether that is what was asked for."""
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
                    f"its header says {what}={there}, and {what}={asked} was asked for; leave "
                    f"{what} out to take it as it is, or give an offset to read it as a raw file",
                )
    needed = found.offset + math.prod(found.shape) * found.dtype.itemsize
    if size < needed:
        raise bad_file(
            path,
            size,
            f"{needed} bytes are needed for shape={found.shape}, dtype={found.dtype} from byte "
            f"{found.offset} on: the file was cut short, or is not the one that was meant",
        )
    return found


def _refuse_other_kinds(fd: int, path: str, size: int) -> None:
    """Refuse to take a file as bytes without being told to, if it is known not to be just bytes."""
    start = os.pread(fd, 8, 0)
    kind = next((kind for magic, kind in _OTHER_KINDS.items() if start.startswith(magic)), None)
    if kind is None and path.endswith(".npy"):
        kind = "no .npy file, in spite of its name"
    if kind is not None:
        raise bad_file(
            path, size, f"it is {kind}; to have it as bytes all the same, say dtype='uint8'"
        )


def _count(path: str, size: int, dtype: np.dtype[Any], offset: int) -> int:
    """Tell how many elements a raw file has."""
    if size == 0:
        raise bad_file(path, size, "the file is empty; there is nothing to map")
    if offset > size or dtype.itemsize == 0 or (size - offset) % dtype.itemsize:
        raise bad_file(
            path,
            size,
            f"what lies from byte {offset} on is no whole number of elements of dtype={dtype} "
            f"({dtype.itemsize} bytes each): the file was cut short, or has another dtype or "
            "offset; give a shape to read a part of it",
        )
    return (size - offset) // dtype.itemsize


def _make(
    path: str,
    dtype: np.dtype[Any] | None,
    shape: tuple[int, ...] | None,
    offset: int,
    order: str,
) -> tuple[int, npy.Header]:
    """Make a file of zeros beside, and put it in the place of what has the name."""
    if shape is None:
        raise ValueError("shape: a file that is made (mode='w+') needs one")
    dtype = np.dtype(np.uint8) if dtype is None else dtype
    start = b""
    if path.endswith(".npy"):
        if offset:
            raise ValueError(f"offset={offset}: a .npy file that is made has its own")
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
                # Reserved, not only long: a disk that is full is an error now, no SIGBUS later.
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
    """Look at what is to be replaced, if there is anything; refuse what is no file of numbers."""
    try:
        fd, there = open_file(path, writable=False)
    except FileNotFoundError:
        return None
    try:
        if os.pread(fd, 8, 0) == b"onecopy1":
            raise bad_file(path, there.st_size, "it is a pool; remove it if it is not needed")
    finally:
        os.close(fd)
    return there


def _take_over_rights(fd: int, old: os.stat_result) -> None:
    """Let a new file be read and written by whoever might read and write the old one."""
    new = os.fstat(fd)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(fd, old.st_uid, old.st_gid)
    os.fchmod(fd, old.st_mode & 0o777)


def _empty(header: npy.Header, path: str, mode: str) -> MappedArray:
    """Give an array without elements; it needs no file, and lies in none."""
    try:
        memory = np.empty(header.shape, header.dtype, order="F" if header.order == "F" else "C")
    except ValueError as error:
        raise bad_file(path, 0, f"there is no array like it: {error}") from error
    array = memory.view(MappedArray)
    array.flags.writeable = mode != "r"
    array.filename, array.offset, array.mode = path, header.offset, mode
    return array
