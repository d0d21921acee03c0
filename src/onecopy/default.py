"""The default pool, and the package's functions that work on it.

It is made when it is first needed, without a name. A child made by fork has its parent's; a process
that unpickles something from another's default pool (a spawned child its arguments, say) takes that
pool for its own, unless it has one already.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from onecopy._core import current, membership
from onecopy._core.default_size import default_size
from onecopy.pool import Pool

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy._codec.arrays import SharedArray
    from onecopy._core.shapes import ShapeLike
    from onecopy._core.typevars import T
    from onecopy._native import Member, Ref

__all__ = [
    "adopt",
    "array",
    "default_pool",
    "empty",
    "put",
    "shared_array",
    "zeros",
]

_pool: Pool | None = None
# A signal handler or a finalizer may want the default pool while this thread is making it.
_lock = threading.RLock()


def default_pool() -> Pool:
    """Give the pool that the functions of the package work on; make it on first use.

    Its size is ``ONECOPY_POOL_SIZE`` (such as ``2GiB``), else half of the free shared memory, at
    most half of the memory that the machine, or the process's control group (a container), may
    use. Memory is taken as it is needed.

    Returns
    -------
    Pool
        The same one in every call, in a forked child also the parent's; another one after it was
        closed.

    Raises
    ------
    ValueError
        ``ONECOPY_POOL_SIZE`` is no size.
    PoolFull, PermissionError, OSError
        As `Pool.create`.
    """
    global _pool  # noqa: PLW0603 - the pool belongs to the process
    pool = _pool
    if pool is not None and not pool.closed:
        return pool
    with _lock:
        if _pool is None or _pool.closed:
            pool = Pool.create(size=default_size())
            if _pool is None or _pool.closed:  # still: nothing in between has made one
                membership.mark_default(pool.member)
                _pool = pool
        return _pool


def adopt(member: Member) -> None:
    """Take another process's default pool for this one's, if this one has none.

    Parameters
    ----------
    member : Member
        This process's membership in that pool.
    """
    global _pool  # noqa: PLW0603 - as above
    with _lock:
        if _pool is None or _pool.closed:
            membership.mark_default(member)
            _pool = Pool.of(member)


def _forked() -> None:
    # Another thread may have held it while this one forked.
    global _lock  # noqa: PLW0603 - as above
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forked)
current.provide(default_pool, adopt)


def put(obj: T) -> Ref[T]:
    """Write an object into the default pool; see `Pool.put`."""
    return default_pool().put(obj)


def empty(shape: ShapeLike, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """Allocate an array in the default pool; see `Pool.empty`."""
    return default_pool().empty(shape, dtype)


def zeros(shape: ShapeLike, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """Allocate an array of zeros in the default pool; see `Pool.zeros`."""
    return default_pool().zeros(shape, dtype)


def array(obj: Any, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """Copy an array into the default pool; see `Pool.array`."""
    return default_pool().array(obj, dtype)


def shared_array(
    shape: ShapeLike | None = None, dtype: npt.DTypeLike | None = None, name: str | None = None
) -> SharedArray:
    """Allocate a writable shared array in the default pool; see `Pool.shared_array`."""
    return default_pool().shared_array(shape, dtype, name)
