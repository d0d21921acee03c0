"""Pictures as PNG or JPEG, and back. Pillow does the work, and no format but these two is opened.

A picture is an array of height and width (grey), of height, width and 3 (red, green, blue), or of
height, width and 4 (with an alpha channel). PNG keeps all of these of uint8, and grey ones of
uint16. JPEG keeps the first two of uint8, and changes them a little. An array that is no such
picture is written as an array.

A small file may claim a picture of any size. So the size in its header is compared with the shape
that the recording says, and with `MOST_PIXELS`, before Pillow sees it.
"""

from __future__ import annotations

import io
import math
import struct
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np

from onecopy._core.arguments import choice, integer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = [
    "FORMATS",
    "MOST_PIXELS",
    "Format",
    "Pictures",
    "Settings",
    "decoded",
    "decoded_of_pickle",
    "settings_of",
]

Format: TypeAlias = Literal["png", "jpeg"]
FORMATS: Final[tuple[Format, ...]] = ("png", "jpeg")
MOST_PIXELS = 1 << 26
"""How many pixels the pictures of a message have together. Further ones are written as arrays."""

_QUALITY = 90
_LONGEST = {"png": (1 << 31) - 1, "jpeg": 65_500}  # pixels of a side
# How Pillow names the pixels of a dtype and of so many channels (0: no axis for them).
_MODES = {
    "png": {("u1", 0): "L", ("u1", 3): "RGB", ("u1", 4): "RGBA", ("u2", 0): "I;16"},
    "jpeg": {("u1", 0): "L", ("u1", 3): "RGB"},
}
# A search for repetitions (the default of zlib) takes longer and finds little in photographs.
_PNG_OPTIONS = {"compress_level": 1, "compress_type": 3}  # Z_RLE
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # of JPEG


def import_pillow() -> Any:
    """Return the module `PIL.Image`.

    Raises
    ------
    ImportError
        Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "pictures as PNG or JPEG in recordings need the package Pillow, which is not "
            "installed: pip install 'onecopy[record]'"
        ) from error
    return Image


class Settings(NamedTuple):
    """How a writer encodes pictures."""

    format: Format
    quality: int


def settings_of(encode: str | None, quality: int | None) -> Settings | None:
    """Check the arguments of a writer. None: pictures are written as arrays.

    Raises
    ------
    ValueError
        One is not valid, or the quality is given for another format than JPEG.
    TypeError
        The quality is no integer.
    ImportError
        Pillow is not installed.
    """
    if encode is not None:
        choice("encode", encode, FORMATS, "without it, pictures are recorded as arrays")
    if quality is not None:
        quality = integer("quality", quality)
        if encode != "jpeg":
            raise ValueError(f"quality={quality}: it is for JPEG only; write encode='jpeg', too")
        if not 1 <= quality <= 100:
            raise ValueError(f"quality={quality}: it is a number from 1 to 100")
    if encode is None:
        return None
    import_pillow()
    return Settings("jpeg" if encode == "jpeg" else "png", quality or _QUALITY)


def _mode(picture_format: str, dtype: np.dtype[Any], shape: Sequence[int]) -> str | None:
    """Return Pillow's name of the pixels; None if an array is no picture of a format."""
    if dtype.kind != "u" or dtype.metadata is not None or len(shape) not in {2, 3}:
        return None
    if not all(1 <= side <= _LONGEST[picture_format] for side in shape[:2]):
        return None
    channels = shape[2] if len(shape) == 3 else 0
    if len(shape) == 3 and not channels:
        return None
    return _MODES[picture_format].get((dtype.str[1:], channels))


# ------------------------------------------------------------------------------------------ writing


class Pictures:
    """The pictures of one message that is written.

    Attributes
    ----------
    format : {"png", "jpeg"}
        How they are encoded.
    used : bool
        Whether the message has one that was encoded.
    """

    def __init__(self, settings: Settings) -> None:
        self.format: Format = settings.format
        self.used: bool = False
        self._quality = settings.quality
        self._left = MOST_PIXELS
        # A message that turns out to need pickle is written twice; its pictures are encoded once.
        self._known: dict[int, tuple[npt.NDArray[Any], bytes]] = {}

    def begin_again(self) -> None:
        """Forget what was written; the message is written in another form."""
        self.used, self._left = False, MOST_PIXELS

    def encoded(self, array: npt.NDArray[Any]) -> bytes | None:
        """Encode an array; return None if it is to be written as an array.

        Parameters
        ----------
        array : ndarray
            Of any dtype, shape and strides.

        Returns
        -------
        bytes or None
            A PNG or JPEG file.
        """
        mode = _mode(self.format, array.dtype, array.shape)
        pixels = math.prod(array.shape[:2])
        if mode is None or pixels > self._left:
            return None
        known = self._known.get(id(array))
        if known is None:
            known = self._known[id(array)] = (array, self._file_of(array))
        self.used = True
        self._left -= pixels
        return known[1]

    def _file_of(self, array: npt.NDArray[Any]) -> bytes:
        in_order = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        file = io.BytesIO()
        picture = import_pillow().fromarray(in_order)
        if self.format == "png":
            picture.save(file, "PNG", **_PNG_OPTIONS)
        else:
            picture.save(file, "JPEG", quality=self._quality)
        return file.getvalue()


