"""Memory that this process can release when a pool is full.

A cache that keeps memory of a pool only to save time registers here. Before an allocation fails,
all registered caches are cleared.
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
    """A cache: its memory is not needed, but saves time."""

    def clear(self) -> bool:
        """Release the memory; return whether there was any. Any thread may call this."""


_caches: WeakSet[Spare] = WeakSet()
_times = 0


def register(cache: Spare) -> None:
    """Register a cache. It is referred to weakly."""
    _caches.add(cache)


def times() -> int:
    """Count the releases so far. If an allocation fails and this has changed, try it again."""
    return _times


def release_spare(full: Member | None = None) -> bool:
    """Release what is not needed. The native core calls this when an allocation fails.

    Parameters
    ----------
    full : Member, optional
        A membership in the pool that is full. Sets of frames in it that no process has open are
        deleted, because they contain no data that anyone can expect to find.

    Returns
    -------
    bool
        Whether something was released.
    """
    global _times  # noqa: PLW0603 - there is one
    dropped = drop_for_ended()
    if full is not None and full.joined and not full.readonly:
        dropped |= full.name_del_unused(Kind.FRAMES, None) != 0
    for cache in list(_caches):
        dropped |= cache.clear()
    _times += dropped
    return dropped
