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

__all__ = ["CopyMode", "is_private", "privately", "this_thread"]

CopyMode: TypeAlias = Literal["on_write"] | bool | None
_T = TypeVar("_T")


class _ThisThread(threading.local):
    private = False  # whether what is being rebuilt is to be private


this_thread = _ThisThread()


def is_private() -> bool:
    """Tell whether what is being rebuilt in this thread is to be private, and writable."""
    return this_thread.private


def privately(private: bool, rebuild: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """Call what rebuilds an object, whose memory is to be private or not."""
    before = this_thread.private
    if before == private:
        return rebuild(*args, **kwargs)
    this_thread.private = private
    try:
        return rebuild(*args, **kwargs)
    finally:
        this_thread.private = before
