"""Copies that may be written."""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np

from onecopy import codecs

__all__ = ["writable_copy"]

_T = TypeVar("_T")


def writable_copy(obj: _T) -> _T:
    """Copy an object into memory of this process alone, where all of it may be written.

    What is received from a pool is read-only: its memory is that of all who have it. This gives a
    copy to work on. It is to tables, and to arrays inside other objects, what ``array.copy()`` is
    to an array.

    Parameters
    ----------
    obj : object
        Arrays, data frames, series, Arrow and polars tables, sparse matrices, and whatever has them
        inside: lists, dicts, dataclasses, models. Anything that pickle takes, and memoryviews.

    Returns
    -------
    object
        Equal to `obj`, of the same type (a `SharedArray` becomes an ordinary array, a memory map
        too). Its arrays are writable and of the same order; nothing of it lies in a pool any more,
        and an object that occurs twice in it is copied once. What cannot be written anyhow (Arrow's
        arrays and tables) is private memory then; queues, locks and references inside stay
        references to what they are.

    Raises
    ------
    Exception
        What pickle raises for what it cannot take.

    Notes
    -----
    Each buffer is copied once; Python's objects are made anew by pickle. The object must not be
    changed by another thread meanwhile, nor a `SharedArray` by another process.

    Examples
    --------
    >>> frame = onecopy.writable_copy(queue.get())  # doctest: +SKIP
    >>> frame.loc[frame.delay < 0, "delay"] = 0  # doctest: +SKIP
    """
    if isinstance(obj, memoryview):
        copy = memoryview(bytearray(obj))
        if obj.format != "B" or obj.ndim != 1:
            copy = copy.cast(obj.format, obj.shape) if obj.nbytes else copy.cast(obj.format)
        return cast("_T", copy)
    if type(obj) is np.ndarray and not obj.dtype.hasobject:
        return cast("_T", obj.copy("K"))
    return cast("_T", codecs.private_copy(obj))
