"""ctypes objects in a pool, without a lock."""

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

# Types whose items are converted in one loop, or copied from a buffer. A subclass of one of them,
# or a type with the other byte order, has the same letter but other rules, so it is not included.
LETTERS: dict[type[Any], str] = {
    **{kind: letter for letter, kind in typecode_to_type.items()},
    ctypes.c_bool: "?",
}
_INTEGERS = "bBhHiIlLqQ"


# What the caller probably meant by a number or a type of Python.
_LIKELY: dict[Any, str] = {bool: "ctypes.c_bool", int: "'q'", float: "'d'"}


def type_of(typecode_or_type: Any) -> Any:
    """Return the ctypes type for a type code or a type.

    Raises
    ------
    TypeError
        It is neither.
    """
    if isinstance(typecode_or_type, str):
        kind = typecode_to_type.get(typecode_or_type)
        hint = (
            "to name a value, write the type first: "
            f"pool.value('d', 0.0, name={typecode_or_type!r})"
        )
        if len(typecode_or_type) == 1:  # not a name; the standard library says the same words
            hint = f"bad typecode; {hint}"
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
            f"a ctypes type, or one of the type codes {codes}",
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
    """Make a ctypes object in a pool, without a lock.

    Parameters
    ----------
    member : Member
        The membership.
    typecode_or_type : str or type
        A key of `typecode_to_type`, or any ctypes type with a size.
    *args
        Arguments of its constructor. What they do not set is zero.

    Returns
    -------
    ctypes object
        Of exactly that type.

    Raises
    ------
    TypeError
        There is no such type, or it refuses the arguments.
    PoolFull
        The pool has no room.
    """
    obj = allocate(member, type_of(typecode_or_type), zero=True)
    obj.__init__(*args)
    return obj


def raw_array(member: Member, typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """Make a ctypes array in a pool, without a lock.

    Parameters
    ----------
    member : Member
        The membership.
    typecode_or_type : str or type
        The type of the items, as for `raw_value`.
    size_or_initializer : int or sequence
        The length of an array of zeros, or the items.

    Returns
    -------
    ctypes array
        Of exactly the type ``item * length``. ``np.asarray(raw)`` is a view of it.

    Raises
    ------
    ValueError
        The length is negative.
    TypeError, OverflowError
        As from the constructor of the array, for example floats for integers.
    PoolFull
        The pool has no room.

    Notes
    -----
    Items are converted as ctypes does: integers are cut to their width, and floats are not accepted
    as integers. Lists and tuples of numbers are read in one loop in C. The numbers of a buffer (a
    numpy array, bytes, `array.array`, a memoryview) are copied. If their type differs, numpy
    converts them, where the result is the same as that of ctypes.
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
            obj.__init__(*items)  # ctypes raises: these are too many
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
    """Return items as an array, if numpy converts them exactly as ctypes does; else None."""
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
        # ctypes accepts only Python integers as characters.
        is_bytes = kind is not np.ndarray and kind is not SharedArray and source.dtype == np.uint8
        return source if is_bytes else None
    if letter in _INTEGERS:
        return source if what in "iu" else None
    if letter == "d":
        return source if what in "iuf" else None
    if letter == "f":
        if what == "f" and source.dtype.itemsize <= np.dtype("d").itemsize:
            return source
        # Convert by way of a double, as ctypes does. Rounding only once could give another result.
        return source.astype(np.float64) if what in "iuf" else None
    return None


def _is_buffer(kind: Any) -> bool:
    """Tell whether iterating over an object of that type gives the items of its buffer."""
    if issubclass(kind, ctypes.Array):
        return kind._type_ in LETTERS
    module = sys.modules.get("array")
    return kind in (bytes, bytearray, memoryview) or (module is not None and kind is module.array)


def copy(obj: Any) -> Any:
    """Copy a ctypes object into the default pool.

    Parameters
    ----------
    obj : ctypes object
        Of any type with a size. Its memory may lie anywhere.

    Returns
    -------
    ctypes object
        Of the same type; without a lock.

    Raises
    ------
    TypeError
        It is not a ctypes object. (If it has a lock, copy ``get_obj()``.)
    PoolFull
        The pool has no room.
    """
    fresh = allocate(default_member(), type(obj), zero=False)
    ctypes.pointer(fresh)[0] = obj
    return fresh
