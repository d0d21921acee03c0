"""The shape of an array, as a part of its type."""

from __future__ import annotations

from types import EllipsisType
from typing import TypeAlias

__all__ = ["Dimension", "Shape"]

Dimension: TypeAlias = int | str | EllipsisType | None


class Shape:
    """The shape of an array in the type of a message.

    It stands beside the type of the array: ``Annotated[npt.NDArray[np.uint8], Shape(480, 640)]``.

    Parameters
    ----------
    *dimensions : int, str, None or ...
        One entry for each dimension.

        an int
            The size.
        a name
            Any size, but the same one wherever the name stands in one message. For example,
            ``Shape("height", "width", 3)``.
        None
            Any size.
        ``...``
            Any number of dimensions, at most once.

    Raises
    ------
    TypeError, ValueError
        A dimension is something else, a size is negative, or ``...`` stands twice.

    Examples
    --------
    >>> oc.Shape("height", "width", 3)
    Shape('height', 'width', 3)
    """

    __slots__ = ("_dimensions",)

    def __init__(self, *dimensions: Dimension) -> None:
        every: tuple[object, ...] = dimensions
        for one in every:
            if isinstance(one, bool) or not isinstance(one, int | str | None | EllipsisType):
                hint = ": write Shape(480, 640)" if isinstance(one, tuple | list) else ""
                raise TypeError(
                    "Shape() takes sizes, names, None and ... as dimensions, not "
                    f"{type(one).__name__} {one!r:.100}{hint}"
                )
            if isinstance(one, int) and not 0 <= one < 1 << 62:
                raise ValueError(f"Shape(): a dimension of size {one}")
            if isinstance(one, str) and not one.isidentifier():
                raise ValueError(f"Shape(): {one!r} is no name of a dimension")
        if dimensions.count(...) > 1:
            raise ValueError("Shape(): ... stands for all other dimensions, so at most once")
        self._dimensions = dimensions

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The dimensions, as they were passed."""
        return self._dimensions

    def __eq__(self, other: object) -> bool:
        return self._dimensions == other._dimensions if isinstance(other, Shape) else NotImplemented

    def __hash__(self) -> int:
        return hash(("Shape", self._dimensions))

    def __repr__(self) -> str:
        return f"Shape({', '.join('...' if one is ... else repr(one) for one in self._dimensions)})"

    def __reduce__(self) -> tuple[type[Shape], tuple[Dimension, ...]]:
        return Shape, self._dimensions
