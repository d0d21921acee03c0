"""The methods of `Pool` that write objects and allocate arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from onecopy._codec import arrays
from onecopy._core import memory_pressure
from onecopy._core.kinds import Kind
from onecopy._core.lookup import check_matches, open_or_create
from onecopy._core.shapes import checked_dtype, checked_shape
from onecopy.errors import OneCopyError, PoolFull

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy._codec.arrays import SharedArray
    from onecopy._core.shapes import ShapeLike
    from onecopy._core.typevars import T
    from onecopy._native import Hold, Member, Ref

__all__ = ["ObjectFactory"]


def _name_hint(shape: object) -> str:
    """Return what to write, if a name was passed as the shape."""
    return f"write name={shape!r}" if isinstance(shape, str) else ""


class ObjectFactory:
    """The methods for objects and arrays in a pool."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def member(self) -> Member: ...
        @property
        def name(self) -> str: ...

    def put(self, obj: T) -> Ref[T]:
        """Write an object into the pool, once.

        Parameters
        ----------
        obj : object
            Any object that pickle accepts. Arrays and buffers are not pickled. Arrays and buffers
            that lie in the pool already are not written again.

        Returns
        -------
        Ref
            A reference that holds the object. `Ref.get` returns the object, in any process.

        Raises
        ------
        PoolFull
            The pool has no room. An object that is larger than the pool fails at once.
        Exception
            The error of pickle, if it cannot pickle the object. Nothing stays in the pool then.

        Notes
        -----
        Arrays of this pool in `obj` become read-only in this process, unless they are shared
        arrays.
        """
        before = memory_pressure.times()
        try:
            return self.member.put(obj)
        except PoolFull:
            if memory_pressure.times() == before:
                raise
            return self.member.put(obj)  # memory was released meanwhile

    def empty(self, shape: ShapeLike, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        """Allocate an array. It contains what was in the memory before.

        Parameters
        ----------
        shape : int or sequence of int
            C order.
        dtype : dtype-like, optional
            Without Python objects. Default: float64.

        Returns
        -------
        ndarray
            An array that is writable until it is put or sent, and aligned to 64 bytes. It holds its
            memory itself. An array without elements does not lie in the pool.

        Raises
        ------
        PoolFull
            The pool has no room. An array that is larger than the pool fails at once.
        TypeError, ValueError
            The shape or the dtype is not valid.
        """
        return arrays.empty(self.member, shape, dtype)

    def zeros(self, shape: ShapeLike, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        """Allocate an array of zeros; otherwise as `empty`."""
        return arrays.empty(self.member, shape, dtype, zero=True)

    def full(
        self, shape: ShapeLike, fill_value: Any, dtype: npt.DTypeLike | None = None
    ) -> npt.NDArray[Any]:
        """Allocate an array and fill it; otherwise as `empty`.

        Parameters
        ----------
        shape : int or sequence of int
            C order.
        fill_value : scalar or array-like
            The value of its elements.
        dtype : dtype-like, optional
            Default: the dtype of `fill_value`.

        Returns
        -------
        ndarray
            As from `empty`.
        """
        return arrays.full(self.member, shape, fill_value, dtype)

    def array(self, obj: Any, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        """Copy an array, or any array-like object, into the pool.

        Parameters
        ----------
        obj : array-like
            Not a masked array.
        dtype : dtype-like, optional
            Default: the dtype of `obj`.

        Returns
        -------
        ndarray
            As from `empty`. In Fortran order if `obj` is.

        Raises
        ------
        PoolFull
            The pool has no room.
        TypeError
            It is a masked array, or an array of Python objects.
        """
        return arrays.array(self.member, obj, dtype)

    def shared_array(
        self,
        shape: ShapeLike | None = None,
        dtype: npt.DTypeLike | None = None,
        name: str | None = None,
    ) -> SharedArray:
        """Allocate an array that every process that has it may write, or open one by its name.

        Parameters
        ----------
        shape : int or sequence of int
            C order. Leave it out to open an existing array by its name.
        dtype : dtype-like, optional
            Without Python objects. Default: float64, or the dtype of the existing array.
        name : str, optional
            The first call with a name makes the array, full of zeros. Later calls open it.

        Returns
        -------
        SharedArray
            A new array contains zeros.

        Raises
        ------
        OneCopyError
            The array of that name has another shape or dtype; or it does not exist, and no shape
            was passed.
        PoolFull
            The pool has no room.
        """
        member = self.member
        asked_shape = None if shape is None else checked_shape(shape, _name_hint(shape))
        asked_dtype = None if dtype is None else checked_dtype(dtype)

        def make(hold: Hold | None) -> SharedArray:
            if hold is None:
                if asked_shape is None:
                    raise OneCopyError(
                        f"pool {self.name!r} has no shared array {name!r}; "
                        "to make it, pass its shape"
                    )
                made = arrays.empty(member, asked_shape, asked_dtype, zero=True, shared=True)
                return cast("SharedArray", made)
            existing = cast("SharedArray", member.ref(hold.handle).get())
            check_matches("shared array", name, "shape", asked_shape, existing.shape)
            check_matches("shared array", name, "dtype", asked_dtype, existing.dtype)
            return existing

        return cast("SharedArray", open_or_create(member, Kind.ARRAY, name, make, store=member.put))
