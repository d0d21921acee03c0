"""Mapped files: one mapping per file and process, a registry of their memory, and handles.

A *handle* is sent instead of mapped memory. It consists of the file's real path, its identity
(device, inode, time of birth), and whether the receiver may write. The receiver opens the file with
its own permissions, compares the identity, and maps the file once.

The registry answers one question: does this memory lie in a mapped file? It knows addresses, so the
object over the memory can be anything: an array, an Arrow buffer, a column of a data frame. An
entry is removed when its mapping is deleted.
"""

from __future__ import annotations

import mmap
import os
import stat
import threading
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from weakref import ref

import numpy as np

from onecopy import _native
from onecopy._core.weak_tables import remove_if
from onecopy.errors import StaleRef
from onecopy.files.errors import bad_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

__all__ = [
    "FileHandle",
    "Identity",
    "Mapping",
    "Span",
    "connect_when_mapped",
    "find",
    "map_file",
    "open_file",
    "resolve",
]


class Identity(NamedTuple):
    """The identity of a file, independent of its name.

    Attributes
    ----------
    device, inode : int
        As from `os.stat`.
    born : int
        Time of birth in nanoseconds, or 0 if the file system does not record it. The number of an
        inode is used again when its file is gone and no process has it open. The time of birth is
        not.
    """

    device: int
    inode: int
    born: int

    @classmethod
    def of(cls, fd: int, there: os.stat_result) -> Self:
        """Return the identity of an open file."""
        return cls(there.st_dev, there.st_ino, _native.birth_ns(fd))


FileHandle: TypeAlias = "tuple[str, Identity, bool]"  # real path, identity, may be written


class Mapping(mmap.mmap):
    """A file in this process's memory, from its first byte to its end when it was mapped.

    Attributes
    ----------
    path : str
        The file's real path when it was mapped.
    identity : Identity
        Of the file.
    mode : {"r", "r+", "w+", "c"}
        As for `numpy.memmap`.
    address : int
        The address of its first byte.
    """

    path: str
    identity: Identity
    mode: str
    address: int

    @property
    def writable(self) -> bool:
        """Whether writes go to the file."""
        return self.mode in {"r+", "w+"}


class Span(NamedTuple):
    """A part of a file.

    Attributes
    ----------
    handle : FileHandle
        Of the file.
    offset, nbytes : int
        The place of the part, from the first byte of the file.
    """

    handle: FileHandle
    offset: int
    nbytes: int


# ----------------------------------------------------------------------------- opening and mapping

# The mappings that threads share, by file and by whether they can be written. `_gone` removes them.
_shared: dict[tuple[Identity, bool], ref[Mapping]] = {}
# Held while a file is mapped, so that two threads do not map it twice. It is recursive, because a
# signal handler in this thread may map the same file meanwhile.
_lock = threading.RLock()


def _forked() -> None:
    # Another thread may have owned the lock at the fork.
    global _lock  # noqa: PLW0603 - the lock belongs to the process
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forked)


def open_file(
    path: str | os.PathLike[str], writable: bool, *, follow: bool = True
) -> tuple[int, os.stat_result]:
    """Open a regular file.

    Parameters
    ----------
    path : str or path-like
        Of the file.
    writable : bool
        Whether to open it for writing, too.
    follow : bool
        Whether its last component may be a symbolic link.

    Returns
    -------
    fd : int
        The caller must close it.
    there : os.stat_result
        Of the file.

    Raises
    ------
    OSError
        It does not exist, or this process may not open it.
    BadFile
        It is a directory, a FIFO, a device or a socket.
    """
    # Nonblocking: if the path is a FIFO, the open must not wait.
    flags = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (os.O_RDWR if writable else os.O_RDONLY)
    if not follow:
        flags |= os.O_NOFOLLOW
    try:
        fd = os.open(path, flags)
    except IsADirectoryError:
        raise bad_file(os.fspath(path), 0, "it is a directory, not a file") from None
    try:
        there = os.fstat(fd)
        _check_regular(path, there)
    except BaseException:
        os.close(fd)
        raise
    return fd, there


