"""What this process can let go of when a pool is full.

Whoever keeps memory in a pool only to save time later says so here; it is asked for it before an
allocation fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from onecopy._core.keepalive import drop_for_ended
from onecopy._core.kinds import Kind

if TYPE_CHECKING:
    from onecopy._native import Member

__all__ = ["Spare", "register", "release_spare", "times"]


class Spare(Protocol):
    """Somebody who keeps what nobody needs."""

    def clear(self) -> bool:
        """Let go of it, from any thread; tell whether there was any."""


_keepers: WeakSet[Spare] = WeakSet()
_times = 0


def register(keeper: Spare) -> None:
    """Have somebody asked; held weakly."""
    _keepers.add(keeper)


def times() -> int:
    """Tell how often something was let go of: who fails and finds a change may try again."""
    return _times


def release_spare(full: Member | None = None) -> bool:
    """Let go of what nobody needs; the native core calls this when an allocation fails.

    Parameters
    ----------
    full : Member, optional
        Of the pool that is full: sets of frames in it that nobody has are deleted. They are room
        and no data.

    Returns
    -------
    bool
        Whether there was any.
    """
    global _times  # noqa: PLW0603 - there is one
    dropped = drop_for_ended()
    if full is not None and full.joined and not full.readonly:
        dropped |= full.name_del_unused(Kind.FRAMES, None) != 0
    for keeper in list(_keepers):
        dropped |= keeper.clear()
    _times += dropped
    return dropped
