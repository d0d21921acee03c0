"""Writable copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from onecopy._codec import pickler

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["writable_copy"]

_T = TypeVar("_T")


def writable_copy(obj: _T) -> _T:
    """Copy an object into private, writable memory of this process.

    Objects from a pool are read-only, because all processes that have them share the memory. This
    function returns a copy to work on. It does for tables, and for arrays inside other objects,
    what ``array.copy()`` does for an array.

    Parameters
    ----------
    obj : object
        Arrays, data frames, series, Arrow and polars tables, sparse matrices, and objects that
        contain them: lists, dicts, dataclasses, models. Any object that pickle accepts, and
        memoryviews.

    Returns
    -------
    object
        Equal to `obj`, of the same type. (A `SharedArray` and a memory map become ordinary arrays.)
        Its arrays are writable and have the same order. No part of it lies in a pool. An object
        that occurs twice is copied once. Arrow's arrays and tables, which can never be written, lie
        in private memory. Queues, locks and references inside `obj` still refer to the same things.

    Raises
    ------
    TypeError
        It is a memoryview, and numpy has no dtype for its items.
    Exception
        The error of pickle, if it cannot pickle the object.

    Notes
    -----
    Each buffer is copied once. pickle makes new Python objects. Meanwhile, no other thread may
    change the object, and no other process may change a `SharedArray` in it.

    Examples
    --------
    >>> import pandas as pd
    >>> queue = oc.Queue()
    >>> queue.put(pd.DataFrame({"delay": [3, -1, 7]}))
    >>> frame = oc.writable_copy(queue.get())
    >>> frame.loc[frame.delay < 0, "delay"] = 0
    >>> frame.delay.tolist()
    [3, 0, 7]
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
    # `cast` accepts no shape that contains a zero.
    shape = [view.shape] if view.nbytes else []
    try:
        return cast("memoryview[Any]", into(view.format, *shape))
    except ValueError:  # `cast` accepts only single native letters
        pass
    try:
        return memoryview(cast("WriteableBuffer", np.array(view, order="C")))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise TypeError(
            f"a memoryview of format {view.format!r} and shape {view.shape} cannot be copied "
            "as such: neither memoryview nor numpy has such items. To copy only its bytes, use "
            "bytearray(view)"
        ) from error