def _check_regular(path: str | os.PathLike[str], there: os.stat_result) -> None:
    if not stat.S_ISREG(there.st_mode):
        kind = "directory" if stat.S_ISDIR(there.st_mode) else "device, FIFO or socket"
        raise bad_file(os.fspath(path), 0, f"it is a {kind}, not a regular file")


def map_file(fd: int, path: str, mode: str) -> Mapping:
    """Map a whole file, or return the mapping that this process has already.

    Parameters
    ----------
    fd : int
        A descriptor of the file, open for what the mode needs. The caller must close it.
    path : str
        Of the file.
    mode : {"r", "r+", "w+", "c"}
        As for `numpy.memmap`. A private copy (``"c"``) is a new mapping each time.

    Returns
    -------
    Mapping
        At least as long as the file is now.

    Raises
    ------
    BadFile
        It is empty, or a pool.
    OSError
        It cannot be mapped.
    """
    there = os.fstat(fd)
    size = there.st_size
    if size == 0:
        raise bad_file(path, 0, "the file is empty; it cannot be mapped")
    if os.pread(fd, len(_native.POOL_MAGIC), 0) == _native.POOL_MAGIC:
        raise bad_file(path, size, "it is a pool; open it with onecopy.Pool.open")
    identity = Identity.of(fd, there)
    if mode == "c":
        return _map(fd, path, size, identity, mode)
    with _lock:
        key = identity, mode != "r"
        known = _mapped(key)
        if known is not None and len(known) >= size:
            return known
        mapping = _map(fd, path, size, identity, mode)
        known = _mapped(key)
        if known is not None and len(known) >= size:  # a signal handler mapped it
            return known
        _enter(mapping, key)
    return mapping


def _mapped(key: tuple[Identity, bool]) -> Mapping | None:
    known = _shared.get(key)
    return None if known is None else known()


def _map(fd: int, path: str, size: int, identity: Identity, mode: str) -> Mapping:
    access = {"r": mmap.ACCESS_READ, "c": mmap.ACCESS_COPY}.get(mode, mmap.ACCESS_WRITE)
    mapping = Mapping(fd, size, access=access)
    mapping.path = os.path.realpath(path)
    mapping.identity = identity
    mapping.mode = mode
    mapping.address = _native.address(np.frombuffer(mapping, np.uint8))
    return mapping


def resolve(span: Span) -> Mapping:
    """Map the file that a handle names, or return the existing mapping.

    Parameters
    ----------
    span : Span
        The result of `find`, in this or another process.

    Returns
    -------
    Mapping
        Long enough for the span.

    Raises
    ------
    StaleRef
        The file is gone, or another file has its name, or it has become shorter.
    OSError
        This process may not open it.
    """
    (path, identity, writable), offset, nbytes = span
    identity = Identity(*identity)
    known = _mapped((identity, writable))
    if known is not None and len(known) >= offset + nbytes:
        # The size comes from the mapping's own descriptor. The name may stand for another file now.
        _check_length(path, known.size(), span)
        return known
    try:
        fd, there = open_file(path, writable, follow=False)
    except FileNotFoundError as error:
        raise StaleRef(
            f"the file {path} is gone; an array or a table in it was sent by the file's name. "
            "Keep the file until all receivers have the array or table"
        ) from error
    try:
        if Identity.of(fd, there) != identity:
            raise StaleRef(
                f"another file is now at {path}: the file was replaced after an array or a table "
                "in it was sent by the file's name. Send it again"
            )
        _check_length(path, there.st_size, span)
        return map_file(fd, path, "r+" if writable else "r")
    finally:
        os.close(fd)


def _check_length(path: str, size: int, span: Span) -> None:
    """Refuse a span beyond the end of its file: SIGBUS would end a process that reads it."""
    end = span.offset + span.nbytes
    if size < end:
        raise StaleRef(
            f"the file {path} has been cut short: it has {size} bytes, but the array or table that "
            f"was sent lies in bytes {span.offset} to {end} of it"
        )


