"""The picture in a message, as a small PNG file."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    AnyArray = npt.NDArray[Any]

__all__ = ["Picture", "find", "png", "small"]

LARGEST = 480  # pixels of the longer side
SMALLEST = 8  # pixels of a side; smaller arrays are no pictures
_DEEPEST = 3  # levels of dicts, lists and records in which an array is looked for
_MANY = 64  # values of one of them
_COLOURS = {1: 0, 3: 2, 4: 6}  # channels, and the type of colour in a PNG file


class Picture(NamedTuple):
    """A small copy of an array.

    Attributes
    ----------
    pixels : ndarray of uint8
        Height, width, channels: 1, 3 or 4.
    text : str
        What the array is: its dtype and shape, and how it was scaled.
    """

    pixels: Pixels
    text: str


def find(message: Any) -> AnyArray | None:
    """Find the first array in a message that may be a picture.

    Parameters
    ----------
    message : object
        An array, or something that has one: a dict, list, tuple, dataclass.

    Returns
    -------
    ndarray or None
    """
    return next((each for each in _arrays(message, 0) if _layout(each) is not None), None)


def _arrays(value: Any, depth: int) -> Iterator[AnyArray]:
    if isinstance(value, np.ndarray):
        yield np.asarray(value)
    elif depth < _DEEPEST:
        parts: list[Any] = []
        if isinstance(value, dict):
            parts = list(value.values())
        elif isinstance(value, list | tuple):
            parts = list(value[:_MANY])
        elif not isinstance(value, type):
            names = getattr(type(value), "__struct_fields__", ())  # msgspec
            if dataclasses.is_dataclass(value):
                names = [field.name for field in dataclasses.fields(value)]
            parts = [getattr(value, name, None) for name in names]
        for part in parts[:_MANY]:
            yield from _arrays(part, depth + 1)


def _layout(array: AnyArray) -> str | None:
    """Return the order of the axes: height, width, channels. None: it is no picture."""
    if array.dtype.kind not in "buif":
        return None
    if array.ndim == 2 and min(array.shape) >= SMALLEST:
        return "hw"
    if array.ndim == 3 and array.shape[2] in _COLOURS and min(array.shape[:2]) >= SMALLEST:
        return "hwc"
    if array.ndim == 3 and array.shape[0] in _COLOURS and min(array.shape[1:]) >= SMALLEST:
        return "chw"
    return None


def small(array: AnyArray, *, bgr: bool = False) -> Picture:
    """Copy a picture into at most 480 × 480 pixels of 8 bits.

    Parameters
    ----------
    array : ndarray
        As `find` returns it.
    bgr : bool, optional
        Whether its colours are in the order of OpenCV: blue, green, red.

    Returns
    -------
    Picture
        It refers to no memory of the pool.
    """  # noqa: RUF002 - people write sizes with that sign
    text = f"{array.dtype.name}, shape {array.shape}"
    layout = _layout(array)
    if layout == "hw":
        array = array[:, :, np.newaxis]
    elif layout == "chw":
        array = array.transpose(1, 2, 0)
    height, width = array.shape[:2]
    scale = min(1.0, LARGEST / max(height, width))
    rows = _places(height, scale)
    columns = _places(width, scale)
    sampled = array[np.ix_(rows, columns)]
    if sampled.dtype == np.bool_:
        pixels = sampled.astype(np.uint8) * np.uint8(255)
        text += ", False to True"
    elif sampled.dtype == np.uint8:
        pixels = sampled
        text += f", {sampled.min()} to {sampled.max()}"
    else:
        pixels, words = _scaled(sampled)
        text += words
    if bgr and pixels.shape[2] >= 3:
        pixels = pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]
    if scale < 1:
        text += f"; shown as {len(columns)} × {len(rows)}"  # noqa: RUF001 - as people write sizes
    return Picture(np.ascontiguousarray(pixels), text)


def _places(length: int, scale: float) -> npt.NDArray[np.intp]:
    count = max(1, round(length * scale))
    return ((np.arange(count) + 0.5) * (length / count)).astype(np.intp)


def _scaled(sampled: AnyArray) -> tuple[Pixels, str]:
    """Scale so that the smallest element is black and the largest one white."""
    values = sampled.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8), ", no finite element"
    low, high = float(values[finite].min()), float(values[finite].max())
    half = (high / 2 - low / 2) or 0.5  # half, so that it does not overflow
    values = np.where(finite, values, low)
    unit = np.clip((values / 2 - low / 2) / half, 0.0, 1.0)
    return (unit * 255 + 0.5).astype(np.uint8), f", scaled from {low:g} to {high:g}"


def png(pixels: Pixels) -> bytes:
    """Encode a picture.

    Parameters
    ----------
    pixels : ndarray of uint8
        Height, width, channels: 1 (grey), 3 (RGB) or 4 (RGBA).

    Returns
    -------
    bytes
        A PNG file.
    """
    height, width, channels = pixels.shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each line begins with its filter
    lines[:, 0] = 1  # "Sub": differences to the pixel on the left, which are smaller files
    lines[:, 1:] = pixels.reshape(height, -1)
    lines[:, 1 + channels :] -= lines[:, 1:-channels].copy()
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", head),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 1)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
