"""Memberships of this process in pools: it joins once, finds a pool by handle, leaves at exit.

A pickled reference carries the pool's *handle*: ``(id, path, default, device, inode)``. `id` are 16
random bytes. `path` is the pool's file. `default` says that the pool is the default pool of the
process that pickled: a receiver without a default pool adopts it. The handle of a pool that is open
for reading only has ``"r"`` as a sixth item: the receiver opens the pool for reading only, too.

A copied file has the id of the original. So the `Key` of a membership is the id *and* the device
and inode of the file, and a handle has both. A renamed file is the same pool, and a copy is a
different one. Device and inode are 0 for a memfd: its file is rewritten when processes join and
leave. The file only leads to the memory, so a copy of the file is not a copy of the pool.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import ref

from onecopy import _native
from onecopy._core import leaving, paths
from onecopy._core.current import adopt
from onecopy._core.weak_tables import remove_if
from onecopy.errors import PoolNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._native import Member

__all__ = [
    "Key",
    "PoolHandle",
    "create",
    "current",
    "handle_of",
    "is_linked",
    "join",
    "key_of",
    "mark_default",
    "open_file",
    "others",
    "readers",
]

PoolHandle: TypeAlias = "tuple[bytes, str, bool, int, int] | tuple[bytes, str, bool, int, int, str]"
Key: TypeAlias = "tuple[bytes, int, int]"  # id, device, inode
_ID_BYTES = 16


class _Known(ref["Member"]):
    """A weak reference to a membership, with the key of its pool.

    It is the only one with a callback that this package makes to a membership. If an object that
    has several is destroyed while the process has no memory, CPython 3.11 does not clear them: each
    then has a pointer to freed memory.
    """

    __slots__ = ("at", "key")

    at: int  # the id of the membership, which `_gone` cannot ask for any more
    key: Key


# If this process is already a member of a pool, the native core returns the same member. But the
# core has to open the file to know that. `_members` finds the member without opening the file.
# `_known` has the same references by the id of the member. An entry is removed with the last object
# that uses the member. There is no lock: each step is atomic in the interpreter.
_members: dict[Key, _Known] = {}
_known: dict[int, _Known] = {}
_defaults: set[Key] = set()


def _gone(
    known: _Known,
    # When the interpreter ends, the names of a module are removed before this is called last.
    members: dict[Key, _Known] = _members,
    by_id: dict[int, _Known] = _known,
    remove: Callable[[Any, Any, Any], None] = remove_if,
) -> None:
    remove(by_id, known.at, known)
    remove(members, known.key, known)


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
        The file to make.
    capacity : int
        Bytes for data.
    max_processes : int
        How many processes may be members at the same time.
    mode : int
        Permissions of the file.
    persistent : bool
        Whether the pool stays when the last process leaves.
    memfd : bool
        Whether the memory is anonymous. The file then only says where to find it.
    prefault : bool
        Whether to touch all memory now.

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
        directory,
        filename,
        not paths.is_pool_directory(directory),
        capacity,
        max_processes,
        mode,
        persistent,
        memfd,
        prefault,
    )
    return _remember(member)


def open_file(
    directory: str, filename: str, *, readonly: bool = False, only_looks: bool = False
) -> Member:
    """Join a pool by its file.

    Every operation that joins a pool calls this. The core refuses a pool directory that other users
    can change. If the user gave a path, the core checks the file, not its directory.

    Parameters
    ----------
    directory, filename : str
        The file of the pool.
    readonly : bool
        Whether to open it for reading only. Such a pool has no members, and this process does not
        become one. Cleaning up after its last writers happens in private memory.
    only_looks : bool
        Whether to leave unchanged what dead processes held.

    Returns
    -------
    Member
        This process's membership; always the same object for the same pool.

    Raises
    ------
    PoolNotFound, PoolVersionError, PoolCorrupted, PermissionError, OSError
        From the core.
    OneCopyError
        It is open for reading and was to be joined, or the other way round.
    """
    by_path = not paths.is_pool_directory(directory)
    member = _remember(_native.Member.open(directory, filename, by_path, readonly, only_looks))
    if not only_looks:
        member.collect()  # each new member cleans up after dead members
    return member


def join(handle: PoolHandle) -> Member:
    """Join a pool by the handle from a reference, or return the existing membership.

    Parameters
    ----------
    handle : PoolHandle
        The result of `handle_of` in this or another process.

    Returns
    -------
    Member
        This process's membership.

    Raises
    ------
    PoolNotFound
        The pool is gone. This includes that its path now leads to another pool, or to a copy of it.
    PoolVersionError, PoolCorrupted, PermissionError, OSError
        From the core.
    """
    identity, path, default, readonly, device, inode = _checked(handle)
    member = _find(identity, device, inode)
    if member is None:
        if not path:
            raise PoolNotFound(
                "the pool's name was removed (unlink): no process can join it any more"
            )
        try:
            member = open_file(*os.path.split(path), readonly=readonly)
        except ValueError as error:  # a pool cannot have this name
            raise PoolNotFound(f"there is no pool at {path:.200}: {error}") from error
        if member.id != identity:
            raise PoolNotFound(
                f"the pool of this reference is gone; another pool is now at {path}. "
                "A pickled reference keeps nothing alive: its sender must stay until it arrives."
            )
        # The device is not compared, because its number may change when the machine restarts.
        found = key_of(member)[2]
        if inode and found and found != inode:
            raise PoolNotFound(
                f"the pool of this reference has lost its name: at {path} there is now a copy "
                "of it (another file with the same id), which is a different pool. Open the copy "
                "by its path, and send references from there."
            )
    if default and key_of(member) not in _defaults:
        adopt(member)
    return member


def _find(identity: bytes, device: int, inode: int) -> Member | None:
    """Find the membership in a pool by its id and its file."""
    if inode:
        named = _members.get((identity, device, inode))
        member = None if named is None else named()
        if member is not None and member.joined:
            return member
    known = [member for member in current() if member.id == identity]
    if inode:
        known = [member for member in known if key_of(member)[1:] == (device, inode)]
    return known[0] if len(known) == 1 else None  # several: copies, and unclear which


def _checked(handle: object) -> tuple[bytes, str, bool, bool, int, int]:
    """Check a handle. It came from a pickle, which may be damaged."""
    match handle:
        case (
            bytes() as identity,
            str() as path,
            bool() as default,
            int() as device,
            int() as inode,
            *mode,
        ) if (
            len(identity) == _ID_BYTES
            and "\0" not in path
            and (not path or path[0] == "/")
            and mode in ([], ["r"])
        ):
            return identity, path, default, bool(mode), device, inode
    raise PoolNotFound(f"{handle!r:.200} is not a handle of a pool: its pickle is damaged")


def current() -> list[Member]:
    """List this process's memberships. The list keeps them alive."""
    return [member for member in _native.members() if member.joined]


