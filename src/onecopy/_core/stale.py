"""Stale pools, and the pool directory."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias

from onecopy import _native
from onecopy._core import paths

__all__ = ["State", "prepare", "state_of", "sweep"]

_HIDDEN = _native.POOL_HIDDEN_PREFIX  # unfinished files, on file systems where they need a name

State: TypeAlias = Literal["in_use", "removed", "stale", "persistent", "not_a_pool", "failed"]


def prepare(directory: str) -> None:
    """Make the pool directory, check that it is safe, and remove what is stale.

    Parameters
    ----------
    directory : str
        Made with mode 0700 if it does not exist.

    Raises
    ------
    PermissionError
        It is a link, or belongs to another user, or other users may write in it.
    OSError
        It cannot be made.
    """
    os.close(_native.open_pool_directory(directory, True))
    sweep(directory, remove=True)
    from onecopy._core import segments  # here, so that `import onecopy` does not load it

    segments.sweep_now_and_then()


def sweep(directory: str, *, remove: bool) -> list[tuple[str, State]]:
    """Find out which pools of a directory are in use.

    Parameters
    ----------
    directory : str
        May be missing.
    remove : bool
        Whether to remove pools that are neither in use nor persistent, and unfinished files of dead
        processes. Otherwise nothing is changed.

    Returns
    -------
    list of (str, str)
        File names, sorted, and their states: "in_use", "removed", "stale" (instead of "removed",
        without `remove`), "persistent" (not in use, and kept), "not_a_pool", or "failed" (the file
        could not be read).

    Raises
    ------
    PermissionError
        Other users can change the directory; and it is this user's pool directory, or `remove` is
        true.
    """
    by_path = not remove and not paths.is_pool_directory(directory)
    try:
        with paths.opened(directory, by_path=by_path) as folder:
            filenames = sorted(filter(_may_be_ours, os.listdir(folder)))  # noqa: PTH208 - pathlib is not loaded for this
    except FileNotFoundError:
        return []
    states: list[tuple[str, State]] = []
    for name in filenames:
        state = _native.sweep_pool(directory, name, by_path, remove)
        if state == "locked":  # for a long time, so do not wait again for each name
            break
        states.append((name, state))
    return states + [(name, "failed") for name in filenames[len(states) :]]


def _may_be_ours(filename: str) -> bool:
    return filename.endswith(paths.SUFFIX) or filename.startswith(_HIDDEN)


def state_of(path: str) -> State:
    """Return the state of a pool as `sweep` does, without changing it.

    Parameters
    ----------
    path : str
        The pool's file.
    """
    directory, filename = os.path.split(path)
    by_path = not paths.is_pool_directory(directory)
    state = _native.sweep_pool(directory, filename, by_path, False)
    return "failed" if state == "locked" else state
