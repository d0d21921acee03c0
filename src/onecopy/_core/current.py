"""Access to the default pool, for modules that cannot import the module that makes it.

`onecopy.default` makes the pool. It registers its functions here when the package is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._core.pool_type import AnyPool
    from onecopy._native import Member

__all__ = ["adopt", "default_member", "default_pool", "provide"]

_give: Callable[[], AnyPool]
_adopt: Callable[[Member], None]


def provide(give: Callable[[], AnyPool], adopt: Callable[[Member], None]) -> None:
    """Register the functions that return the default pool, and that adopt one.

    Parameters
    ----------
    give : callable
        Returns the default pool, and makes it on first use.
    adopt : callable
        Makes another process's default pool the default pool of this process. It gets this
        process's membership in that pool. It has no effect if this process has a default pool.
    """
    global _give, _adopt
    _give, _adopt = give, adopt


def default_pool() -> AnyPool:
    """Return the default pool; make it on first use. See `onecopy.default_pool`."""
    return _give()


def default_member() -> Member:
    """Return this process's membership in the default pool; make the pool on first use."""
    return _give().member


def adopt(member: Member) -> None:
    """Use another process's default pool as the default pool, if this process has none."""
    _adopt(member)