def readers() -> list[Member]:
    """List this process's memberships in pools that are open for reading only."""
    return [member for member in current() if member.readonly]


def others(member: Member) -> list[Member]:
    """List this process's memberships, except one, in pools that others can find by their name."""
    return [each for each in current() if each is not member and is_linked(each)]


def is_linked(member: Member) -> bool:
    """Tell whether a pool still has its name, so that other processes can join it."""
    _, device, inode = key_of(member)
    try:
        status = os.stat(member.path)  # noqa: PTH116 - for every large argument of a call
    except OSError:
        return False
    return not inode or (status.st_dev, status.st_ino) == (device, inode)


def handle_of(member: Member) -> PoolHandle:
    """Return the handle by which any process of this user can join the pool.

    Parameters
    ----------
    member : Member
        A membership of this process.

    Returns
    -------
    PoolHandle
        A small tuple that can be pickled.
    """
    key = key_of(member)
    identity, device, inode = key
    if member.readonly:
        return identity, member.path, False, device, inode, "r"
    return identity, member.path, key in _defaults, device, inode


def key_of(member: Member) -> Key:
    """Return the key of a membership's pool: its id, and its file's device and inode.

    Parameters
    ----------
    member : Member
        A membership of this process.

    Returns
    -------
    Key
        Equal for the same pool only, and different for a copy of its file.
    """
    return _reference_to(member).key


def _reference_to(member: Member) -> _Known:
    at = id(member)
    known = _known.get(at)
    if known is not None:
        if known() is member:
            return known
        _gone(known)  # its callback failed: there was no memory
    known = _Known(member, _gone)
    known.at = at
    known.key = (member.id, *_file_of(member))
    # Another thread or a signal handler may have been faster. All use the first one.
    return _known.setdefault(at, known)


def _file_of(member: Member) -> tuple[int, int]:
    return (0, 0) if member.memfd else member.file


def mark_default(member: Member) -> None:
    """Mark a pool as the default pool in all its later handles."""
    _defaults.add(key_of(member))


def _remember(member: Member) -> Member:
    known = _reference_to(member)
    _members[known.key] = known
    leaving.arrange()
    return member
