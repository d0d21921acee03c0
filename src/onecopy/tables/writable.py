"""Copies that may be written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from onecopy._codec import pickler

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

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
    TypeError
        A memoryview whose items are of a kind that numpy has no dtype for.
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
    given: Any = obj
    if isinstance(given, memoryview):
        copy: Any = _copy_of_view(given)
    elif type(given) is np.ndarray and not given.dtype.hasobject:
        copy = given.copy("K")
    else:
        copy = pickler.private_copy(given)
    return cast("_T", copy)


def _copy_of_view(view: memoryview[Any]) -> memoryview[Any]:
    copy = memoryview(bytearray(view))
    if view.format == "B" and view.ndim == 1:
        return copy
    into: Any = copy.cast
    # No shape with a zero in it can be asked for.
    shape = [view.shape] if view.nbytes else []
    try:
        return cast("memoryview[Any]", into(view.format, *shape))
    except ValueError:  # only single native letters can be asked for
        pass
    try:
        return memoryview(cast("WriteableBuffer", np.array(view, order="C")))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise TypeError(
            f"a memoryview of format {view.format!r} and shape {view.shape} cannot be copied as "
            "what it is: neither memoryview nor numpy has such items. Its bytes alone can be: "
            "bytearray(view)"
        ) from error
