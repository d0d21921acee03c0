"""What modules below `pool` use of a `Pool`, as types. They cannot import the class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy.typing as npt

    from onecopy._core.lookup import Detachable
    from onecopy._core.shapes import ShapeLike
    from onecopy._native import Member

__all__ = ["AnyPool", "OwningPool"]

_Part = TypeVar("_Part", bound="Detachable")


class AnyPool(Protocol):
    """A pool in which memory can be allocated."""

    @property
    def member(self) -> Member:
        """The membership of this process."""

    def empty(self, shape: ShapeLike, dtype: npt.DTypeLike = ...) -> Any:
        """Allocate an array whose contents are not initialized."""


class OwningPool(Protocol):
    """A pool that releases its parts when it is closed."""

    @property
    def member(self) -> Member:
        """The membership of this process."""

    @property
    def name(self) -> str:
        """The name, or the path, by which the pool is opened."""

    def _own(self, part: _Part, /) -> _Part: ...
