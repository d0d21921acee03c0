"""Objects of ctypes in a pool, without a lock."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from onecopy._codec.arrays import SharedArray
from onecopy._core.arguments import refuse
from onecopy._core.current import default_member
from onecopy._native import fill_array
from onecopy.values.memory import allocate

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy._native import Member


typecode_to_type: dict[str, type[Any]] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}
"""The type of each type code, as in `multiprocessing.sharedctypes`."""

# Types whose items are converted in one loop, or copied from a buffer. Exactly these: a class
# derived from one, or one of the other byte order, has the same letter and other rules.
LETTERS: dict[type[Any], str] = {
    **{kind: letter for letter, kind in typecode_to_type.items()},
    ctypes.c_bool: "?",
}
_INTEGERS = "bBhHiIlLqQ"


# What a number, or a type of Python, was probably meant as.
_LIKELY: dict[Any, str] = {bool: "ctypes.c_bool", int: "'q'", float: "'d'"}


def type_of(typecode_or_type: Any) -> Any:
    """Give the type of ctypes that a type code or a type stands for.

    Raises
    ------
    TypeError
        It stands for none.
    """
    if isinstance(typecode_or_type, str):
        kind = typecode_to_type.get(typecode_or_type)
        hint = (
            "to name a value, write the type first: "
            f"pool.value('d', 0.0, name={typecode_or_type!r})"
        )
    else:
        kind = typecode_or_type if _is_of_ctypes(typecode_or_type) else None
        hint = "write the type first, as in pool.value('d', 0.0)"
        if typecode_or_type in (bool, int, float):
            hint = f"write {_LIKELY[typecode_or_type]}"
        elif type(typecode_or_type) in _LIKELY:
            code = _LIKELY[type(typecode_or_type)]
            hint = f"write the type first: pool.value({code}, {typecode_or_type!r})"
    if kind is None:
        codes = " ".join(typecode_to_type)
        refuse(
            "typecode_or_type",
            f"a type of ctypes, or one of the type codes {codes}",
            typecode_or_type,
            hint,
        )
    return kind


def _is_of_ctypes(kind: Any) -> bool:
    try:
        return isinstance(kind, type) and ctypes.sizeof(cast("Any", kind)) >= 0
    except TypeError:
        return False


def raw_value(member: Member, typecode_or_type: Any, *args: Any) -> Any:
    """Make an object of ctypes in a pool, without a lock.

    Parameters
    ----------
    member : Member
        The membership.
    typecode_or_type : str or type
        One of `typecode_to_type`, or any type of ctypes with a size.
    *args
        For its constructor; what they do not set is zero.

    Returns
    -------
    ctypes object
        Of exactly that type.

    Raises
    ------
    TypeError
        There is no such type, or it refuses the arguments.
    PoolFull
        No room.
    """
    obj = allocate(member, type_of(typecode_or_type), zero=True)
    obj.__init__(*args)
    return obj


def raw_array(member: Member, typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """Make an array of ctypes in a pool, without a lock.

    Parameters
    ----------
    member : Member
        The membership.
    typecode_or_type : str or type
        Of the items, as for `raw_value`.
    size_or_initializer : int or sequence
        The length, for zeros; or the items.

    Returns
    -------
    ctypes array
        Of exactly the type ``item * length``. numpy takes it as an array without copying:
        ``np.asarray(raw)``.

    Raises
    ------
    ValueError
        The length is negative.
    TypeError, OverflowError
        As the constructor of the array: floats for integers, and so on.
    PoolFull
        No room.

    Notes
    -----
    Items are converted as ctypes does: integers are cut to their width, floats are none. Lists and
    tuples of numbers are read in one loop of C; the numbers of a buffer (an array of numpy, bytes,
    `array.array`, a memoryview) are copied, or converted by numpy where that gives the same.
    """
    kind = type_of(typecode_or_type)
    if isinstance(size_or_initializer, int):
        return allocate(member, kind * size_or_initializer, zero=True)
    items = size_or_initializer
    length = len(items)
    letter = LETTERS.get(kind)
    if letter is None:
        obj = allocate(member, kind * length, zero=True)
        obj.__init__(*items)
        return obj
    kind *= length
    source = _numbers(letter, items)
    if source is None:
        if type(items) is not list and type(items) is not tuple:
            items = tuple(items)
        obj = allocate(member, kind, zero=len(items) != length)
        if len(items) > length:
            obj.__init__(*items)  # ctypes says that these are too many
        fill_array(obj, letter, items)
        return obj
    obj = allocate(member, kind, zero=False)
    if length:
        target = np.frombuffer(obj, "u1" if letter == "c" else letter)
        if source.dtype == target.dtype:
            np.copyto(target, source)
        else:
            with np.errstate(all="ignore"):  # as C converts
                np.copyto(target, source, casting="unsafe")
    return obj


def _numbers(letter: str, items: Any) -> npt.NDArray[Any] | None:
    """See items as an array whose conversion by numpy is that of ctypes; None: it is not."""
    kind = type(items)
    if kind is np.ndarray or kind is SharedArray:
        source = cast("npt.NDArray[Any]", items)
    elif _is_buffer(kind):
        try:
            source = np.asarray(memoryview(items))
        except (TypeError, ValueError, NotImplementedError):  # a format that numpy does not know
            return None
    else:
        return None
    if source.ndim != 1:
        return None
    what = source.dtype.kind
    if letter == "c":
        # Integers are characters for ctypes only if they are Python's.
        is_bytes = kind is not np.ndarray and kind is not SharedArray and source.dtype == np.uint8
        return source if is_bytes else None
    if letter in _INTEGERS:
        return source if what in "iu" else None
    if letter == "d":
        return source if what in "iuf" else None
    if letter == "f":
        if what == "f" and source.dtype.itemsize <= np.dtype("d").itemsize:
            return source
        # By way of a double, as ctypes: rounding once is something else.
        return source.astype(np.float64) if what in "iuf" else None
    return None


def _is_buffer(kind: Any) -> bool:
    """Tell whether going through an object of that type gives what its buffer says."""
    if issubclass(kind, ctypes.Array):
        return kind._type_ in LETTERS
    module = sys.modules.get("array")
    return kind in (bytes, bytearray, memoryview) or (module is not None and kind is module.array)


def copy(obj: Any) -> Any:
    """Copy an object of ctypes into the default pool.

    Parameters
    ----------
    obj : ctypes object
        Of any type with a size, wherever it lies.

    Returns
    -------
    ctypes object
        Of the same type; without a lock.

    Raises
    ------
    TypeError
        It is no object of ctypes; of one with a lock, copy ``get_obj()``.
    PoolFull
        No room.
    """
    fresh = allocate(default_member(), type(obj), zero=False)
    ctypes.pointer(fresh)[0] = obj
    return fresh
