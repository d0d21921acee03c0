"""A drop-in for `multiprocessing.sharedctypes`: objects of ctypes in the default pool.

The functions and classes are those of the standard library, with the same arguments and errors.
There are three differences. All objects can be pickled at any time, by reference, and not only
while a process is being started. If the owner of a lock dies, the next process gets the lock. The
memory is freed when no process has the object any more.
"""

from __future__ import annotations

import multiprocessing.sharedctypes as standard
from typing import Any

from onecopy._core.current import default_member
from onecopy.values import (
    Synchronized,
    SynchronizedArray,
    SynchronizedBase,
    SynchronizedString,
    copy,
    raw_array,
    raw_value,
    synchronized,
    typecode_to_type,
    with_lock,
)

__all__ = [
    "Array",
    "RawArray",
    "RawValue",
    "Synchronized",
    "SynchronizedArray",
    "SynchronizedBase",
    "SynchronizedString",
    "Value",
    "copy",
    "synchronized",
    "typecode_to_type",
]


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """Make an object of ctypes, without a lock.

    Parameters
    ----------
    typecode_or_type : str or type
        A type code, or any type of ctypes.
    *args
        For its constructor. Fields without an argument are zero.

    Returns
    -------
    ctypes object

    Raises
    ------
    TypeError, OverflowError
        As the constructor.
    PoolFull
        The pool has no room for it.
    """
    return raw_value(default_member(), typecode_or_type, *args)


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """Make an array of ctypes, without a lock.

    Parameters
    ----------
    typecode_or_type : str or type
        The type of the items.
    size_or_initializer : int or sequence
        The length of an array of zeros, or the items: a list, a buffer, or any object with a
        length.

    Returns
    -------
    ctypes array
        ``np.asarray`` of it is a writable view.

    Raises
    ------
    ValueError
        The length is negative.
    TypeError, OverflowError
        As the constructor of an array.
    PoolFull
        The pool has no room for it.
    """
    return raw_array(default_member(), typecode_or_type, size_or_initializer)


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """Make an object of ctypes, with a lock.

    Parameters
    ----------
    typecode_or_type, *args
        As for `RawValue`.
    lock : bool, None or lock, optional
        True or None: a new recursive lock. False: no lock; the function returns the object itself.
    ctx : context, optional
        Makes the new lock. Default: the lock is an `onecopy.RLock`.

    Returns
    -------
    SynchronizedBase or ctypes object

    Raises
    ------
    AttributeError
        The lock has no ``acquire``.
    TypeError, OverflowError, PoolFull
        As `RawValue`.
    """
    return with_lock(RawValue(typecode_or_type, *args), lock, ctx)


def Array(
    typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None
) -> Any:
    """Make an array of ctypes, with a lock.

    Parameters
    ----------
    typecode_or_type, size_or_initializer
        As for `RawArray`.
    lock, ctx
        As for `Value`.

    Returns
    -------
    SynchronizedArray, SynchronizedString or ctypes array

    Raises
    ------
    AttributeError
        The lock has no ``acquire``.
    ValueError, TypeError, OverflowError, PoolFull
        As `RawArray`.
    """
    return with_lock(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def __getattr__(name: str) -> Any:
    """Return other names of the standard library's module."""
    return getattr(standard, name)
