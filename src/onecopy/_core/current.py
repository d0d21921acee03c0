"""The default pool of this process, for those that need one and do not know how one is made.

`onecopy.default` makes it, and says so here when the package is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._native import Member
    from onecopy.pool import Pool

__all__ = ["adopt", "default_member", "default_pool", "provide"]

_give: Callable[[], Pool]
_adopt: Callable[[Member], None]


def provide(give: Callable[[], Pool], adopt: Callable[[Member], None]) -> None:
    """Say which functions give the default pool, and take another process's for it.

    Parameters
    ----------
    give : callable
        Gives the default pool, and makes it on first use.
    adopt : callable
        Takes a membership in another process's default pool. Without effect if this process has a
        default pool.
    """
    global _give, _adopt
    _give, _adopt = give, adopt


def default_pool() -> Pool:
    """Give the default pool; make it on first use. See `onecopy.default_pool`."""
    return _give()


def default_member() -> Member:
    """Give this process's membership in the default pool; make the pool on first use."""
    return _give().member


def adopt(member: Member) -> None:
    """Take another process's default pool for this one's, if this one has none."""
    _adopt(member)