# ------------------------------------------------------------------------- whose memory lies where

# The address of each mapping, and its key in `_shared`. Entries are removed in callbacks of weak
# references, which may run in the middle of any operation, so a lock could deadlock. Instead, each
# insertion and removal is one atomic step of the interpreter. When the callback runs, the memory is
# unmapped, and another mapping may have its address. A mapping has only one reference with a
# callback: CPython 3.11 does not clear several, if the mapping is destroyed while the process has
# no memory.
_entries: dict[ref[Mapping], tuple[int, tuple[Identity, bool]]] = {}
# `_change` is a new object after each change of `_entries`. `_order` has the sorted addresses and
# mappings, and the `_change` from before they were read. If its `_change` differs, it is old.
_change = object()
_order: tuple[object, list[int], list[ref[Mapping]]] = (_change, [], [])


def _gone(which: ref[Mapping]) -> None:
    global _change  # noqa: PLW0603 - the registry belongs to the process
    entry = _entries.pop(which, None)
    if entry is not None:
        remove_if(_shared, entry[1], which)
    _change = object()


_connections: list[Callable[[], None]] = []


def connect_when_mapped(connect: Callable[[], None]) -> None:
    """Register a function that is called each time this process has mapped a file."""
    _connections.append(connect)


def _enter(mapping: Mapping, key: tuple[Identity, bool]) -> None:
    global _change  # noqa: PLW0603 - as above
    known = ref(mapping, _gone)
    _entries[known] = mapping.address, key
    _shared[key] = known
    _change = object()
    for connect in _connections:
        connect()


def _in_order() -> tuple[list[int], list[ref[Mapping]]]:
    global _order  # noqa: PLW0603 - as above
    change, addresses, mappings = _order
    if change is not _change:
        change = _change  # read before the entries, so that a change meanwhile makes the order old
        # Making the list is one atomic step. If two entries have one address, the later one is
        # valid.
        entries = sorted(list(_entries.items()), key=lambda entry: entry[1][0])  # noqa: C414 - as above
        addresses = [address for _, (address, _) in entries]
        mappings = [known for known, _ in entries]
        _order = change, addresses, mappings
    return addresses, mappings


def _at(address: int, nbytes: int) -> Mapping | None:
    addresses, mappings = _in_order()
    index = bisect_right(addresses, address) - 1
    if index < 0:
        return None
    mapping = mappings[index]()
    if mapping is None or address + nbytes > mapping.address + len(mapping):
        return None
    return mapping


def contains(address: int, nbytes: int) -> bool:
    """Tell whether memory lies in a mapped file. The native core calls this for arrays."""
    return bool(_entries) and _at(address, nbytes) is not None


def find(address: int, nbytes: int, writable: bool) -> Span | None:
    """Find the file that contains some memory.

    Parameters
    ----------
    address, nbytes : int
        The memory, in this process.
    writable : bool
        Whether the receiver may write, if the mapping may.

    Returns
    -------
    Span or None
        None: it lies in no file; or the file has lost its name or was replaced since, so that no
        other process could find it.
    """
    mapping = _at(address, nbytes) if _entries else None
    if mapping is None:
        return None
    try:
        there = os.stat(mapping.path, follow_symlinks=False)  # noqa: PTH116 - for speed: it runs for each array
    except OSError:
        return None
    if (there.st_dev, there.st_ino) != mapping.identity[:2]:
        return None
    handle = mapping.path, mapping.identity, mapping.writable and writable
    return Span(handle, address - mapping.address, nbytes)


def memory_of(span: Span) -> memoryview[Any]:
    """Return the bytes of a span, read-only unless the handle allows writing.

    Parameters
    ----------
    span : Span
        As for `resolve`.

    Returns
    -------
    memoryview
        It keeps the mapping alive.

    Raises
    ------
    StaleRef, OSError
        As `resolve`.
    """
    return memoryview(resolve(span))[span.offset : span.offset + span.nbytes]
