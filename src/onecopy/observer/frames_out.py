"""Which frames of a set are out, for a member that reads one of them."""

from __future__ import annotations

import os
from typing import NamedTuple

from onecopy import _native
from onecopy._core import paths

__all__ = ["FrameOut", "frames_out"]


class FrameOut(NamedTuple):
    """A frame that is not free.

    Attributes
    ----------
    handle : int
        Its number in the pool, under which a member can read it. It is another one when the frame
        was free and is acquired again.
    pids : tuple of int
        The processes that hold it. Empty: only a message, an item or a name refers to it. Then its
        holder has sent it, so nobody writes to it.
    """

    handle: int
    pids: tuple[int, ...]


def frames_out(path: str, frames: int) -> list[FrameOut]:
    """Look for the frames of a set that are out. Nothing is held or changed.

    Parameters
    ----------
    path : str
        The pool's file.
    frames : int
        The handle of the set.

    Returns
    -------
    list of FrameOut
        Of a set of more than 1,024 frames, the first 1,024 count.

    Raises
    ------
    OneCopyError, OSError
        As from `Observer.snapshot`.
    """
    directory, filename = os.path.split(path)
    seen = _native.observe_pool(directory, filename, not paths.is_pool_directory(directory))
    pids = {process["slot"]: process["pid"] for process in seen["processes"]}
    found: dict[int, list[int]] = {}
    for thing in seen["things"]:
        if _handle(thing["generation"], thing["index"]) != frames:
            continue
        for role, slot, _passed, block, generation in thing["parts"]:
            if role == "frame":
                holders = found.setdefault(_handle(generation, block), [])
                if slot is not None:
                    holders.append(pids.get(slot, 0))
    return [FrameOut(handle, tuple(holders)) for handle, holders in found.items()]


def _handle(generation: int, block: int) -> int:
    return generation << 32 | block  # as `make_handle` in native/layout/layout.hpp
