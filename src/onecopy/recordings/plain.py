"""Values as CBOR (RFC 8949), and back. Reading runs no code of the file and imports nothing.

======================================================  ==========================================
value, of exactly this type                             form
======================================================  ==========================================
None, bool, int, float, str, bytes, list, dict          CBOR's own; large ints by tags 2 and 3
`uuid.UUID`                                             tag 37: 16 bytes
tuple, set, frozenset, bytearray, complex, date,        a tag of our own, see `_TAGS`
time, datetime, timedelta, Decimal, numpy's arrays and
scalars of plain elements
a picture, if the writer encodes them                   a tag of our own: format, dtype, shape, file
======================================================  ==========================================

Everything else is `NotPlain`: subclasses, dataclasses, tables, more than 50 levels, cycles. An
object that a value contains twice is read as two objects.
"""

from __future__ import annotations

import datetime as dt
import struct
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from onecopy._codec.arrays import SharedArray
from onecopy.files.mapped import MappedArray
from onecopy.recordings.dtypes import (
    NotPlain,
    array_from,
    described,
    dtype_from,
    is_plain,
    raw_bytes,
)
from onecopy.recordings.pictures import MOST_PIXELS, decoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy.recordings.pictures import Pictures

__all__ = ["ARRAYS", "NotPlain", "dump", "load"]

ARRAYS = (np.ndarray, SharedArray, MappedArray)
"""The types of arrays that are recorded by value."""

_DEEPEST = 50
_TAG = 0x6F63_0000  # "oc"; tags of this size are for anyone to take
_TUPLE, _SET, _FROZENSET, _BYTEARRAY, _COMPLEX = range(_TAG, _TAG + 5)
_DATE, _TIME, _DATETIME, _TIMEDELTA, _DECIMAL, _ARRAY, _SCALAR = range(_TAG + 5, _TAG + 12)
_PICTURE = _TAG + 12
_UUID, _POSITIVE, _NEGATIVE = 37, 2, 3
_NONE, _FALSE, _TRUE = b"\xf6", b"\xf4", b"\xf5"


# ------------------------------------------------------------------------------------------ writing


class _Parts(list["bytes | memoryview"]):
    """What was written so far, and how pictures are written."""

    __slots__ = ("pictures",)

    def __init__(self, pictures: Pictures | None) -> None:
        self.pictures = pictures


def dump(value: Any, pictures: Pictures | None = None) -> list[bytes | memoryview]:
    """Write a value.

    Parameters
    ----------
    value : object
        What the table at the top of this module lists.
    pictures : Pictures, optional
        How pictures in it are encoded. Default: they are written as arrays.

    Returns
    -------
    list of bytes and memoryview
        The parts of the encoding. Large arrays are not copied.

    Raises
    ------
    NotPlain
        The value, or a part of it, has no form here.
    """
    out = _Parts(pictures)
    _write(value, out, 0)
    return out


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes((major << 5 | number,))
    for code, size, form in ((24, 8, ">BB"), (25, 16, ">BH"), (26, 32, ">BI"), (27, 64, ">BQ")):
        if number < 1 << size:
            return struct.pack(form, major << 5 | code, number)
    raise NotPlain


def _write(value: Any, out: _Parts, depth: int) -> None:
    if depth > _DEEPEST:
        raise NotPlain
    kind = type(value)
    writer = _WRITERS.get(kind)
    if writer is not None:
        writer(value, out, depth)
    elif isinstance(value, np.generic):
        _write_scalar(value, out)
    else:
        raise NotPlain


def _write_int(value: int, out: _Parts, _: int) -> None:
    number = value if value >= 0 else -1 - value
    if number < 1 << 64:
        out.append(_head(0 if value >= 0 else 1, number))
        return
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    out += (_head(6, _POSITIVE if value >= 0 else _NEGATIVE), _head(2, len(data)), data)


def _write_str(value: str, out: _Parts, _: int) -> None:
    try:
        data = value.encode()
    except UnicodeEncodeError:  # a part of a character
        raise NotPlain from None
    out += (_head(3, len(data)), data)


def _write_bytes(value: bytes, out: _Parts, _: int) -> None:
    out += (_head(2, len(value)), value)


def _write_bytearray(value: bytearray, out: _Parts, depth: int) -> None:
    out.append(_head(6, _BYTEARRAY))
    _write_bytes(bytes(value), out, depth)


def _write_list(value: Any, out: _Parts, depth: int) -> None:
    items = list(value)
    out.append(_head(4, len(items)))
    for item in items:
        _write(item, out, depth + 1)


def _tagged(tag: int) -> Callable[[Any, _Parts, int], None]:
    head = _head(6, tag)

    def write(value: Any, out: _Parts, depth: int) -> None:
        out.append(head)
        _write_list(value, out, depth)

    return write


