"""The bytes of a message as something to show. No code of a message runs, and nothing is imported.

It reads private copies, with Python's own checks of bounds. Each number in them may be anything.
The forms are those of native/bindings/wire.hpp and codec_packed.hpp. What only pickle could
rebuild, and objects of classes, are shown by their names.
"""

from __future__ import annotations

import datetime as dt
import math
import pickletools
import struct
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._core.showing import described
from onecopy._typed.schema import dtype_of
from onecopy.observer.message_forms import Node, Part, Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Block", "Record", "Shown", "decode"]

Block = tuple[int, bytes | None]  # its length, and its bytes unless it is too large

_NUMBERS = {np.dtype(code).num: np.dtype(code) for code in "?bBhHiIlLqQefdgFDG"}
_MOST_NODES = 10_000
_DEEPEST = 100
_LARGEST = 1 << 30  # bytes of an array
_LONGEST_TEXT = 4096  # bytes of a long text or bytes that are looked at
_CONSTANTS: dict[int, bool | None] = {Tag.NONE: None, Tag.YES: True, Tag.NO: False}
_STANDARD = {5: "UUID", 6: "Decimal", 7: "PosixPath", 8: "PurePosixPath"}


class Wrong(ValueError):  # noqa: N818 - as a sentence
    """The bytes are no message."""


