"""The places of pools: one directory per user, one file per pool.

All users can write to the parent of the pool directory (/dev/shm, /tmp). So another user may have
made a directory of that name first. The native core opens the pool directory, and refuses it unless
only this user can change it. All files in it are reached through that descriptor (`opened`).

A pool's *name* has up to 100 letters, digits, dots, hyphens and underscores, and leads to a file in
the pool directory. A name with a slash in it is a path. A pool in a file elsewhere may have a name
too: then the file in the pool directory is a *signpost*, a line of text with the path of the pool.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from onecopy import _native
from onecopy._core.newfile import NewFile

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "SUFFIX",
    "forget_path",
    "give_name",
    "has_dev_shm",
    "is_pool_directory",
    "locate",
    "opened",
    "place",
    "pool_directory",
    "pool_name",
    "signpost",
]

SUFFIX = ".pool"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_SIGNPOST = b"onecopy-path 1 "
_LONGEST = 8192  # bytes of a signpost


def pool_directory() -> str:
    """Return the directory in which this process makes and looks for pools.

    Returns
    -------
    str
        An absolute path: ``ONECOPY_DIR`` if that is set, else ``/dev/shm/onecopy-UID``, else (if
        /dev/shm is missing or not writable) ``/tmp/onecopy-UID``. The directory may not exist yet.

    Notes
    -----
    Processes find each other's pools by name only if they use the same directory. References
    contain the complete path.
    """
    chosen = os.environ.get("ONECOPY_DIR")
    if chosen:
        return os.path.abspath(chosen)  # noqa: PTH100 - pathlib is not loaded for this
    return f"{'/dev/shm' if has_dev_shm() else '/tmp'}/onecopy-{os.getuid()}"  # noqa: S108 - made with mode 0700, and checked


def is_pool_directory(directory: str) -> bool:
    """Return whether this user's pools are looked up by name in a directory.

    Parameters
    ----------
    directory : str
        An absolute path.

    Returns
    -------
    bool
        Such a directory must belong to this user, and no other user may write to it. Another
        process of this user may use another one, because only one of the two has a /dev/shm.
    """
    user = os.getuid()
    return directory in {
        pool_directory(),
        f"/dev/shm/onecopy-{user}",  # noqa: S108 - as above
        f"/tmp/onecopy-{user}",  # noqa: S108 - as above
    }


@contextlib.contextmanager
def opened(directory: str, *, by_path: bool = False) -> Iterator[int]:
    """Open a directory with pools in it.

    Parameters
    ----------
    directory : str
        An absolute path.
    by_path : bool
        Whether the user has chosen it by a path. Then it need not be as safe as a pool directory.

    Yields
    ------
    int
        Its descriptor.

    Raises
    ------
    PermissionError
        It is not a directory, it is a link, it belongs to another user, or other users may write
        to it.
    FileNotFoundError, OSError
        It does not exist, or cannot be opened.
    """
    if by_path:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    else:
        fd = _native.open_pool_directory(directory, False)
    try:
        yield fd
    finally:
        os.close(fd)


def has_dev_shm() -> bool:
    """Return whether this process may make files in /dev/shm."""
    return os.access("/dev/shm", os.W_OK | os.X_OK)  # noqa: S108 - as above


def locate(name: str | os.PathLike[str]) -> tuple[str, str]:
    """Find the file to which a name leads.

    Parameters
    ----------
    name : str or path-like
        A pool's name, or a path.

    Returns
    -------
    directory, filename : str
        The place of the file, which may not exist. The directory is absolute for a path. For a
        name that was given to a pool elsewhere (`give_name`), the place of that pool's file.

    Raises
    ------
    ValueError
        The name is empty, too long, or has characters that a name cannot have.
    TypeError
        It is not a string.
    PermissionError
        Another user can change the pool directory.
    """
    directory, filename = place(name)
    target = signpost(name)
    return (directory, filename) if target is None else os.path.split(target)


def place(name: str | os.PathLike[str]) -> tuple[str, str]:
    """Find the place of a name's file, whatever is there; otherwise as `locate`."""
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
        if os.path.islink(directory) and not is_pool_directory(directory):  # noqa: PTH114 - as above
            # The core follows no link to a directory: another user could replace the directory.
            directory = os.path.realpath(directory)
        return directory, filename
    if _NAME.fullmatch(name) is None or name in {".", ".."}:
        raise ValueError(
            f"{name!r} cannot name a pool: a name has 1 to 100 letters, digits, dots, hyphens or "
            "underscores; a path has a slash in it"
        )
    return pool_directory(), name + SUFFIX