def _write_dict(value: dict[Any, Any], out: _Parts, depth: int) -> None:
    pairs = list(value.items())
    out.append(_head(5, len(pairs)))
    for key, item in pairs:
        _write(key, out, depth + 1)
        _write(item, out, depth + 1)


def _write_complex(value: complex, out: _Parts, depth: int) -> None:
    out.append(_head(6, _COMPLEX))
    _write_list((value.real, value.imag), out, depth)


def _write_timedelta(value: dt.timedelta, out: _Parts, depth: int) -> None:
    out.append(_head(6, _TIMEDELTA))
    _write_list((value.days, value.seconds, value.microseconds), out, depth)


def _text(tag: int, write: Callable[[Any], str]) -> Callable[..., None]:
    head = _head(6, tag)

    def write_text(value: Any, out: _Parts, depth: int) -> None:
        zone = getattr(value, "tzinfo", None)
        if zone is not None and (
            type(zone) is not dt.timezone
            or str(zone) != str(dt.timezone(zone.utcoffset(None)))  # it has a name of its own
        ):
            raise NotPlain
        if getattr(value, "fold", 0):
            raise NotPlain
        out.append(head)
        _write_str(write(value), out, depth)

    return write_text


def _write_uuid(value: UUID, out: _Parts, _: int) -> None:
    out += (_head(6, _UUID), _head(2, 16), value.bytes)


def _write_array(value: np.ndarray[Any, Any], out: _Parts, depth: int) -> None:
    kind = described(value.dtype)
    data: bytes | memoryview | None = None
    if out.pictures is not None:
        data = out.pictures.encoded(value)
    if out.pictures is not None and data is not None:
        out += (_head(6, _PICTURE), _head(4, 4))
        _write_str(out.pictures.format, out, depth)
    else:
        data = raw_bytes(value)
        out += (_head(6, _ARRAY), _head(4, 3))
    _write(kind, out, depth + 1)
    _write_list(value.shape, out, depth)
    out += (_head(2, len(data)), data)


def _write_scalar(value: np.generic, out: _Parts) -> None:
    if not is_plain(value.dtype) or type(value) is not value.dtype.type:
        raise NotPlain
    kind = described(value.dtype)
    data = value.tobytes()
    if len(data) != value.dtype.itemsize:
        raise NotPlain
    out += (_head(6, _SCALAR), _head(4, 2))
    _write(kind, out, 0)
    out += (_head(2, len(data)), data)


_WRITERS: dict[type, Callable[[Any, _Parts, int], None]] = {
    type(None): lambda _, out, __: out.append(_NONE),
    bool: lambda value, out, _: out.append(_TRUE if value else _FALSE),
    int: _write_int,
    float: lambda value, out, _: out.append(struct.pack(">Bd", 0xFB, value)),
    str: _write_str,
    bytes: _write_bytes,
    bytearray: _write_bytearray,
    list: _write_list,
    tuple: _tagged(_TUPLE),
    set: _tagged(_SET),
    frozenset: _tagged(_FROZENSET),
    dict: _write_dict,
    complex: _write_complex,
    dt.date: _text(_DATE, dt.date.isoformat),
    dt.time: _text(_TIME, dt.time.isoformat),
    dt.datetime: _text(_DATETIME, dt.datetime.isoformat),
    dt.timedelta: _write_timedelta,
    Decimal: _text(_DECIMAL, str),
    UUID: _write_uuid,
    **dict.fromkeys(ARRAYS, _write_array),
}


# ------------------------------------------------------------------------------------------ reading


def load(data: memoryview) -> Any:
    """Read a value.

    Parameters
    ----------
    data : memoryview
        The encoding, of bytes.

    Returns
    -------
    object
        The value. Its arrays are private and writable.

    Raises
    ------
    ValueError
        This is not the encoding of one value.
    """
    reader = _Reader(data)
    try:
        value = reader.value(0)
    except (struct.error, IndexError):
        raise ValueError("it ends in the middle of a value") from None
    except (TypeError, ArithmeticError, RecursionError) as error:  # an unhashable key, and the like
        raise ValueError(f"it has a value that does not exist: {error}") from None
    if reader.at != len(data):
        raise ValueError("bytes follow the value")
    return value


