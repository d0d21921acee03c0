"""Event: a flag to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy._core.arguments import unnamed
from onecopy._core.current import default_member
from onecopy._core.shared import Shared
from onecopy._native import EventBase, own_methods

if TYPE_CHECKING:
    from onecopy._native import Hold, Member

__all__ = ["Event"]


@own_methods
class Event(Shared, EventBase):
    """A flag that processes set, clear and wait for; as `multiprocessing.Event`.

    ``set()``, ``clear()``, ``is_set()``, ``wait(timeout=None) -> bool``. Whoever waits when the
    flag is set is let go, even if it is cleared again at once. Nobody owns it: no death changes it.

    Raises
    ------
    PoolFull
        There is no room for the event.
    """

    _made_by = "event"

    @unnamed
    def __init__(self) -> None:
        self._attach(None, default_member())

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        EventBase.__init__(self, hold, member, *state)

    def _describe(self) -> str:
        return ", set" if self.is_set() else ", not set"
