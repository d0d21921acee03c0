"""References to objects in a pool.

A `Ref` is what `Pool.put` returns: the object lies in the pool once, and `Ref.get` builds it from
there, in any process that has the reference, without copying its arrays and buffers.

A reference holds its object: the memory is free once no process has a reference, no queue or name
has the object, and no array got from it is left. A *pickled* reference holds nothing; a reference
on a queue does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._native import Ref
from onecopy.errors import PoolNotFound, StaleRef

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy._core.membership import PoolHandle

__all__ = ["Ref", "as_array", "rebuild"]


def rebuild(pool: PoolHandle, handle: int) -> Ref[Any]:
    """Unpickle a reference.

    Parameters
    ----------
    pool : PoolHandle
        The pool it belongs to.
    handle : int
        The block in it.

    Returns
    -------
    Ref
        A reference that holds the object again.

    Raises
    ------
    StaleRef
        The object, or the whole pool, is gone.
    """
    from onecopy._core.membership import join

    try:
        member = join(pool)
    except PoolNotFound as error:
        raise StaleRef(
            f"the reference came too late: {error.args[-1]} A pickled reference keeps nothing "
            "alive: keep the original until the copy has arrived, or send it on a queue of its "
            "pool."
        ) from error
    return member.ref(handle)


def as_array(ref: Ref[Any], dtype: npt.DTypeLike | None, copy: bool | None) -> npt.NDArray[Any]:
    """Give the array that a reference refers to; what `Ref.__array__` does.

    Parameters
    ----------
    ref : Ref
        To an array.
    dtype : dtype-like, optional
        Default: the array's own.
    copy : bool, optional
        True: always a copy, which is writable. False: never. None (the default): only if `dtype`
        needs one.

    Returns
    -------
    ndarray
        Without a copy, the array in the pool, which is read-only.

    Raises
    ------
    TypeError
        The object is no array.
    ValueError
        `copy` is False, and `dtype` needs a copy.
    """
    array = ref.get()
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"a reference to a {type(array).__name__} is no array: ref.get() gives the object"
        )
    if copy:
        return np.array(array, dtype)
    if dtype is None or np.dtype(dtype) == array.dtype:
        return array
    if copy is False:
        raise ValueError(
            f"an array of {array.dtype} cannot be seen as {np.dtype(dtype)} without a copy: leave "
            "copy out, or leave dtype out"
        )
    return array.astype(dtype)