class _Reader:
    """Reads from the beginning to the end. It trusts no number."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.at = 0
        self._pixels_left = MOST_PIXELS

    def value(self, depth: int) -> Any:
        if depth > 2 * _DEEPEST + 2:  # a tag and its list are two
            raise ValueError(f"it has more than {_DEEPEST} levels")
        major, info = divmod(self._data[self.at], 32)
        self.at += 1
        if major == 7:
            return self._special(info)
        number = self._number(info)
        match major:
            case 0:
                return number
            case 1:
                return -1 - number
            case 2:
                return bytes(self._bytes(number))
            case 3:
                return str(self._bytes(number), "utf-8")
            case 4:
                return self._items(number, depth)
            case 5:
                if number > (len(self._data) - self.at) // 2:
                    raise IndexError
                return {self.value(depth + 1): self.value(depth + 1) for _ in range(number)}
            case _:
                return self._tagged(number, depth)

    def _number(self, info: int) -> int:
        if info < 24:
            return info
        form = {24: ">B", 25: ">H", 26: ">I", 27: ">Q"}.get(info)
        if form is None:
            raise ValueError("a length is not given")
        (number,) = struct.unpack_from(form, self._data, self.at)
        self.at += struct.calcsize(form)
        return int(number)

    def _special(self, info: int) -> Any:
        if info in {20, 21}:
            return info == 21
        if info == 22:
            return None
        form = {25: ">e", 26: ">f", 27: ">d"}.get(info)
        if form is None:
            raise ValueError(f"it has the simple value {info}, which has no meaning here")
        (number,) = struct.unpack_from(form, self._data, self.at)
        self.at += struct.calcsize(form)
        return number

    def _bytes(self, number: int) -> memoryview:
        if number > len(self._data) - self.at:
            raise IndexError
        self.at += number
        return self._data[self.at - number : self.at]

    def _items(self, number: int, depth: int) -> list[Any]:
        if number > len(self._data) - self.at:  # an item has at least one byte
            raise IndexError
        return [self.value(depth + 1) for _ in range(number)]

    def _tagged(self, tag: int, depth: int) -> Any:
        if tag == _ARRAY:
            return self._array(depth)
        if tag == _PICTURE:
            return self._picture(depth)
        content = self.value(depth + 1)
        read = _TAGS.get(tag)
        if read is None:
            raise ValueError(f"it has the tag {tag}, which has no meaning here")
        kind, make = read
        if type(content) is not kind:
            raise ValueError(f"tag {tag} has a {type(content).__name__}")
        return make(content)

    def _array(self, depth: int) -> Any:
        """Read an array without a copy of its bytes in between."""
        if self._data[self.at] != 0x83:
            raise ValueError("an array does not have three parts")
        self.at += 1
        kind = dtype_from(self.value(depth + 1))
        shape = self.value(depth + 1)
        major, info = divmod(self._data[self.at], 32)
        self.at += 1
        if major != 2:
            raise ValueError("an array has no bytes")
        return array_from(kind, shape, self._bytes(self._number(info)))

    def _picture(self, depth: int) -> Any:
        parts = self.value(depth + 1)
        if type(parts) is not list or len(parts) != 4 or type(parts[3]) is not bytes:
            raise ValueError("a picture does not have four parts")
        name, kind, shape, data = parts
        found = decoded(name, dtype_from(kind), shape, data, self._pixels_left)
        self._pixels_left -= found.shape[0] * found.shape[1]
        return found


def _scalar(parts: list[Any]) -> Any:
    kind, data = parts
    if type(data) is not bytes:
        raise ValueError("a scalar has no bytes")
    return array_from(dtype_from(kind), [], memoryview(data))[()]


def _complex(parts: list[Any]) -> complex:
    real, imaginary = parts
    if type(real) is not float or type(imaginary) is not float:
        raise ValueError("a complex number does not have two floats")
    return complex(real, imaginary)


def _timedelta(parts: list[Any]) -> dt.timedelta:
    if len(parts) != 3 or not all(type(part) is int for part in parts):
        raise ValueError("a timedelta does not have three integers")
    return dt.timedelta(*parts)


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text[:40]!r} is not a decimal number") from None


_TAGS: dict[int, tuple[type, Callable[[Any], Any]]] = {
    _POSITIVE: (bytes, lambda data: int.from_bytes(data, "big")),
    _NEGATIVE: (bytes, lambda data: -1 - int.from_bytes(data, "big")),
    _UUID: (bytes, lambda data: UUID(bytes=data)),
    _TUPLE: (list, tuple),
    _SET: (list, set),
    _FROZENSET: (list, frozenset),
    _BYTEARRAY: (bytes, bytearray),
    _COMPLEX: (list, _complex),
    _DATE: (str, dt.date.fromisoformat),
    _TIME: (str, dt.time.fromisoformat),
    _DATETIME: (str, dt.datetime.fromisoformat),
    _TIMEDELTA: (list, _timedelta),
    _DECIMAL: (str, _decimal),
    _SCALAR: (list, _scalar),
}
