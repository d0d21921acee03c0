"""The default pool, and the package's functions that work on it.

The default pool is made on first use and has no name. A forked child has the default pool of its
parent. A process that has no default pool adopts one when it unpickles an object from the default
pool of another process. For example, a spawned child adopts one when it unpickles its arguments.
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
# Recursive: a signal handler or a finalizer may ask for the pool while this thread makes it.
_lock = threading.RLock()


def default_pool() -> Pool:
    """Return the pool that the functions of the package work on; make it on first use.

    Its size is ``ONECOPY_POOL_SIZE`` (for example ``2GiB``). If that is not set, the size is half
    of the free shared memory, and at most half of the memory that the machine has or that the
    control group of the process (a container) may use. Memory is allocated when it is needed.

    Returns
    -------
    Pool
        The same pool in every call, also in a forked child. After it was closed, a new one.

    Raises
    ------
    ValueError
        ``ONECOPY_POOL_SIZE`` is not a size.
    PoolFull, PermissionError, OSError
        As `Pool.create`.

    Examples
    --------
    >>> oc.default_pool() is oc.default_pool()
    True
    >>> array = oc.zeros(3)
    >>> oc.default_pool().where(array) is not None
    True
    """
    global _pool  # noqa: PLW0603 - the pool belongs to the process
    pool = _pool
    if pool is not None and not pool.closed:
        return pool
    with _lock:
        if _pool is None or _pool.closed:
            pool = Pool.create(size=default_size())
            if _pool is None or _pool.closed:  # no signal handler made one meanwhile
                membership.mark_default(pool.member)
                _pool = pool
        return _pool


def adopt(member: Member) -> None:
    """Use another process's default pool as this process's default pool, if this one has none.

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
    # Another thread may have owned the lock at the fork.
    global _lock  # noqa: PLW0603 - as above
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forked)
current.provide(default_pool, adopt)


def put(obj: T) -> Ref[T]:
    """Write an object into the default pool; see `Pool.put`.

    Examples
    --------
    >>> ref = oc.put({"id": 7, "image": np.zeros((480, 640))})
    >>> ref.get()["image"].shape
    (480, 640)
    """
    return default_pool().put(obj)


def empty(shape: ShapeLike, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """Allocate an array in the default pool; see `Pool.empty`.

    Examples
    --------
    >>> image = oc.empty((480, 640, 3), np.uint8)
    >>> image[:] = 0
    """
    return default_pool().empty(shape, dtype)


def zeros(shape: ShapeLike, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """Allocate an array of zeros in the default pool; see `Pool.zeros`.

    Examples
    --------
    >>> oc.zeros(3)
    array([0., 0., 0.])
    """
    return default_pool().zeros(shape, dtype)


def array(obj: Any, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """Copy an array into the default pool; see `Pool.array`.

    Examples
    --------
    >>> oc.array([1, 2, 3])
    array([1, 2, 3])
    """
    return default_pool().array(obj, dtype)


def shared_array(
    shape: ShapeLike | None = None, dtype: npt.DTypeLike | None = None, name: str | None = None
) -> SharedArray:
    """Allocate a writable shared array in the default pool; see `Pool.shared_array`.

    Examples
    --------
    >>> total = oc.shared_array(2, np.int64)
    >>> total[0] += 5
    >>> total
    SharedArray([5, 0])
    """
    return default_pool().shared_array(shape, dtype, name)
