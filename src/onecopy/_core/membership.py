"""Memberships of this process in pools: joined once, found by handle, left at exit.

A pool's *handle* is what a pickled reference carries: ``(id, path, default, device, inode)``. `id`
are 16 random bytes, `path` is the pool's file, and `default` says that it is the default pool of
the process that pickled: whoever has no default pool yet takes it for theirs. The handle of a pool
that is open for reading only has ``"r"`` as a sixth item: who gets it opens the pool in the same
way.

A file that was copied has the id of the original. So a membership is known by its id *and* its
file's device and inode (its `Key`), and a handle has both: a file that was renamed is the same
pool, and a copy is another one. Device and inode are 0 where the file says nothing: that of a memfd
is written anew as processes come and go, and only leads to the memory, which cannot be copied so.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary, WeakValueDictionary

from onecopy import _native
from onecopy._core import leaving, paths
from onecopy._core.current import adopt
from onecopy.errors import PoolNotFound

if TYPE_CHECKING:
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

# The native core answers with the same member for a pool it is already in, but has to open the file
# to know that; this finds it without. Entries go with the last object that uses the member.
_members: WeakValueDictionary[Key, Member] = WeakValueDictionary()
_keys: WeakKeyDictionary[Member, Key] = WeakKeyDictionary()
_defaults: set[Key] = set()


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

    Every way into a pool ends here. The core refuses a pool directory that others can change; in a
    directory that the user has chosen by a path, it is the file that counts.

    Parameters
    ----------
    directory, filename : str
        Of the file.
    readonly : bool
        Whether to open it for reading only: it then has no members, and this is none of them. The
        cleaning up after its last writers happens in private memory.
    only_looks : bool
        Whether what dead processes left is to stay as it is.

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
    by_path = not paths.is_pool_directory(directory)
    member = _remember(_native.Member.open(directory, filename, by_path, readonly, only_looks))
    if not only_looks:
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
        The pool is gone; this includes that another one, or a copy of it, has its name.
    PoolVersionError, PoolCorrupted, PermissionError, OSError
        From the core.
    """
    identity, path, default, readonly, device, inode = _checked(handle)
    member = _find(identity, device, inode)
    if member is None:
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
        # Not the device: its number may be another one when the machine has been started anew.
        found = key_of(member)[2]
        if inode and found and found != inode:
            raise PoolNotFound(
                f"the pool that this reference belongs to has lost its name: at {path} is a copy "
                "of it now (another file with the same id), which is a pool of its own. Open it "
                "by its path, and send references from there."
            )
    if default and key_of(member) not in _defaults:
        adopt(member)
    return member


def _find(identity: bytes, device: int, inode: int) -> Member | None:
    """Find the membership in a pool by its id and its file."""
    if inode:
        member = _members.get((identity, device, inode))
        if member is not None and member.joined:
            return member
    known = [member for member in current() if member.id == identity]
    if inode:
        known = [member for member in known if key_of(member)[1:] == (device, inode)]
    return known[0] if len(known) == 1 else None  # several: copies, and nothing says which


def _checked(handle: object) -> tuple[bytes, str, bool, bool, int, int]:
    """Refuse what is no handle: it came in a pickle, which may have been damaged on its way."""
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
    raise PoolNotFound(f"{handle!r:.200} is no handle of a pool: the pickle it came in is damaged")


def current() -> list[Member]:
    """List this process's memberships. Who keeps the list keeps them."""
    return [member for member in _native.members() if member.joined]


def readers() -> list[Member]:
    """List this process's memberships in pools that are open for reading only."""
    return [member for member in current() if member.readonly]


def others(member: Member) -> list[Member]:
    """List this process's memberships in pools that others can find by their name, but for one."""
    return [each for each in current() if each is not member and is_linked(each)]


def is_linked(member: Member) -> bool:
    """Tell whether a pool still has its name, so that others can join it."""
    _, device, inode = key_of(member)
    try:
        status = os.stat(member.path)  # noqa: PTH116 - for every large argument of a call
    except OSError:
        return False
    return not inode or (status.st_dev, status.st_ino) == (device, inode)


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
    key = key_of(member)
    identity, device, inode = key
    if member.readonly:
        return identity, member.path, False, device, inode, "r"
    return identity, member.path, key in _defaults, device, inode


def key_of(member: Member) -> Key:
    """Tell which pool a membership is in: its id, and its file's device and inode.

    Parameters
    ----------
    member : Member
        A membership of this process.

    Returns
    -------
    Key
        Equal for the same pool, and for no other; not for a copy of its file either.
    """
    key = _keys.get(member)
    if key is None:
        key = _keys[member] = (member.id, *_file_of(member))
    return key


def _file_of(member: Member) -> tuple[int, int]:
    return (0, 0) if member.memfd else member.file


def mark_default(member: Member) -> None:
    """Let handles say that this pool is the default pool."""
    _defaults.add(key_of(member))


def _remember(member: Member) -> Member:
    _members[key_of(member)] = member
    leaving.arrange()
    return member
