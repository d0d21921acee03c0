"""What all locks and similar structures share: a name, a pool, pickling by reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from onecopy._core.keepalive import keep_for_child
from onecopy._core.membership import handle_of, join
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from typing import Self

    from onecopy._core.membership import PoolHandle
    from onecopy._native import Hold, Member

__all__ = ["Shared"]

_T = TypeVar("_T", bound="Shared")


class Shared:
    """A thing in a pool that is pickled by reference.

    Subclasses define `_attach`, which makes the native part of an object, and `_state`, which
    returns the arguments that `_attach` needs besides the hold.
    """

    _name: str | None = None

    if TYPE_CHECKING:

        @property
        def member(self) -> Member: ...
        @property
        def handle(self) -> int: ...
        def detach(self) -> None: ...

    @property
    def name(self) -> str | None:
        """The name by which the pool opens the thing, or None."""
        return self._name

    @classmethod
    def _open(cls, hold: Hold | None, member: Member, name: str | None, *state: Any) -> Self:
        """Make a thing (without a hold), or open the thing that the hold is on."""
        self = cls.__new__(cls)
        self._name = name
        self._attach(hold, member, *state)
        return self

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        raise NotImplementedError

    def _state(self) -> tuple[Any, ...]:
        return ()

    def _describe(self) -> str:
        return ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by reference: unpickling opens the same thing, if it still exists."""
        keep_for_child(self)
        arguments = (type(self), handle_of(self.member), self.handle, self._name, self._state())
        return _rebuild, arguments

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        try:
            return f"<onecopy.{type(self).__name__}{name}{self._describe()}>"
        except OneCopyError:
            return f"<onecopy.{type(self).__name__}{name}, closed>"


def _rebuild(
    cls: type[_T], pool: PoolHandle, handle: int, name: str | None, state: tuple[Any, ...]
) -> _T:
    member = join(pool)
    return cls._open(member.hold(handle), member, name, *state)
