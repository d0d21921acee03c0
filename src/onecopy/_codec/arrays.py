"""Arrays in a pool.

An array made by `Pool.empty` or a similar method is a `numpy.ndarray` whose memory lies in the
pool. It keeps its memory alive itself: at the end of its chain of bases is a *lease*. The memory
becomes free when the last lease on it, in any process, is gone. An array that is sent or put
travels by reference and becomes read-only in the sender, so that its readers see no change.

`SharedArray` is the exception: every process that has it may write, and onecopy does not
synchronize the writes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from onecopy._codec.backing import address, lease_of
from onecopy._codec.leased import reduce_leased
from onecopy._core.keepalive import keep_for_child
from onecopy._core.membership import handle_of, join
from onecopy._core.shapes import ShapeLike, checked_dtype, checked_shape
from onecopy.errors import PoolNotFound, StaleRef

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy._core.membership import PoolHandle
    from onecopy._native import Member

__all__ = ["InPlaceArray", "SharedArray", "array", "empty", "full"]


class InPlaceArray(np.ndarray[Any, Any]):
    """The base class of arrays whose memory has a fixed place.

    Results of computations, and copies, are ordinary arrays in ordinary memory.
    """

    def __array_wrap__(
        self,
        array: npt.NDArray[Any],
        context: Any = None,
        return_scalar: bool = False,
        /,
    ) -> Any:
        """Return results as ordinary arrays, unless they were written into this array."""
        if array is self:
            return array
        if return_scalar or array.shape == ():
            return array[()]
        return array.view(np.ndarray)

    def copy(self, order: Any = "C") -> npt.NDArray[Any]:  # type: ignore[override]  # plain
        """Copy into ordinary memory, as an ordinary array."""
        return np.ndarray.view(self, np.ndarray).copy(order)

    def __copy__(self) -> npt.NDArray[Any]:  # type: ignore[override]  # plain
        """Copy as `copy` does."""
        return self.copy("K")

    def __deepcopy__(self, memo: dict[int, Any] | None, /) -> npt.NDArray[Any]:  # type: ignore[override]  # plain
        """Copy as `copy` does: the array contains no objects."""
        return self.copy("K")

    def astype(self, *args: Any, **kwargs: Any) -> npt.NDArray[Any]:
        """Convert as `numpy.ndarray.astype` does. A new array is an ordinary one."""
        result = super().astype(*args, **kwargs)
        return result if result is self else np.ndarray.view(result, np.ndarray)


class SharedArray(InPlaceArray):
    """An array that every process that has it may write.

    `Pool.shared_array` makes it. Views of it are shared arrays, too. Results of computations are
    ordinary arrays in ordinary memory, as with `numpy.memmap`. Two processes can write at the same
    time: use a lock, or let each process write another part.

    It is pickled by reference, also as an argument of a child process. A pickle keeps nothing
    alive: if no process has the array any more, unpickling raises `StaleRef`. A message, object or
    container in the array's own pool keeps the array. So does a call of an `Executor` until it is
    done. A message, object or container in another pool does not keep it. In three cases an
    ordinary copy arrives: in a result of an `Executor` that has another pool; in a pool in a file,
    if the array's own pool is not in a file; and if the array's own pool has lost its name.

    Examples
    --------
    >>> pool = oc.Pool("studio", size="16MiB")
    >>> totals = pool.shared_array(4, np.int64)
    >>> lock = pool.lock("totals")
    >>> with lock:  # another process may add at the same time
    ...     totals[0] += 5
    >>> totals
    SharedArray([5, 0, 0, 0])
    """

    def __getitem__(self, index: Any) -> Any:
        """Return a view as a shared array, and a copy (by fancy indexing) as an ordinary array."""
        part = super().__getitem__(index)
        if type(part) is SharedArray and lease_of(part) is None:
            return part.view(np.ndarray)
        return part

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickle by reference."""
        lease = lease_of(self)
        if lease is None:  # empty, or a copy that numpy made under this class
            return self.view(np.ndarray).__reduce_ex__(protocol)
        if lease.member.readonly:  # like every array of such a pool: no process can write it
            return reduce_leased(self, lease)
        keep_for_child(self)
        return _rebuild_shared, (
            handle_of(lease.member),
            lease.handle,
            self.dtype,
            self.shape,
            self.strides,
            address(self) - address(np.frombuffer(memoryview(lease), np.uint8)),
        )

    def __reduce__(self) -> Any:
        """Pickle by reference."""
        return self.__reduce_ex__(2)


def empty(
    member: Member,
    shape: ShapeLike,
    dtype: npt.DTypeLike | None = None,
    *,
    zero: bool = False,
    shared: bool = False,
) -> npt.NDArray[Any]:
    """Allocate an array in a pool.

    Parameters
    ----------
    member : Member
        The membership.
    shape : int or sequence of int
        C order.
    dtype : dtype-like
        Without Python objects. Default: float64.
    zero : bool
        Whether to fill it with zeros. Otherwise it contains what was in the memory before.
    shared : bool
        Whether it stays writable when it is sent. Then it is a `SharedArray`.

    Returns
    -------
    ndarray
        Writable, aligned to 64 bytes. An array without elements lies in no pool.

    Raises
    ------
    PoolFull
        The pool has no room. An array that is larger than the pool fails at once.
    TypeError, ValueError
        The shape or the dtype is not valid.
    """
    shape, dtype = checked_shape(shape), checked_dtype(dtype)
    if math.prod(shape) * dtype.itemsize == 0:
        array = np.zeros(shape, dtype)
    else:
        array = member.empty(shape, dtype, zero, shared)
    return array.view(SharedArray) if shared else array


def full(
    member: Member, shape: ShapeLike, fill_value: Any, dtype: npt.DTypeLike | None = None
) -> npt.NDArray[Any]:
    """Allocate an array in a pool and fill it; see `Pool.full`."""
    if dtype is None:
        dtype = np.asarray(fill_value).dtype
    array = empty(member, shape, dtype)
    array[...] = fill_value
    return array


def array(member: Member, obj: Any, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """Copy an array-like object into a pool; see `Pool.array`."""
    if isinstance(obj, np.ma.MaskedArray):
        raise TypeError(
            "an array in a pool has no mask; pass the whole masked array to put() or a queue, "
            "or store obj.data and obj.mask"
        )
    source = np.asarray(obj, dtype)
    if source.flags.f_contiguous and not source.flags.c_contiguous:
        result = empty(member, source.shape[::-1], source.dtype).T
    else:
        result = empty(member, source.shape, source.dtype)
    np.copyto(result, source)
    return result


def _rebuild_shared(
    pool: PoolHandle,
    handle: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
) -> SharedArray:
    try:
        lease = join(pool).lease(handle)
    except PoolNotFound as error:
        raise StaleRef(f"the pool of this shared array is gone: {error}") from error
    try:
        if not lease.readonly:
            return SharedArray(shape, dtype, memoryview(lease), offset, strides)
    except (TypeError, ValueError) as error:  # it does not fit the block
        raise StaleRef(f"the block of that handle is not this shared array: {error}") from error
    raise StaleRef("the block of that handle is not a shared array")
