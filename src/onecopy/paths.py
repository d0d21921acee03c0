"""Where pools lie: one directory per user, one file per pool.

A pool's *name* is up to 100 letters, digits, dots, hyphens and underscores and stands for a file in
the pool directory; a name with a slash in it is a path and stands for itself.
"""

from __future__ import annotations

import os
import re

__all__ = ["SUFFIX", "has_dev_shm", "locate", "pool_directory", "pool_name"]

SUFFIX = ".pool"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def pool_directory() -> str:
    """Give the directory in which this process makes and looks for pools.

    Returns
    -------
    str
        An absolute path: ``ONECOPY_DIR`` if that is set, else ``/dev/shm/onecopy-UID``, else (where
        /dev/shm is missing or may not be written) ``/tmp/onecopy-UID``. It need not exist yet.

    Notes
    -----
    Processes meet by name only if they look in the same directory. References carry the whole path.
    """
    chosen = os.environ.get("ONECOPY_DIR")
    if chosen:
        return os.path.abspath(chosen)  # noqa: PTH100 - pathlib is not loaded for this
    return f"{'/dev/shm' if has_dev_shm() else '/tmp'}/onecopy-{os.getuid()}"  # noqa: S108 - made with mode 0700, and checked


def has_dev_shm() -> bool:
    """Tell whether this process may make files in /dev/shm."""
    return os.access("/dev/shm", os.W_OK | os.X_OK)  # noqa: S108 - as above


def locate(name: str | os.PathLike[str]) -> tuple[str, str]:
    """Find the file that a name stands for.

    Parameters
    ----------
    name : str or path-like
        A pool's name, or a path.

    Returns
    -------
    directory, filename : str
        Of a file that need not exist. The directory is absolute for a path.

    Raises
    ------
    ValueError
        The name is empty, too long, or has characters that do not belong in one.
    TypeError
        It is no string.
    """
    if not isinstance(name, str):
        if not isinstance(name, os.PathLike):
            raise TypeError(f"a pool's name is a string, not {type(name).__name__} {name!r}")
        name = os.fspath(name)
        if "/" not in name:
            name = f"./{name}"
    if "/" in name:
        directory, filename = os.path.split(os.path.abspath(name))  # noqa: PTH100 - pathlib is not loaded for this
        if not filename or name.endswith("/") or "\0" in name:
            raise ValueError(f"{name!r} is a directory, not the file of a pool")
        return directory, filename
    if _NAME.fullmatch(name) is None or name in {".", ".."}:
        raise ValueError(
            f"{name!r} cannot name a pool: a name has 1 to 100 letters, digits, dots, hyphens or "
            "underscores; a path has a slash in it"
        )
    return pool_directory(), name + SUFFIX


def pool_name(path: str) -> str:
    """Give the name by which a pool is opened, from its file.

    Parameters
    ----------
    path : str
        The pool's file; empty if it has none.

    Returns
    -------
    str
        What `locate` takes: the short name of a file in the pool directory, else the path.
    """
    directory, filename = os.path.split(path)
    stem = filename.removesuffix(SUFFIX)
    if stem != filename and directory == pool_directory():
        return stem
    return path
