"""Semaphore and BoundedSemaphore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy._core.arguments import integer, unnamed
from onecopy._core.current import default_member
from onecopy._core.shared import Shared
from onecopy._native import SemaphoreBase, own_methods

if TYPE_CHECKING:
    from onecopy._native import Hold, Member

__all__ = ["BoundedSemaphore", "Semaphore", "checked_value"]

_BOUNDED, _KEEPS_NOTHING = 1, 2
_MOST = 2**31 - 1


def checked_value(value: int) -> int:
    """Refuse what no semaphore can begin with.

    Raises
    ------
    ValueError
        It is negative, or above 2**31-1.
    """
    value = integer("value", value)
    if not 0 <= value <= _MOST:
        raise ValueError(f"value={value}: a semaphore begins with 0 to {_MOST:,}")
    return value


@own_methods
class Semaphore(Shared, SemaphoreBase):
    """A number of tokens to take and give back; the dead's come back by themselves.

    The methods of `multiprocessing.Semaphore`: ``acquire(block=True, timeout=None)``,
    ``release(n=1)``, ``get_value()``, and ``with``.

    Parameters
    ----------
    value : int, optional
        Tokens at the beginning.
    recover : bool, optional
        Whether the tokens of a process that dies come back. A token of the initial value belongs to
        the process that took it until it, or another process for it, gives one back. Tokens beyond
        the initial value are signals: they are used up by being taken. Pass False for a counter
        whose tokens stand for something that outlives the process that took them, such as the free
        places of a buffer.

    Raises
    ------
    ValueError
        `value` is negative.
    PoolFull
        There is no room for the semaphore.
    """

    _options = 0
    _made_by = "semaphore"

    @unnamed
    def __init__(self, value: int = 1, *, recover: bool = True) -> None:
        self._attach(None, default_member(), checked_value(value), recover)

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        value, recover = state
        flags = self._options | (0 if recover else _KEEPS_NOTHING)
        SemaphoreBase.__init__(self, hold, member, value, flags)

    def _state(self) -> tuple[Any, ...]:
        return self._initial, self.recovers

    def _describe(self) -> str:
        return f", {self.get_value()} of {self._initial} free"

    @property
    def initial(self) -> int:
        """Tokens at the beginning."""
        return self._initial

    @property
    def recovers(self) -> bool:
        """Whether the tokens of a process that dies come back."""
        return not self._flags & _KEEPS_NOTHING


@own_methods
class BoundedSemaphore(Semaphore):
    """A `Semaphore` that refuses (ValueError) to hold more than it began with."""

    _options = _BOUNDED
    _made_by = "bounded_semaphore"
