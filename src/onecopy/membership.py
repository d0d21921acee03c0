"""Memberships of this process in pools: joined once, found by handle, left at exit.

A pool's *handle* is what a pickled reference carries: ``(id, path, default)``. `id` are 16 random
bytes, `path` is the pool's file, and `default` says that it is the default pool of the process that
pickled: whoever has no default pool yet takes it for theirs. The handle of a pool that is open for
reading only has ``"r"`` as a fourth item: who gets it opens the pool in the same way.

Importing this module connects the native core with the codecs.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakValueDictionary

from onecopy import _native, codecs
from onecopy.errors import PoolNotFound

if TYPE_CHECKING:
    from onecopy._native import Member

__all__ = ["PoolHandle", "create", "handle_of", "has_joined", "join", "mark_default", "open_file"]

PoolHandle: TypeAlias = "tuple[bytes, str, bool] | tuple[bytes, str, bool, str]"
_ID_BYTES = 16

# The native core answers with the same member for a pool it is already in, but has to open the file
# to know that; this finds it without. Entries go with the last object that uses the member.
_members: WeakValueDictionary[bytes, Member] = WeakValueDictionary()
_defaults: set[bytes] = set()


def create(
    directory: str,
    filename: str,
    *,
    capacity: int,
    max_processes: int,
    mode: int,
    persistent: bool,
    memfd: bool,
    prefault: bool,
) -> Member:
    """Make a pool and join it.

    Parameters
    ----------
    directory, filename : str
        Of the file to make.
    capacity : int
        Bytes for data.
    max_processes : int
        How many may be members at a time.
    mode : int
        Permissions of the file.
    persistent : bool
        Whether it stays when the last process leaves.
    memfd : bool
        Whether the memory is anonymous, and the file only says where to find it.
    prefault : bool
        Whether to have all memory touched now.

    Returns
    -------
    Member
        This process's membership.

    Raises
    ------
    PoolExists, PoolFull, PermissionError, OSError
        From the core.
    """
    member = _native.Member.create(
        directory, filename, capacity, max_processes, mode, persistent, memfd, prefault
    )
    return _remember(member)


def open_file(directory: str, filename: str, *, readonly: bool = False) -> Member:
    """Join a pool by its file.

    Parameters
    ----------
    directory, filename : str
        Of the file.
    readonly : bool
        Whether to open it for reading only: it then has no members, and this is none of them. The
        cleaning up after its last writers happens in private memory.

    Returns
    -------
    Member
        This process's membership; the same one for the same pool.

    Raises
    ------
    PoolNotFound, PoolVersionError, PoolCorrupted, PermissionError, OSError
        From the core.
    OneCopyError
        It is open for reading, and was to be joined; or the other way round.
    """
    member = _remember(_native.Member.open(directory, filename, readonly))
    member.collect()  # a new member is an occasion to clean up after dead ones
    return member


def join(handle: PoolHandle) -> Member:
    """Join a pool by the handle that a reference carried, or find that we are in it.

    Parameters
    ----------
    handle : PoolHandle
        From `handle_of`, in this or another process.

    Returns
    -------
    Member
        This process's membership.

    Raises
    ------
    PoolNotFound
        The pool is gone; this includes that another one has its name.
    PoolVersionError, PoolCorrupted, PermissionError, OSError
        From the core.
    """
    identity, path, default, readonly = _checked(handle)
    member = _members.get(identity)
    if member is None or not member.joined:
        if not path:
            raise PoolNotFound("the pool's name was removed (unlink), so nobody can join any more")
        try:
            member = open_file(*os.path.split(path), readonly=readonly)
        except ValueError as error:  # no name that a pool could have
            raise PoolNotFound(f"there is no pool at {path:.200}: {error}") from error
        if member.id != identity:
            raise PoolNotFound(
                f"the pool that this reference belongs to is gone; another pool is now at {path}. "
                "A pickled reference keeps nothing alive: its sender must stay until it arrives."
            )
    if default and identity not in _defaults:
        from onecopy import default as default_module

        default_module.adopt(member)
    return member


def _checked(handle: object) -> tuple[bytes, str, bool, bool]:
    """Refuse what is no handle: it came in a pickle, which may have been damaged on its way."""
    match handle:
        case (bytes() as identity, str() as path, bool() as default, *mode) if (
            len(identity) == _ID_BYTES
            and "\0" not in path
            and (not path or path[0] == "/")
            and mode in ([], ["r"])
        ):
            return identity, path, default, bool(mode)
    raise PoolNotFound(f"{handle!r:.200} is no handle of a pool: the pickle it came in is damaged")


def has_joined(directory: str, filename: str) -> bool:
    """Tell whether this process is a member of the pool in that file.

    Parameters
    ----------
    directory, filename : str
        Of the file.

    Returns
    -------
    bool
        From what this process knows, without a look at the file.
    """
    path = f"{directory}/{filename}"
    return any(member.path == path and member.joined for member in list(_members.values()))


def handle_of(member: Member) -> PoolHandle:
    """Give the handle by which any process of this user can join the pool.

    Parameters
    ----------
    member : Member
        A membership of this process.

    Returns
    -------
    PoolHandle
        A small tuple that can be pickled.
    """
    if member.readonly:
        return member.id, member.path, False, "r"
    return member.id, member.path, member.id in _defaults


def mark_default(member: Member) -> None:
    """Let handles say that this pool is the default pool."""
    _defaults.add(member.id)


def _remember(member: Member) -> Member:
    _members[member.id] = member
    _leave_when_children_end()
    return member


# --------------------------------------------------------------------------------- leaving at exit

atexit.register(_native.leave_all)


class _Anchor:
    """What multiprocessing refers to, weakly, for as long as this module lives."""


_anchor = _Anchor()
_hooked = False


def _leave_when_children_end() -> None:
    """Have a child of multiprocessing leave its pools when it ends.

    Such a child ends by `os._exit`, without running `atexit`, but runs multiprocessing's own
    finalizers. They are forgotten when the child begins its work, so they are registered now (for a
    child that is already at work) and after each fork or bootstrap (for those to come).
    multiprocessing is not imported for this: a process that has not loaded it is no child of it.
    """
    global _hooked  # noqa: PLW0603 - once per process, inherited along with the registration
    util = sys.modules.get("multiprocessing.util")
    if util is None or _hooked:
        return
    _hooked = True
    util.register_after_fork(_anchor, _register_finalizer)
    _register_finalizer(_anchor)


def _register_finalizer(_: _Anchor) -> None:
    util = sys.modules["multiprocessing.util"]
    # After all others (they may still use a pool): those with a higher priority run first.
    util.Finalize(None, _leave_after_threads, exitpriority=-100)


def _leave_after_threads() -> None:
    """Leave every pool once the threads that are no daemons have ended.

    multiprocessing runs its finalizers first and waits for these threads then; they may be at work
    in a pool until they end, as they may in a process that runs `atexit`.
    """
    threading = sys.modules.get("threading")
    if threading is not None:
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.current_thread():
                thread.join()
    _native.leave_all()


os.register_at_fork(after_in_child=_leave_when_children_end)

_native.set_hooks(codecs.encode, codecs.decode, handle_of)
