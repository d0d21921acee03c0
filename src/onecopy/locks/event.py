"""Event: a flag that threads can wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy._core.arguments import unnamed
from onecopy._core.current import default_member
from onecopy._core.shared import Shared
from onecopy._native import EventBase, own_methods

if TYPE_CHECKING:
    from onecopy._aio.locks import AioEvent
    from onecopy._native import Hold, Member

__all__ = ["Event"]


@own_methods
class Event(Shared, EventBase):
    """A flag that processes set, clear and wait for, like `multiprocessing.Event`.

    ``set()``, ``clear()``, ``is_set()``, ``wait(timeout=None) -> bool``. When the flag is set, all
    waiters resume, even if the flag is cleared again at once. An event has no owner: no death
    changes it.

    Raises
    ------
    PoolFull
        There is no room for the event.

    Examples
    --------
    >>> pool = oc.Pool("locks", size="4MiB")
    >>> ready = pool.event("ready")
    >>> ready.wait(timeout=0.001)
    False
    >>> ready.set()  # all that wait for it continue
    >>> ready.is_set(), ready.wait()
    (True, True)
    >>> ready.clear()
    >>> ready.detach()  # this process has it no more; other processes keep it
    """

    _made_by = "event"

    @unnamed
    def __init__(self) -> None:
        self._attach(None, default_member())

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        EventBase.__init__(self, hold, member, *state)

    @property
    def aio(self) -> AioEvent:
        """`wait` as a coroutine: ``await event.aio.wait()``; see docs/asyncio.md."""
        from onecopy._aio.locks import AioEvent

        return AioEvent(self)

    def _describe(self) -> str:
        return ", set" if self.is_set() else ", not set"
