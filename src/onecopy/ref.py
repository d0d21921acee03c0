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

from onecopy._core.lines import cut
from onecopy._core.paths import pool_name
from onecopy._core.sizes import format_size
from onecopy._native import Ref
from onecopy.errors import OneCopyError, PoolNotFound, StaleRef

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy._core.membership import PoolHandle

__all__ = ["Ref", "as_array", "as_html", "rebuild"]

_MOST = 1 << 16  # bytes of containers and objects that are built to be shown
_WIDTH = 100  # characters of a dtype


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


def as_html(ref: Ref[Any]) -> str | None:
    """Return a table for notebooks. `Ref._repr_html_` calls this.

    Parameters
    ----------
    ref : Ref
        Any reference.

    Returns
    -------
    str or None
        Type, shape, dtype, size and pool, and the picture if there is one in the object. It refers
        to no memory of the pool. None: the reference was released, or its pool is out of reach.

    Notes
    -----
    Arrays are read in place. A long text, an object that needs a pickle, and containers and objects
    of more than 64 KiB (arrays in them do not count) are not built: the table says what is known
    without that. If an array in a container has a dtype with metadata, that dtype is unpickled.
    """
    from onecopy._core.cards import card

    try:
        form, nbytes, pickled = ref._glance()
        place = [("size", format_size(ref.nbytes)), ("pool", repr(pool_name(ref.member.path)))]
    except OneCopyError:
        return None
    rows, below = _shown(ref, form, nbytes, pickled)
    return card("Ref", [*rows, *place], below)


def _shown(
    ref: Ref[Any], form: str, nbytes: int, pickled: bool
) -> tuple[list[tuple[str, str]], str]:
    """Return what is known of the object: rows of the table, and HTML below it."""
    from onecopy._core.cards import preview, thumbnail

    if form in {"str", "bytes"}:  # long ones: they would be copied
        return [("type", form)], ""
    if pickled:
        return [("type", "any: it was pickled, and ref.get() unpickles it")], ""
    if form == "packed" and nbytes > _MOST:
        return [("type", "a large container or object, which ref.get() builds")], ""
    try:
        value = ref.get()
        rows = [("type", type(value).__name__)]
        shape = getattr(value, "shape", None)
        if not isinstance(shape, tuple):
            return rows, preview(value)
        rows.append(("shape", str(shape)))
        dtype = getattr(value, "dtype", None)
        if dtype is not None:
            rows.append(("dtype", cut(str(dtype), _WIDTH)))
        return rows, thumbnail(value)
    except Exception as error:  # noqa: BLE001 - a class of the object may raise anything
        return [("type", f"cannot be built here: {type(error).__name__}")], ""
