"""References to objects in a pool.

`Pool.put` returns a `Ref`. The object lies in the pool once. `Ref.get` builds the object in any
process that has the reference, without copying its arrays and buffers.

A reference holds its object. The memory becomes free when no process has a reference, no queue or
name refers to the object, and no array of it is left. A *pickled* reference holds nothing. A
reference on a queue holds the object.
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
        The pool of the object.
    handle : int
        The handle of the object's block in the pool.

    Returns
    -------
    Ref
        A new reference that holds the object.

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
            f"the reference is stale: {str(error.args[-1]).rstrip('.')}. A pickled reference keeps "
            "nothing alive. Keep the original reference until the copy has arrived, or send it on "
            "a queue of its pool."
        ) from error
    return member.ref(handle)


def as_array(ref: Ref[Any], dtype: npt.DTypeLike | None, copy: bool | None) -> npt.NDArray[Any]:
    """Return the array that a reference refers to. `Ref.__array__` calls this.

    Parameters
    ----------
    ref : Ref
        A reference to an array.
    dtype : dtype-like, optional
        Default: the dtype of the array.
    copy : bool, optional
        True: always make a copy, which is writable. False: never. None (the default): only if
        `dtype` needs a copy.

    Returns
    -------
    ndarray
        Without a copy, the array in the pool, which is read-only.

    Raises
    ------
    TypeError
        The object is not an array.
    ValueError
        `copy` is False, and `dtype` needs a copy.
    """
    array = ref.get()
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"a reference to a {type(array).__name__} is not an array: ref.get() returns the object"
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
