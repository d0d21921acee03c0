"""How what is received is to be had: by reference, in private pages, or as a copy.

The core sees to what lies in its pools. What an object refers to by a name (memory of mapped files,
of pools that are open for reading only, and of other pools) is found while the object is rebuilt;
those that find it ask here whether it is to be private.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CopyMode", "checked_copy", "is_private", "now", "privately"]

CopyMode: TypeAlias = Literal["on_write"] | bool | None
_T = TypeVar("_T")


class _Now(threading.local):
    private = False


now = _Now()


def is_private() -> bool:
    """Tell whether what is being rebuilt in this thread is to be private, and writable."""
    return now.private


def privately(private: bool, rebuild: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """Call what rebuilds an object, whose memory is to be private or not."""
    before = now.private
    if before == private:
        return rebuild(*args, **kwargs)
    now.private = private
    try:
        return rebuild(*args, **kwargs)
    finally:
        now.private = before


def checked_copy(copy: object) -> CopyMode:
    """Give `copy` if it is one of the values that there are.

    Raises
    ------
    ValueError
        It is none.
    """
    if copy is None or copy is True or copy is False:
        return copy
    if isinstance(copy, str) and copy == "on_write":
        return "on_write"
    raise ValueError(
        f"copy={copy!r}: it is None or False (arrays are read-only, and read where they lie), "
        '"on_write" (writable, private, copied page by page when they are written) or True '
        "(writable, private, copied at once)"
    )
