"""Pools whose processes have all died, and the directory they lie in."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias

from onecopy import _native
from onecopy.paths import SUFFIX

__all__ = ["State", "prepare", "state_of", "sweep"]

State: TypeAlias = Literal["in_use", "removed", "orphan", "persistent", "not_a_pool", "failed"]


def prepare(directory: str) -> None:
    """Make the pool directory, check that it is safe, and remove what nobody uses any more.

    Parameters
    ----------
    directory : str
        Made with mode 0700 if it is not there.

    Raises
    ------
    PermissionError
        It is a link, belongs to another user, or others may write in it.
    OSError
        It cannot be made.
    """
    _native.check_directory(directory, True)
    sweep(directory, remove=True)
    from onecopy import segments

    segments.sweep_now_and_then()


def sweep(directory: str, *, remove: bool) -> list[tuple[str, State]]:
    """Find out which pools of a directory are in use.

    Parameters
    ----------
    directory : str
        May be missing.
    remove : bool
        Whether to remove those that are not in use and not persistent.

    Returns
    -------
    list of (str, str)
        File names, sorted, and what became of them: "in_use", "removed", "orphan" (in place of
        "removed", without `remove`), "persistent" (not in use, and to be kept), "not_a_pool", or
        "failed" (it could not be looked at).
    """
    try:
        with os.scandir(directory) as entries:
            filenames = sorted(entry.name for entry in entries if entry.name.endswith(SUFFIX))
    except FileNotFoundError:
        return []
    states: list[tuple[str, State]] = []
    for name in filenames:
        state = _native.sweep_pool(directory, name, remove)
        if state == "locked":  # for long, so nobody waits for each name
            break
        states.append((name, state))
    return states + [(name, "failed") for name in filenames[len(states) :]]


def state_of(path: str) -> State:
    """Find out whether a pool is in use, as `sweep` does, and leave it alone.

    Parameters
    ----------
    path : str
        Its file.
    """
    directory, filename = os.path.split(path)
    state = _native.sweep_pool(directory, filename, False)
    return "failed" if state == "locked" else state
