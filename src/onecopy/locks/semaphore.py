"""Semaphore and BoundedSemaphore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy._core.arguments import integer, unnamed
from onecopy._core.current import default_member
from onecopy._core.shared import Shared
from onecopy._native import SemaphoreBase, own_methods

if TYPE_CHECKING:
    from onecopy._aio.locks import AioLock
    from onecopy._native import Hold, Member

__all__ = ["BoundedSemaphore", "Semaphore", "checked_value"]

_BOUNDED, _DOES_NOT_RECOVER = 1, 2
_MOST = 2**31 - 1


def checked_value(value: int) -> int:
    """Check the initial value of a semaphore.

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
    """A number of tokens to acquire and release. Tokens of dead processes are returned.

    It has the methods of `multiprocessing.Semaphore`: ``acquire(block=True, timeout=None)``,
    ``release(n=1)``, ``get_value()``, and ``with``.

    Parameters
    ----------
    value : int, optional
        The initial number of tokens.
    recover : bool, optional
        Whether the tokens of a process that dies are returned. A token of the initial value belongs
        to the process that acquired it, until that process or another one releases a token. A
        release beyond the initial value adds a token. Taking it uses it up. Pass False if a token
        stands for something that outlives the process, for example a free place in a buffer.

    Raises
    ------
    ValueError
        `value` is negative.
    PoolFull
        There is no room for the semaphore.

    Examples
    --------
    >>> pool = oc.Pool("locks", size="4MiB")
    >>> printers = pool.semaphore("printers", 2)
    >>> with printers:
    ...     printers.get_value()
    1
    >>> printers.acquire(timeout=10)
    True
    >>> printers.release()
    >>> printers.get_value()
    2
    >>> printers.detach()  # this process has it no more; other processes keep it
    """

    _options = 0
    _made_by = "semaphore"

    @unnamed
    def __init__(self, value: int = 1, *, recover: bool = True) -> None:
        self._attach(None, default_member(), checked_value(value), recover)

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        value, recover = state
        flags = self._options | (0 if recover else _DOES_NOT_RECOVER)
        SemaphoreBase.__init__(self, hold, member, value, flags)

    def _state(self) -> tuple[Any, ...]:
        return self._initial, self.recovers

    def _describe(self) -> str:
        return f", {self.get_value()} of {self._initial} free"

    @property
    def aio(self) -> AioLock:
        """`acquire` and ``async with`` for tasks of an event loop; see docs/asyncio.md."""
        from onecopy._aio.locks import AioLock

        return AioLock(self)

    @property
    def initial(self) -> int:
        """The initial number of tokens."""
        return self._initial

    @property
    def recovers(self) -> bool:
        """Whether the tokens of a process that dies are returned."""
        return not self._flags & _DOES_NOT_RECOVER


@own_methods
class BoundedSemaphore(Semaphore):
    """A `Semaphore` that refuses (ValueError) to have more tokens than its initial value.

    Examples
    --------
    >>> pool = oc.Pool("locks", size="4MiB")
    >>> printers = pool.bounded_semaphore("printers", 1)
    >>> printers.acquire()
    True
    >>> printers.release()
    >>> printers.release()
    Traceback (most recent call last):
        ...
    ValueError: ...
    >>> printers.get_value()
    1
    >>> printers.detach()  # this process has it no more; other processes keep it
    """

    _options = _BOUNDED
    _made_by = "bounded_semaphore"