# ------------------------------------------------------------------------------------------ reading


def decoded(
    picture_format: str,
    dtype: np.dtype[Any],
    shape: Any,
    data: memoryview | bytes,
    most: int = MOST_PIXELS,
) -> npt.NDArray[Any]:
    """Decode a picture.

    Parameters
    ----------
    picture_format : str
        "png" or "jpeg".
    dtype : numpy.dtype
        Of the array that was encoded.
    shape : list of int
        Of that array.
    data : memoryview or bytes
        The PNG or JPEG file.
    most : int, optional
        How many pixels it has at most.

    Returns
    -------
    ndarray
        It is private and writable.

    Raises
    ------
    ValueError
        This is not such a picture, it is damaged, or it has more pixels.
    ImportError
        Pillow is not installed.
    """
    if picture_format not in FORMATS:
        raise ValueError(f"a picture has the format {str(picture_format)[:40]!r}, not png or jpeg")
    if not isinstance(shape, list | tuple) or not all(type(side) is int for side in shape):
        raise ValueError("a picture has no shape")
    mode = _mode(picture_format, dtype, shape)
    if mode is None:
        raise ValueError(f"no {picture_format} picture has shape {tuple(shape)[:8]} of {dtype}")
    height, width = shape[:2]
    if height * width > most:
        raise ValueError(
            f"it has pictures of more than {MOST_PIXELS:,} pixels, which onecopy does not write"
        )
    claimed = (_png_size if picture_format == "png" else _jpeg_size)(data)
    if claimed != (width, height):
        raise ValueError(f"a picture of {claimed[0]} x {claimed[1]} has the shape {tuple(shape)}")
    pixels = _pixels(import_pillow(), picture_format, mode, (width, height), data)
    if pixels.shape != tuple(shape):
        raise ValueError(f"a picture has the shape {pixels.shape}, not {tuple(shape)}")
    found = np.empty(tuple(shape), dtype)
    found[...] = pixels
    return found


def _pixels(
    pillow: Any, picture_format: str, mode: str, size: tuple[int, int], data: memoryview | bytes
) -> npt.NDArray[Any]:
    name = picture_format.upper()
    try:
        with pillow.open(io.BytesIO(data), formats=[name]) as picture:
            found = (picture.format, picture.size, picture.mode)
            # A JPEG that lists others is opened as MPO; a PNG may be a film. We write neither.
            if found == (name, size, mode) and not getattr(picture, "is_animated", False):
                picture.load()
                return np.asarray(picture)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file raises errors of many types
        raise ValueError(f"a picture cannot be decoded: {error}") from None
    raise ValueError(f"a picture is {found}, not one {(name, size, mode)}")


def _png_size(data: memoryview | bytes) -> tuple[int, int]:
    """Return width and height, as the header says them."""
    if len(data) < 33 or bytes(data[:8]) != _SIGNATURE or bytes(data[12:16]) != b"IHDR":
        raise ValueError("a picture is not a PNG file")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg_size(data: memoryview | bytes) -> tuple[int, int]:
    """Return width and height, as the header of the frame says them."""
    if bytes(data[:2]) != b"\xff\xd8":
        raise ValueError("a picture is not a JPEG file")
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if marker in {0xD9, 0xDA}:  # the end, or pixels
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ValueError("a picture is a JPEG file without a size")


def decoded_of_pickle(
    picture_format: str, dtype: str, shape: tuple[int, ...], data: bytes
) -> npt.NDArray[Any]:
    """Decode a picture that is in a pickle.

    Parameters
    ----------
    picture_format, shape, data
        See `decoded`.
    dtype : str
        The dtype as numpy writes it.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError, ImportError
        As `decoded`.
    """
    return decoded(picture_format, np.dtype(dtype), shape, data)
