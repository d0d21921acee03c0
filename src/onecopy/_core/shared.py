"""What all things in a pool that travel by handle share: a name, a pool, pickling by reference.

Queues, streams, frames, locks and containers are such things. What a pickle of them has, and how
the receiver opens the same thing, is written here only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from onecopy._core.keepalive import keep_for_child
from onecopy._core.membership import handle_of, join
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from typing import Self, TypeAlias

    from onecopy._core.membership import PoolHandle
    from onecopy._native import Hold, Member

    Place: TypeAlias = tuple[PoolHandle, int, str | None]  # the pool, the handle, the name

__all__ = ["Closable", "Shared", "rebuild"]

_T = TypeVar("_T", bound="Shared")


class Shared:
    """A thing in a pool that is pickled by reference.

    Subclasses define `_attach`, which makes the native part of an object, and `_state`, which
    returns the arguments that `_attach` needs besides the hold.
    """

    _name: str | None = None
    _shown_as: str | None = None  # what reprs call the thing; None: the name of its class

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

    def _opener(self) -> tuple[Any, ...]:
        """Return the function that unpickling calls, and its arguments before the place.

        A class of which there are many pickles, for example in messages, has a function of its own:
        such a pickle names no class, and is shorter.
        """
        return rebuild, type(self)

    def _place(self) -> Place:
        """Return where the thing is, for a pickle that a receiver will open with `_open_at`."""
        keep_for_child(self)
        return handle_of(self.member), self.handle, self._name

    def _open_at(self, place: Place, *state: Any) -> None:
        """Make this new object open the thing that is at a place, if it still exists."""
        pool, handle, self._name = place
        member = join(pool)
        self._attach(member.hold(handle), member, *state)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by reference: unpickling opens the same thing, if it still exists."""
        function, *first = self._opener()
        return function, (*first, *self._place(), *self._state())

    def _label(self) -> str:
        """Return what people are shown as the thing: what it is, and its name if it has one."""
        what = self._shown_as or type(self).__name__
        return what if self._name is None else f"{what} {self._name!r}"

    def __repr__(self) -> str:
        try:
            return f"<onecopy.{self._label()}{self._describe()}>"
        except OneCopyError:
            return f"<onecopy.{self._label()}, closed>"


class Closable(Shared):
    """A thing that a ``with`` block closes in this process. A lock's ``with`` acquires it."""

    def close(self) -> None:
        """Release the thing in this process."""
        self.detach()

    def __enter__(self) -> Self:
        """Use the thing in a ``with`` block, which closes it in this process at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the thing in this process."""
        self.close()


def rebuild(cls: type[_T], pool: PoolHandle, handle: int, name: str | None, *state: Any) -> _T:
    """Open the thing of a class that a pickle refers to."""
    thing = cls.__new__(cls)
    thing._open_at((pool, handle, name), *state)
    return thing