def pool_name(path: str) -> str:
    """Return the name by which a pool is opened, from its file.

    Parameters
    ----------
    path : str
        The pool's file; empty if it has none.

    Returns
    -------
    str
        An argument for `locate`: the short name of a file in the pool directory, else the path.
    """
    directory, filename = os.path.split(path)
    stem = filename.removesuffix(SUFFIX)
    if stem != filename and directory == pool_directory():
        return stem
    return path


# ----------------------------------------------------------------------- names of pools elsewhere


def signpost(name: str | os.PathLike[str]) -> str | None:
    """Read the path of the pool to which a name was given.

    Parameters
    ----------
    name : str or path-like
        As for `locate`.

    Returns
    -------
    str or None
        An absolute path; None for a path, and for a name that is free or leads to a pool in the
        pool directory. Only a file of this user that no other user may write to is used.

    Raises
    ------
    PermissionError
        Another user can change the pool directory.
    """
    if not isinstance(name, str) or "/" in name:
        return None
    directory, filename = place(name)
    try:
        with opened(directory) as folder:
            return signpost_at(folder, filename)
    except FileNotFoundError:
        return None


def give_name(name: str, path: str) -> bool:
    """Give a name to a pool that is outside of the pool directory.

    Parameters
    ----------
    name : str
        Without a slash. A signpost to a file that does not exist is replaced.
    path : str
        The absolute path of the pool's file.

    Returns
    -------
    bool
        False: the name leads to another file. If several processes give the same name, one of them
        gets it: the pool directory is locked during this call.

    Raises
    ------
    OSError
        The pool directory is not writable, or another process keeps it locked.
    """
    directory, filename = place(name)
    with _native.DirectoryLock(directory) as folder:
        known = signpost_at(folder, filename)
        if known == path:
            return True
        if known is not None and not os.path.lexists(known):
            os.unlink(filename, dir_fd=folder)
        with NewFile(filename, 0o600, hidden=True, folder=folder) as file:
            try:
                os.write(file.fd, _SIGNPOST + os.fsencode(path) + b"\n")
                file.link()
            except FileExistsError:
                return False
            finally:
                os.close(file.fd)
    return True


def forget_path(path: str) -> None:
    """Remove the names that were given to the pool in a file.

    Parameters
    ----------
    path : str
        The absolute path of the pool's file.
    """
    try:
        with _native.DirectoryLock(pool_directory()) as folder:
            for name in os.listdir(folder):  # noqa: PTH208 - pathlib is not loaded for this
                if name.endswith(SUFFIX) and signpost_at(folder, name) == path:
                    os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return


def signpost_at(folder: int, name: str) -> str | None:
    """Read a file in the pool directory; None: it is not a safe signpost."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        fd = os.open(name, flags, dir_fd=folder)
    except OSError:
        return None
    try:
        text = os.read(fd, _LONGEST)
        if not text.startswith(_SIGNPOST) or not text.endswith(b"\n"):
            return None
        there = os.fstat(fd)
        if there.st_uid != os.geteuid() or there.st_mode & 0o022:
            return None
        target = os.fsdecode(text[len(_SIGNPOST) : -1])
        return target if target.startswith("/") and "\0" not in target else None
    except OSError:
        return None
    finally:
        os.close(fd)