class Shown:
    """What stands for something that is not rebuilt."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"<{self.text}>"


class Record(Shown):
    """An object of a class, by the names and values of its fields."""

    def __init__(self, name: str, fields: Sequence[tuple[str, Any]]) -> None:
        super().__init__(name)
        self.fields = fields

    def __repr__(self) -> str:
        parts = [
            f"{name}={described(value)}" if name else described(value)
            for name, value in self.fields
        ]
        return f"{self.text}({', '.join(parts)})"


def decode(data: bytes, block: Block | None, children: Sequence[Block]) -> Any:
    """Return a message as something to show.

    Parameters
    ----------
    data : bytes
        What lies in its slot.
    block : Block or None
        Its block.
    children : sequence of Block
        What the cells of the block refer to.

    Returns
    -------
    object
        Plain values and containers, arrays that are copies, and `Shown` for all else.

    Raises
    ------
    ValueError
        The bytes are no message.
    """
    try:
        return _message(_Bytes(data), block, children)
    except (Wrong, struct.error, IndexError, OverflowError, RecursionError, TypeError) as error:
        raise Wrong(f"its bytes make no sense: {error}") from None


@dataclass
class _Bytes:
    """A cursor that never leaves its bytes."""

    data: bytes
    at: int = 0

    def take(self, count: int) -> bytes:
        if count < 0 or count > len(self.data) - self.at:
            raise Wrong("they end too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def get(self, form: str) -> Any:
        values = struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))
        return values[0] if len(values) == 1 else values

    def count(self) -> int:
        first: int = self.get("B")
        return first if first < 254 else int(self.get("I" if first == 254 else "Q"))


def _part(block: Block | None, offset: int, length: int) -> bytes | None:
    """Return bytes of a block; None: it was too large to be copied."""
    if block is None or length < 0 or offset > block[0] or length > block[0] - offset:
        raise Wrong("a part lies outside of its block")
    return None if block[1] is None else block[1][offset : offset + length]


def _message(data: _Bytes, block: Block | None, children: Sequence[Block]) -> Any:
    tag = data.get("B")
    if tag <= Tag.TUPLE:
        return _small(tag, data, 0)
    if tag == Tag.ARRAY:
        return _array(data, block)
    if tag == Tag.VIEW:
        return _view(data)
    if tag in {Tag.LONG_TEXT, Tag.LONG_BYTES}:
        offset, length = data.get("QQ")
        return _long(_part(block, offset, length), length, text=tag == Tag.LONG_TEXT)
    if tag == Tag.REF:
        return Shown(f"a reference to an object of {0 if block is None else block[0]:,} bytes")
    if tag == Tag.PICKLE:
        if data.get("B") & 0x7F:
            data.get("QQ")
        return _pickled(data.take(len(data.data) - data.at))
    if tag == Tag.PICKLE_BLOCK:
        return _pickle_block(data.get("Q"), block)
    if tag == Tag.PACKED:
        version, flags = data.get("BB")
        return _Unpacker(data, version, flags, () if block is None else (block,)).message()
    if tag == Tag.PACKED_BLOCK:
        return _packed_block(data.get("Q"), block, children)
    raise Wrong(f"there is no form {tag}")


def _small(tag: int, data: _Bytes, depth: int) -> Any:
    if tag in _CONSTANTS:
        return _CONSTANTS[tag]
    if tag in {Tag.INTEGER, Tag.REAL}:
        return data.get("q" if tag == Tag.INTEGER else "d")
    if tag in {Tag.TEXT, Tag.BYTES}:
        content = data.take(data.get("B"))
        return content if tag == Tag.BYTES else content.decode(errors="backslashreplace")
    if tag == Tag.TUPLE and depth < _DEEPEST:
        return tuple(_small(data.get("B"), data, depth + 1) for _ in range(data.get("B")))
    raise Wrong(f"there is no small form {tag}")


def _long(content: bytes | None, length: int, *, text: bool) -> Any:
    kind = "str" if text else "bytes"
    if content is None:
        return Shown(f"{kind} of {length:,} bytes, too large to look at")
    if length <= _LONGEST_TEXT:
        return content.decode(errors="backslashreplace") if text else content
    begins = content[:40].decode(errors="ignore") if text else content[:40]
    return Shown(f"{kind} of {length:,} bytes that begins with {begins!r}")


def _pickled(pickle: bytes, buffers: int = 0) -> Shown:
    """Say what a pickle is, without running it."""
    more = f" and {buffers} buffers" if buffers else ""
    return Shown(f"pickled {_first_class(pickle[:4096])}{len(pickle):,} bytes{more}")


def _first_class(pickle: bytes) -> str:
    """Return the first class or function that a pickle names; "" if it is one of a library."""
    texts: list[str] = []
    try:
        for number, (code, argument, _) in enumerate(pickletools.genops(pickle)):
            if number > 200:
                return ""
            if code.name in {"GLOBAL", "STACK_GLOBAL"}:
                names = str(argument).split(" ") if code.name == "GLOBAL" else texts[-2:]
                module, name = names
                hidden = module.partition(".")[0] in {"onecopy", "numpy", "copyreg", "builtins"}
                return "" if hidden else f"{module}.{name}, "
            if isinstance(argument, str):
                texts.append(argument)
    except Exception:  # noqa: BLE001 - whatever it raises for bytes that are no pickle
        return ""
    return ""


def _pickle_block(offset: int, block: Block | None) -> Any:
    head = _part(block, offset, 16)
    if head is None:
        return Shown("pickled, too large to look at")
    buffers, children, length = struct.unpack("<IIQ", head)
    pickle = _part(block, offset + 16 + 24 * buffers + 8 * children, length)
    return _pickled(pickle or b"", buffers)


def _packed_block(offset: int, block: Block | None, children: Sequence[Block]) -> Any:
    head = _part(block, offset, 24)
    if head is None or block is None:
        return Shown(f"a packed message of {0 if block is None else block[0]:,} bytes, too large")
    version, flags, _, cells, buffers, _, length = struct.unpack("<BBHIIIQ", head)
    body = _part(block, offset + 24 + 24 * buffers + 8 * cells, length)
    return _Unpacker(_Bytes(body or b""), version, flags, children).message()


# ---- arrays -------------------------------------------------------------------------------------


def _dtype(data: _Bytes) -> np.dtype[Any] | None:
    """Return a dtype; None: only pickle could rebuild it."""
    form = data.get("B")
    if form in {0, 1}:
        dtype = _NUMBERS.get(data.get("B"))
        if dtype is None:
            raise Wrong("there is no such dtype")
        return dtype.newbyteorder() if form == 1 else dtype
    if form == 2:
        number, size = data.get("BI")
        letter, unit = {18: ("S", 1), 19: ("U", 4), 20: ("V", 1)}.get(number, ("", 1))
        if not letter or not 0 < size // unit < 1 << 26:
            raise Wrong("there is no such dtype")
        return np.dtype(f"{letter}{size // unit}")
    text = data.take(data.get("H"))
    if form == 5:
        return None
    if form not in {3, 4}:
        raise Wrong("there is no such dtype")
    try:
        found = dtype_of(text.decode())
    except Exception as error:  # noqa: BLE001 - numpy may raise or warn of anything
        raise Wrong(f"there is no such dtype: {error}") from None
    if found.hasobject or found.itemsize == 0:
        raise Wrong("its dtype has Python objects")
    return found


def _shape(data: _Bytes, dimensions: int) -> tuple[int, ...]:
    if dimensions > 32:
        raise Wrong("an array has too many dimensions")
    shape = struct.unpack(f"<{dimensions}q", data.take(8 * dimensions))
    size = 1
    for length in shape:
        size *= max(length, 1)
        if length < 0 or size >= 1 << 62:
            raise Wrong("an array has an impossible shape")
    return shape


def _array(data: _Bytes, block: Block | None) -> Any:
    dtype = _dtype(data)
    dimensions, order, offset = data.get("BBQ")
    shape = _shape(data, dimensions)
    order &= 0x7F
    strides = None
    if order == 2:
        strides = struct.unpack(f"<{dimensions}q", data.take(8 * dimensions))
    elif order > 2:
        raise Wrong("an array has an impossible order")
    if dtype is None:
        return Shown(f"array {shape} whose dtype is pickled")
    # Strides of 0 make a large array of few bytes.
    if math.prod(shape) * dtype.itemsize > _LARGEST:
        return Shown(f"{dtype.name} {shape}, too large to look at")
    if 0 in shape:
        return np.zeros(shape, dtype)
    if block is None or offset > block[0]:
        raise Wrong("an array lies outside of its block")
    if block[1] is None:
        return Shown(f"{dtype.name} {shape}, {block[0]:,} bytes, too large to look at")
    return _over(block[1], dtype, shape, offset, strides, order)


def _over(
    content: bytes,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    offset: int,
    strides: tuple[int, ...] | None,
    order: int,
) -> np.ndarray[Any, Any]:
    """Make an array over bytes. numpy checks that it does not leave them."""
    try:
        return np.ndarray(shape, dtype, content, offset, strides, order="F" if order == 1 else "C")
    except (ValueError, TypeError) as error:
        raise Wrong(f"an array lies outside of its block: {error}") from None


def _view(data: _Bytes) -> Any:
    letter, dimensions, _, length = data.get("cBQQ")
    if letter not in b"?bBhHiIlLqQfdc" or dimensions > 8:
        raise Wrong("there is no such memoryview")
    dtype = np.dtype("S1" if letter == b"c" else letter.decode())
    shape = _shape(data, dimensions) if dimensions > 1 else (length // dtype.itemsize,)
    return Shown(f"memoryview {dtype.name} {shape}")


# ---- packed messages ----------------------------------------------------------------------------


@dataclass
class _Unpacker:
    data: _Bytes
    version: int
    flags: int
    children: Sequence[Block]
    first: int = 0
    nodes: int = 0
    parts: list[Any] = field(default_factory=list)
    met: dict[int, Any] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)

    def message(self) -> Any:
        if self.version != 2:
            raise Wrong(f"version {self.version} of packed messages is not known")
        data = self.data
        parts, pickle = data.count(), data.count()
        if parts > len(data.data):
            raise Wrong("they have too many parts")
        if parts > _MOST_NODES:
            return self._too_many()
        try:
            self.parts = [self._read_part(pickle) for _ in range(parts)]
            data.take(pickle)
            self.first = data.at
            return self.read(0)
        except _TooMany:
            return self._too_many()

    def _too_many(self) -> Shown:
        return Shown(f"a message of {len(self.data.data):,} bytes with too many elements to show")

    def _read_part(self, pickle: int) -> Any:
        data = self.data
        kind = data.get("B")
        if kind in {Part.IN_CHILD, Part.SHARED}:
            child = data.get("I")
            block = self.children[child] if child < len(self.children) else None
            return _array(data, block)
        if kind == Part.INSIDE:
            dtype = _dtype(data)
            dimensions, order = data.get("BB")
            shape = _shape(data, dimensions)
            if dtype is None or order > 1:
                raise Wrong("an array has an impossible order")
            content = data.take(math.prod(shape) * dtype.itemsize)
            return (
                _over(content, dtype, shape, 0, None, order) if content else np.zeros(shape, dtype)
            )
        if kind == Part.PICKLED:
            data.get("I")
            return Shown(f"pickled, {pickle:,} bytes")
        if kind == Part.STANDARD:
            return self._standard()
        raise Wrong(f"there is no kind of part {kind}")

    def _standard(self) -> Any:
        data = self.data
        which = data.get("B")
        day = data.get("HBB") if which in {1, 3} else (1, 1, 1)
        moment, zone = (0, 0, 0, 0), 0
        if which in {2, 3}:
            *moment, zone = data.get("BBBIB")
        try:
            if zone & 4:
                raise _TooMany
            if which == 1:
                return dt.date(*day)
            if which == 2:
                return dt.time(*moment)
            if which == 3:
                utc = dt.UTC if zone & 2 else None
                return dt.datetime.combine(dt.date(*day), dt.time(*moment), utc)
            if which == 4:
                return dt.timedelta(*data.get("iii"))
            if which == 5:
                return uuid.UUID(int=int.from_bytes(data.take(16), "little"))
        except (ValueError, OverflowError) as error:
            raise Wrong(str(error)) from None
        if which in _STANDARD:
            text = data.take(data.count()).decode(errors="backslashreplace")
            return Shown(f"{_STANDARD[which]} {text[:60]!r}")
        raise _TooMany  # a time zone: its form is not read here

    def read(self, depth: int) -> Any:
        """Read a node."""
        data = self.data
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise _TooMany
        if depth > _DEEPEST + 1:
            raise Wrong("they nest too deep")
        where = data.at - self.first
        kind = data.get("B")
        shared, kind = kind & 0x80, kind & 0x7F
        if kind >= Node.SHORT_INT:
            return kind - Node.SHORT_INT
        if kind >= Node.SHORT_TEXT:
            return data.take(kind - Node.SHORT_TEXT).decode("latin-1")
        if kind in _CONTAINERS:
            return self._container(kind, where if shared else None, depth)
        if kind in _OF_CLASSES:
            made = self._of_class(kind, depth)
        elif kind in _VALUES:
            made = _VALUES[kind](self)
        else:
            raise Wrong(f"there is no node {kind}")
        if shared:
            self.met[where] = made
        return made

    def _container(self, kind: int, where: int | None, depth: int) -> Any:
        count = self.data.count()
        if count > len(self.data.data):
            raise Wrong("a container has too many elements")
        if where is not None:
            self.met[where] = Shown("itself")
        if kind == Node.DICT:
            made: Any = {}
            for _ in range(count):
                key = self.read(depth + 1)
                made[_hashable(key)] = self.read(depth + 1)
        else:
            made = [self.read(depth + 1) for _ in range(count)]
            if kind == Node.TUPLE:
                made = tuple(made)
            elif kind in {Node.SET, Node.FROZEN_SET}:
                made = (set if kind == Node.SET else frozenset)(map(_hashable, made))
        if where is not None:
            self.met[where] = made
        return made

    def _of_class(self, kind: int, depth: int) -> Any:
        if kind == Node.BUILT:  # taken apart by code of a library
            self.data.get("B")
            self.read(depth + 1)
            return Shown("an object of a library")
        number = self.data.count()
        if number == len(self.classes):
            module, name = self.read(depth + 1), self.read(depth + 1)
            self.classes.append(f"{name}" if isinstance(module, str) else "?")
        elif number > len(self.classes):
            raise Wrong("a class is missing")
        name = self.classes[number]
        if kind == Node.MEMBER:  # of an enum
            return Record(name, [("", self.read(depth + 1))])
        count = self.data.count()
        if count > len(self.data.data):
            raise Wrong("an object has too many fields")
        if kind in {Node.PLAIN, Node.SLOTTED, Node.CALLED_BY_NAME}:  # with names
            return Record(
                name, [(str(self.read(depth + 1)), self.read(depth + 1)) for _ in range(count)]
            )
        return Record(name, [("", self.read(depth + 1)) for _ in range(count)])


class _TooMany(Exception):  # noqa: N818 - no error
    """The message has more than is shown, or what is not read here."""


def _hashable(key: Any) -> Any:
    try:
        hash(key)
    except TypeError:
        return Shown(described(key))
    return key


def _again(self: _Unpacker) -> Any:
    where = self.data.count()
    if where not in self.met:
        raise Wrong("an object is missing that was met before")
    return self.met[where]


def _part_of(self: _Unpacker) -> Any:
    number = self.data.count()
    if number >= len(self.parts):
        raise Wrong("a part is missing")
    return self.parts[number]


def _scalar(self: _Unpacker) -> Any:
    dtype = _NUMBERS.get(self.data.get("B"))
    if dtype is None:
        raise Wrong("there is no such number")
    return np.frombuffer(self.data.take(dtype.itemsize), dtype)[0]


def _moment(self: _Unpacker) -> Any:
    number, unit, multiple, value = self.data.get("BBIq")
    return Shown(f"{'datetime64' if number == 21 else 'timedelta64'} {value} ({multiple}, {unit})")


def _text(self: _Unpacker, encoding: str, width: int) -> str:
    return self.data.take(self.data.count() * width).decode(encoding, errors="backslashreplace")


_VALUES: dict[int, Callable[[_Unpacker], Any]] = {
    Node.NONE: lambda _: None,
    Node.YES: lambda _: True,
    Node.NO: lambda _: False,
    Node.INT8: lambda self: self.data.get("b"),
    Node.INT32: lambda self: self.data.get("i"),
    Node.INT64: lambda self: self.data.get("q"),
    Node.BIG_INT: lambda self: _big(self.data.take(self.data.count())),
    Node.REAL: lambda self: self.data.get("d"),
    Node.COMPLEX: lambda self: complex(*self.data.get("dd")),
    Node.LATIN1: lambda self: _text(self, "latin-1", 1),
    Node.UCS2: lambda self: _text(self, "utf-16-le", 2),
    Node.UCS4: lambda self: _text(self, "utf-32-le", 4),
    Node.BYTES: lambda self: self.data.take(self.data.count()),
    Node.BYTE_ARRAY: lambda self: bytearray(self.data.take(self.data.count())),
    Node.PART: _part_of,
    Node.AGAIN: _again,
    Node.SCALAR: _scalar,
    Node.MOMENT: _moment,
}
_CONTAINERS = frozenset({Node.TUPLE, Node.LIST, Node.SET, Node.FROZEN_SET, Node.DICT})
_OF_CLASSES = frozenset(
    {
        Node.PLAIN,
        Node.NAMED,
        Node.MEMBER,
        Node.SLOTTED,
        Node.FROZEN,
        Node.CALLED,
        Node.CALLED_BY_NAME,
        Node.BUILT,
    }
)


def _big(content: bytes) -> Any:
    if len(content) > 1000:
        return Shown(f"int of {len(content):,} bytes")
    return int.from_bytes(content, "little", signed=True)
