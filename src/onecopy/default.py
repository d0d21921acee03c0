"""The default pool, and the package's functions that work on it.

It is made when it is first needed, without a name. A child made by fork has its parent's; a process
that unpickles something from another's default pool (a spawned child its arguments, say) takes that
pool for its own, unless it has one already.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from onecopy import membership
from onecopy.limits import machine_memory, memory_limit
from onecopy.paths import has_dev_shm, pool_directory
from onecopy.pool import Pool
from onecopy.sizes import parse_size

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy._native import Member, Ref
    from onecopy.arrays import ShapeLike, SharedArray
    from onecopy.typevars import T

__all__ = [
    "adopt",
    "array",
    "default_pool",
    "default_size",
    "empty",
    "put",
    "shared_array",
    "zeros",
]

_SMALLEST = 64 << 20  # bytes; below this a memfd does better than what is left of /dev/shm

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


def default_size() -> int:
    """Tell how large a pool is whose size nobody gave.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ValueError
        ``ONECOPY_POOL_SIZE`` is no size.
    """
    chosen = os.environ.get("ONECOPY_POOL_SIZE")
    if chosen:
        return parse_size(int(chosen) if chosen.isdigit() else chosen, "ONECOPY_POOL_SIZE")
    half = _memory_limit() // 2
    directory = pool_directory()
    while not os.path.isdir(directory):  # noqa: PTH112 - pathlib is not loaded for this
        directory = os.path.dirname(directory)  # noqa: PTH120 - as above
    system = os.statvfs(directory)
    free = system.f_bavail * system.f_frsize // 2
    if not has_dev_shm() or free < _SMALLEST:
        return half  # as a memfd
    return min(half, free)


def _memory_limit() -> int:
    """Give the memory that this process may use: the machine's, or its control group's."""
    group = memory_limit()
    return machine_memory() if group is None else min(machine_memory(), group.limit)


def _forked() -> None:
    # Another thread may have held it while this one forked.
    global _lock  # noqa: PLW0603 - as above
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forked)


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
