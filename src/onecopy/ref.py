"""References to objects in a pool.

A `Ref` is what `Pool.put` returns: the object lies in the pool once, and `Ref.get` builds it from
there, in any process that has the reference, without copying its arrays and buffers.

A reference holds its object: the memory is free once no process has a reference, no queue or name
has the object, and no array got from it is left. A *pickled* reference holds nothing; a reference
on a queue does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onecopy._native import Ref
from onecopy.errors import PoolNotFound, StaleRef

if TYPE_CHECKING:
    from onecopy.membership import PoolHandle

__all__ = ["Ref", "rebuild"]


def rebuild(pool: PoolHandle, handle: int) -> Ref:
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
    from onecopy.membership import join

    try:
        member = join(pool)
    except PoolNotFound as error:
        raise StaleRef(
            f"the reference came too late: {error.args[-1]} A pickled reference keeps nothing "
            "alive: keep the original until the copy has arrived, or send it on a queue of its "
            "pool."
        ) from error
    return member.ref(handle)
