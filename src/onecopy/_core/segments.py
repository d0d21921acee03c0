"""Shared memory segments as files of /dev/shm: who has them, and what happens when nobody does.

A segment is a file ``/dev/shm/NAME`` of exactly the bytes that were asked for, as POSIX shared
memory and `multiprocessing.shared_memory` have it. What onecopy knows of it stands beside its
contents:

* its mode: ``0600`` was made by the standard library or another program and is never removed here;
  ``01600`` (the sticky bit, which means nothing else for a file) was made by onecopy and goes when
  it is an orphan; ``01700`` was made by onecopy and stays until somebody unlinks it.
* an open file description lock on one byte far behind its end, which each holder has shared. The
  kernel drops it with the holder's last descriptor, so also on ``kill -9``. A forked child has its
  parent's description, and with it the lock. Memory is mapped through a description of its own, or
  arrays would hold the lock.
* its keeper, in the time of its last access: the start of a process, in clock ticks since boot, as
  seconds after a moment in the far future, and as the nanoseconds its pid and seven bits that tell
  its PID namespace from most others. Who maps a file sets that time, but under ``relatime``, the
  rule of Linux, only if it is past; who writes to mapped memory sets the other two. The keeper is
  the top of the tree of processes in which the segment was made, as far as that is known: what the
  standard library's tracker belongs to. So a child may make a segment, fill it, give its name back
  and end, and its parent attaches later.

An *orphan* is a segment that nobody holds and whose keeper has ended; only orphans are removed,
whether by a sweep, by who attaches, or by the keeper itself when it ends. A keeper never comes back
(a pid that is used again has another start), so who has found it dead need not look again. A time
that names nobody (``touch``, a mount with ``strictatime``, a creator without a /proc of its own)
counts as dead: such a segment goes with its last holder. Who cannot find out, for want of
descriptors or of a /proc, removes nothing. Nor does a container remove what another one keeps: only
the first PID namespace, which sees everybody, tells who is dead in there. (Two containers with the
same seven bits do not see each other's keepers, and remove what nobody holds.)

The rules, and why two processes never disagree:

* A file gets its name (`os.link`) when it is whole, marked, kept and locked: nobody ever sees it
  deserted or half made. A death before that leaves nothing (``O_TMPFILE``), or a hidden file that
  is swept: nobody is the keeper of those.
* Only who has found the keeper dead and got the *exclusive* lock may remove the name of an orphan:
  nobody holds it then, and who comes later cannot take the shared lock before the remover is gone.
  Nobody takes that lock for another reason; who only wants to know whether it is held asks.
* Who attaches opens, takes the shared lock and then looks whether the file still has its name
  (``st_nlink``). If not, it was swept between the two, and the search starts over.
* Who attaches to a segment whose keeper is dead tries the exclusive lock first. If it gets it, all
  users are dead: the segment is gone, and the name goes too. Otherwise a user lived at that moment;
  if it leaves before we have the shared lock, it finds either our lock, or we find its exclusive
  one, and try again.
* Nobody unlocks: descriptors are closed. An unlock would also unlock the relatives that share it. A
  holder that leaves opens the file anew and tries the exclusive lock like any sweeper.
* A keeper that ends by itself counts as dead for itself from then on, and removes what it kept and
  nobody holds. For others it still lives; they attach, or sweep once it has gone. That is the last
  thing a process does (native/os/shared_segments.cpp): exit handlers still find its segments. In a
  child that multiprocessing forks, daemon threads still run then; they attach to nothing while it
  lets go: they would be cut off with it, and leave a name behind.
* `Segment.unlink` removes the name only while it is this file's, and holds a second byte
  exclusively meanwhile. A name that was made anew is never taken for the old one: removers of one
  file exclude each other, and without a remover the name does not change. (Programs that call
  ``shm_unlink`` themselves are outside of this.)
* A fork waits until no thread is in the middle of one of these steps; the descriptor of a file in
  the making is closed in the child.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from onecopy import _native
from onecopy._core import leaving
from onecopy._core.limits import memory_limit
from onecopy._core.sizes import format_size
from onecopy.errors import OneCopyError, PoolFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "DIRECTORY",
    "Kind",
    "Segment",
    "SegmentInfo",
    "checked_name",
    "let_go_all",
    "sweep",
    "sweep_now_and_then",
]

DIRECTORY = "/dev/shm"  # noqa: S108 - where glibc, and so everybody else, has shared memory
Kind: TypeAlias = Literal["onecopy", "multiprocessing"]
State: TypeAlias = Literal["in_use", "kept", "removed", "orphan", "persistent", "failed"]

_MADE_HERE = stat.S_ISVTX
_STAYS = stat.S_IXUSR
_HIDDEN = ".onecopy-segment-"

_HOLD = _native.SEGMENT_HOLD_BYTE  # that holders lock; no file is that long
_UNLINK = _HOLD + 1  # and the one of who takes the name away
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux
_PID_BITS = _native.SEGMENT_PID_BITS  # of Linux; with seven more it is less than a second
_SPACES = _native.SEGMENT_NAMESPACE_MASK
_FIRST_SPACE = 0xEFFFFFFC  # the inode of the first PID namespace
_SECOND = 1_000_000_000  # in nanoseconds; no pid is that large
# Seconds since 1970, the year 4147; with 57 years of ticks it has four digits yet.
_FUTURE = _native.SEGMENT_OWNER_EPOCH

_CHUNK = 8 << 20  # tmpfs undoes a reservation when a signal comes: small ones are through before
_PATIENCE = 5.0  # seconds; who comes or goes is through in microseconds
_SWEEP_EVERY = 1.0  # seconds between two looks at all of /dev/shm
_POOL_MAGIC = (b"onecopy1", b"onecopy-")  # a pool, and the rendezvous of one in a memfd

# Re-entrant: a finalizer may run in the middle of anything.
_lock = threading.RLock()
_unfinished: set[int] = set()  # descriptors of files that have no name yet
_held: set[Segment] = set()
_swept_at = float("-inf")
_me: Process | None = None  # once it was asked for
_keeper: Process | None = None  # of what is made here; a forked child has its parent's
_ending = False  # `let_go_all` was called


class Process(NamedTuple):
    """A process, by what no later one shares with it. Pid 0: nobody."""

    pid: int
    start_ticks: int
    space: int  # seven bits of its PID namespace


_NOBODY = Process(0, 0, 0)


class SegmentInfo(NamedTuple):
    """A segment of this user that was made by onecopy.

    Attributes
    ----------
    name : str
        By which it is attached to.
    path : str
        The file.
    state : str
        "in_use", "kept" (nobody has it, but the process that keeps it lives), "orphan" (nobody has
        or keeps it; the next use removes it), "removed", "persistent" (nobody has it, and it stays
        until it is unlinked), or "failed" (it could not be looked at).
    size : int
        In bytes.
    """

    name: str
    path: str
    state: State
    size: int


# ---- names and errors ----------------------------------------------------------------------------


def checked_name(name: object) -> str:
    """Refuse what cannot name a segment.

    Parameters
    ----------
    name : str
        1 to 255 bytes without a slash; slashes in front are dropped, as in POSIX.

    Returns
    -------
    str
        The file's name in /dev/shm.

    Raises
    ------
    TypeError
        It is no string.
    ValueError
        There is a NUL in it.
    OSError
        EINVAL or ENAMETOOLONG, as the standard library's.
    """
    if not isinstance(name, str):
        raise TypeError(f"a segment's name is a string, not {type(name).__name__} {name!r}")
    short = name.lstrip("/")
    if "\0" in short:
        raise ValueError(f"a segment's name has no NUL in it (embedded null byte in {name!r})")
    if not short or "/" in short or short in {".", ".."}:
        raise OSError(
            errno.EINVAL, "a segment's name is a file name: not empty, and without a slash", name
        )
    if len(os.fsencode(short)) > 255:
        raise OSError(
            errno.ENAMETOOLONG,
            f"a segment's name has at most 255 bytes, this one {len(os.fsencode(short))}",
            name,
        )
    return short


def _missing(name: str) -> FileNotFoundError:
    return FileNotFoundError(
        errno.ENOENT,
        "there is no shared memory of that name, or it went with the last process that used or "
        "kept it",
        f"{DIRECTORY}/{name}",
    )


def _directory() -> int:
    try:
        return os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(
            error.errno,
            f"shared memory segments need {DIRECTORY}, which cannot be used here "
            f"({os.strerror(error.errno or 0)}); mount a tmpfs there, or use a Pool with "
            "ONECOPY_DIR",
        ) from None


def _full(size: int, name: str | None) -> PoolFull:
    group = memory_limit()
    if group is not None and size > group.room:
        return PoolFull(
            f"no room for {'a segment' if name is None else repr(name)} of {format_size(size)}: "
            f"{group}. Unlink segments that are not needed (`onecopy ls` lists them), or give the "
            "container or service more memory."
        )
    space = os.statvfs(DIRECTORY)
    free, whole = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    return PoolFull(
        f"no room for {'a segment' if name is None else repr(name)} of {format_size(size)} in "
        f"{DIRECTORY}: {format_size(free)} of {format_size(whole)} are free. Unlink segments that "
        "are not needed (`onecopy ls` lists them), or give the machine or container a larger "
        f"{DIRECTORY} (docker run --shm-size=…)."
    )


# ---- locks ---------------------------------------------------------------------------------------


def _lock_byte(fd: int, byte: int, kind: int) -> bool:
    """Lock a byte for the open file description; False: somebody else's lock is in the way."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0))
    except BlockingIOError:
        return False
    except PermissionError:  # EACCES: the other name for the same
        return False
    return True


def _is_locked(fd: int, byte: int) -> bool:
    """Tell whether anybody has a byte locked, and be in nobody's way meanwhile."""
    wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, wanted)
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)


def _open(directory: int, name: str) -> int:
    # O_NONBLOCK: what is there may be a pipe or a device.
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    return os.open(name, flags, dir_fd=directory)


def _is(directory: int, name: str, status: os.stat_result) -> bool:
    """Tell whether the name is this file's."""
    try:
        now = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino)


# ---- keepers -------------------------------------------------------------------------------------


def _this_process() -> Process:
    global _me  # noqa: PLW0603 - asked for once
    if _me is None:
        pid = os.getpid()
        try:
            # A /proc of another PID namespace shows us, and everybody, under other numbers.
            seen = os.readlink("/proc/self") == str(pid)  # noqa: PTH115 - a comparison of text
        except OSError:
            seen = False
        start = _native.process_start(pid) if seen else None
        _me = Process(pid, start, _namespace() & _SPACES) if start else _NOBODY
    return _me


def _namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - beside the other calls of os
    except OSError:
        return 0


def _parent() -> Process | None:
    """Give the process that started this one by multiprocessing, if it lives."""
    module = sys.modules.get("multiprocessing.process")  # not loaded: it has started nobody
    if module is None:
        return None
    known = module.parent_process()
    if known is not None:
        pid = known.pid
    elif getattr(module.current_process(), "_inheriting", False):
        pid = os.getppid()  # it is just being started, and imports the main module
    else:
        return None
    start = _native.process_start(pid) or 0
    # A parent that started after its child is another process, which has got its pid.
    me = _this_process()
    return Process(pid, start, me.space) if 0 < start <= me.start_ticks else None


def _keeper_now() -> Process:
    """Give the keeper of what is made now: of one that has died nobody knows in whose place."""
    global _keeper  # noqa: PLW0603 - the same for as long as it lives
    me = _this_process()
    if me is _NOBODY:
        return me
    if _keeper is not None and (
        _keeper == me or not _native.process_is_dead(_keeper.pid, _keeper.start_ticks)
    ):
        return _keeper
    _keeper = _parent() or me
    return _keeper


def _mark(fd: int, keeper: Process) -> None:
    rest = keeper.space << _PID_BITS | keeper.pid
    when = (_FUTURE + keeper.start_ticks) * _SECOND + rest
    os.utime(fd, ns=(when, os.fstat(fd).st_mtime_ns))


def _keeper_of(status: os.stat_result, name: str) -> Process:
    seconds, rest = divmod(status.st_atime_ns, _SECOND)
    pid, space = rest & ((1 << _PID_BITS) - 1), rest >> _PID_BITS
    if seconds <= _FUTURE or pid == 0 or space > _SPACES or name.startswith(_HIDDEN):
        return _NOBODY
    return Process(pid, seconds - _FUTURE, space)


def _is_kept(status: os.stat_result, name: str) -> bool:
    """Tell whether a segment stays though nobody holds it. False is for ever."""
    keeper = _keeper_of(status, name)
    if keeper is _NOBODY:
        return False
    me = _this_process()
    if keeper == me:
        return not _ending
    if me is not _NOBODY and keeper.space == me.space:
        return not _native.process_is_dead(keeper.pid, keeper.start_ticks)
    return _namespace() != _FIRST_SPACE or _is_in_a_container(keeper)


def _is_in_a_container(keeper: Process) -> bool:
    """Look for a process under the number that it has for itself; we have another one for it."""
    if not os.path.exists("/proc/1"):  # noqa: PTH110 - beside the other calls of os
        return True  # processes are hidden from us: it may be one of those
    for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - only the names
        if _native.process_start(int(pid)) != keeper.start_ticks:
            continue
        with (
            contextlib.suppress(FileNotFoundError, ProcessLookupError),  # it has just ended
            open(f"/proc/{pid}/status", "rb") as status,  # noqa: PTH123
        ):
            for line in status:
                if line.startswith(b"NSpid:") and int(line.split()[-1]) == keeper.pid:
                    return True
    return False


# ---- segments ------------------------------------------------------------------------------------


class Segment:
    """A segment that this process has: a descriptor, and with it the lock that says so.

    Made by `create` and `attach`. It is held until `let_go` or `unlink`, or until the process ends.

    Attributes
    ----------
    name : str
        Its name, without a slash.
    size : int
        In bytes.
    kind : str
        "onecopy", or "multiprocessing" (or any other program).
    track : bool
        Whether it goes when nobody holds it and its keeper has ended.
    """

    __slots__ = ("_fd", "_ino", "kind", "name", "size", "track")

    def __init__(self, fd: int, name: str, status: os.stat_result) -> None:
        self._fd = _native.to_high_number(fd)
        self._ino = status.st_dev, status.st_ino
        self.name = name
        self.size = status.st_size
        made_here = bool(status.st_mode & _MADE_HERE)
        self.kind: Kind = "onecopy" if made_here else "multiprocessing"
        self.track = made_here and not status.st_mode & _STAYS
        _held.add(self)
        _native.hold_segment(self._fd)
        leaving.arrange()

    def fileno(self) -> int:
        """Give the descriptor; -1 when it was let go."""
        return self._fd

    def _is_ours(self) -> bool:
        """Tell whether the number still is the descriptor of this segment.

        Any code of the process can close it, and the next file that is opened gets the number.
        """
        try:
            status = os.fstat(self._fd)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._ino

    def check_held(self) -> None:
        """Refuse to go on if the descriptor was lost: nobody counts this process as a user then.

        Raises
        ------
        OneCopyError
            Something in this process closed the number.
        """
        if self._fd >= 0 and not self._is_ours():
            raise OneCopyError(
                f"shared memory {self.name!r} is not held by this process any more: something in "
                f"it closed the descriptor of {DIRECTORY}/{self.name} (number {self._fd}), or gave "
                "the number to another file. A library that daemonizes does that "
                "(os.closerange), and so does a program that closes a number twice. Attach after "
                "daemonizing, or leave the descriptor open. Memory that is mapped stays valid"
            )

    @classmethod
    def create(
        cls,
        names: Iterator[str],
        size: int,
        *,
        track: bool = True,
        fill: Callable[[int], None] | None = None,
    ) -> Segment:
        """Make a segment of zeros; its memory is reserved.

        Parameters
        ----------
        names : iterator of str
            What to call it: the first one that is free.
        size : int
            In bytes, at least 1.
        track : bool
            Whether it goes when nobody holds it and its keeper has ended.
        fill : callable
            Called with the descriptor before anybody else can find the segment.

        Raises
        ------
        FileExistsError
            Every name is taken.
        PoolFull
            /dev/shm has not that much room.
        OSError
            /dev/shm is missing, or may not be written.
        """
        sweep_now_and_then()
        directory = _directory()
        try:
            for _ in range(16):
                with _Unfinished(directory) as file:
                    _reserve(file.fd, size)
                    os.fchmod(file.fd, 0o600 | _MADE_HERE | (0 if track else _STAYS))
                    if not file.lock():
                        continue  # a hidden one, swept under our hands
                    if fill is not None:
                        fill(file.fd)
                    with _lock:
                        _mark(file.fd, _keeper_now())
                        name = file.publish(names)
                        status = os.fstat(file.fd)
                        return cls(file.keep(), name, status)
            raise OSError(errno.EBUSY, "files in the making keep being removed", DIRECTORY)
        finally:
            os.close(directory)

    @classmethod
    def attach(cls, name: str) -> Segment:
        """Have a segment that exists.

        Parameters
        ----------
        name : str
            As `checked_name` gives it.

        Raises
        ------
        FileNotFoundError
            There is none, or all that had it are dead, and its keeper; then it is removed.
        OneCopyError, PermissionError
            The name is something else's, or another user's.
        """
        sweep_now_and_then()
        directory = _directory()
        deadline = time.monotonic() + _PATIENCE
        try:
            while True:
                with _lock:
                    segment = cls._try_attach(directory, name)
                if segment is not None:
                    return segment
                if time.monotonic() > deadline:  # stopped in the middle of removing it
                    raise _missing(name)
                time.sleep(0.0001)
        finally:
            os.close(directory)

    @classmethod
    def _try_attach(cls, directory: int, name: str) -> Segment | None:
        """None: somebody is coming or going right now."""
        path = f"{DIRECTORY}/{name}"
        try:
            fd = _open(directory, name)
        except FileNotFoundError:
            raise _missing(name) from None
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV}:
                raise OneCopyError(f"{path} is no shared memory, but a link or directory") from None
            raise OSError(error.errno, os.strerror(error.errno or 0), path) from None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OneCopyError(f"{path} is no shared memory, but a pipe or device")
            if status.st_uid != os.geteuid():
                raise PermissionError(
                    errno.EACCES, f"the shared memory belongs to user {status.st_uid}", path
                )
            if os.pread(fd, 8, 0) in _POOL_MAGIC:
                raise OneCopyError(f"{path} is a pool: use onecopy.Pool.open({path!r})")
            if status.st_mode & _MADE_HERE:
                stays = status.st_mode & _STAYS or _is_kept(status, name)
                if not stays and _lock_byte(fd, _HOLD, fcntl.F_WRLCK):
                    # An orphan. With the exclusive lock it is ours to remove.
                    if _is(directory, name, status):
                        os.unlink(name, dir_fd=directory)
                    raise _missing(name)
                if not _lock_byte(fd, _HOLD, fcntl.F_RDLCK) or os.fstat(fd).st_nlink == 0:
                    return None
            if status.st_size == 0:
                raise ValueError(
                    f"{path} is empty: who makes it has not given it a size yet, or died before"
                )
            segment = cls(fd, name, status)
            fd = -1
            return segment
        finally:
            if fd >= 0:
                os.close(fd)

    def unlink(self) -> None:
        """Take the name away, for everybody; who has the memory keeps it. The segment is let go.

        Raises
        ------
        FileNotFoundError
            It has no name any more. Of a name that was made anew nothing is removed.
        """
        with _lock:
            if self._fd < 0:
                raise _missing(self.name)
            directory = _directory()
            fd = -1
            try:
                fd = _open(directory, self.name)
                found = os.fstat(fd)
                if (found.st_dev, found.st_ino) != self._ino:
                    raise _missing(self.name)
                # On a description of our own: relatives have the other one too.
                deadline = time.monotonic() + _PATIENCE
                while not _lock_byte(fd, _UNLINK, fcntl.F_WRLCK):
                    if time.monotonic() > deadline:
                        raise OSError(
                            errno.EBUSY,
                            "another process is unlinking it, and was stopped in the middle",
                            f"{DIRECTORY}/{self.name}",
                        )
                    time.sleep(0.0001)
                if not _is(directory, self.name, found):
                    raise _missing(self.name)
                os.unlink(self.name, dir_fd=directory)
            except FileNotFoundError:
                raise _missing(self.name) from None
            finally:
                if fd >= 0:
                    os.close(fd)
                os.close(directory)
            self._close()

    def keep_here(self) -> None:
        """Have this process be the keeper, and not the top of its tree: no child's may outlive it.

        Only of what this process made. While it holds it nobody removes it, whoever is the keeper.
        """
        if self._fd >= 0:
            self.check_held()
            _mark(self._fd, _this_process())

    def has_name(self) -> bool:
        """Tell whether it can still be attached to."""
        try:
            # By the name: the number may be another file's.
            status = os.stat(f"{DIRECTORY}/{self.name}", follow_symlinks=False)  # noqa: PTH116
        except FileNotFoundError:
            return False
        return self._fd >= 0 and (status.st_dev, status.st_ino) == self._ino

    def let_go(self) -> None:
        """Be no user of it any more. If that makes it an orphan, it is removed. Idempotent."""
        if self._fd < 0:
            return
        with _lock:
            if self._fd < 0:
                return
            named = self.track and self.has_name()
            self._close()
            if named:
                try:
                    directory = _directory()
                except OSError:
                    return
                try:
                    _sweep_one(directory, self.name, remove=True)
                finally:
                    os.close(directory)

    def let_go_unnamed(self) -> bool:
        """Let go of it if nobody can attach to it any more; tell whether it is let go."""
        with _lock:
            if self._fd >= 0 and not self.has_name():
                self._close()
            return self._fd < 0

    def was_released(self) -> None:
        """Know that the core has closed the descriptor, at the end of the process."""
        self._fd = -1
        _held.discard(self)

    def _close(self) -> None:
        _native.forget_segment(self._fd)
        if self._is_ours():
            os.close(self._fd)
        self._fd = -1
        _held.discard(self)


def let_go_all() -> None:
    """Let go of every segment that this process has, and of those it keeps: it is about to end.

    For a child that multiprocessing has forked. Any other process does this in the native core,
    when the interpreter has ended.
    """
    global _ending  # noqa: PLW0603 - from here on it keeps nothing
    _ending = True
    # In one step: a thread that goes on attaching until the process has ended would otherwise have
    # a segment anew before its name is taken. Now it waits, and then there is no such name.
    with _lock:
        _native.release_segments()
        for segment in list(_held):
            segment.was_released()


class _Unfinished:
    """A file that has no name yet, or a hidden one where the file system knows no other way."""

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._hidden = ""
        flags = os.O_RDWR | os.O_CLOEXEC
        with _lock:
            try:
                self.fd = os.open(DIRECTORY, flags | os.O_TMPFILE, 0o600)
            except OSError as error:
                if error.errno not in {
                    errno.EOPNOTSUPP,
                    errno.EISDIR,
                    errno.ENOENT,
                    errno.EINVAL,
                }:
                    raise
                self.fd = self._make_hidden(flags)
            _unfinished.add(self.fd)

    def _make_hidden(self, flags: int) -> int:
        # Marked from the first moment, so that a death leaves nothing that is not swept.
        name = _HIDDEN + os.urandom(8).hex()
        flags |= os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        fd = os.open(name, flags, 0o600 | _MADE_HERE, dir_fd=self._directory)
        self._hidden = name
        return fd

    def lock(self) -> bool:
        """Count as a user. False: a sweeper has found the hidden file before."""
        held = _lock_byte(self.fd, _HOLD, fcntl.F_RDLCK)
        return held and (not self._hidden or os.fstat(self.fd).st_nlink > 0)

    def publish(self, names: Iterator[str]) -> str:
        """Give it the first name that is free, or that only the dead have."""
        source = self._hidden or f"/proc/self/fd/{self.fd}"
        for name in names:
            for attempt in range(2):
                try:
                    os.link(
                        source,
                        name,
                        src_dir_fd=self._directory,
                        dst_dir_fd=self._directory,
                        follow_symlinks=not self._hidden,
                    )
                except FileExistsError:
                    if attempt or _sweep_one(self._directory, name, remove=True) != "removed":
                        break
                except FileNotFoundError:
                    raise OSError(
                        errno.ENOENT, "no /proc here, by which a new file gets its name", source
                    ) from None
                else:
                    return name
        raise FileExistsError(
            errno.EEXIST,
            "shared memory of that name exists; attach to it with create=False, or choose another",
            f"{DIRECTORY}/{name}",
        )

    def keep(self) -> int:
        """Leave the descriptor to the segment."""
        fd, self.fd = self.fd, -1
        _unfinished.discard(fd)
        return fd

    def __enter__(self) -> _Unfinished:
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            if self._hidden:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._hidden, dir_fd=self._directory)
            if self.fd >= 0:
                _unfinished.discard(self.fd)
                os.close(self.fd)


def _reserve(fd: int, size: int) -> None:
    """Reserve memory for the whole file: what is written later never ends in SIGBUS."""
    for attempt in range(2):
        try:
            space = os.fstatvfs(fd)
            group = memory_limit()
            # Not tried if it cannot be: for that moment nobody else would have any room, and
            # beyond the limit of the control group the kernel kills.
            if (space.f_blocks and size > space.f_bavail * space.f_frsize) or (
                group is not None and size > group.room
            ):
                raise OSError(errno.ENOSPC, "")  # noqa: TRY301 - as the kernel would
            for at in range(0, size, _CHUNK):
                os.posix_fallocate(fd, at, min(_CHUNK, size - at))
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EDQUOT}:
                raise
            os.ftruncate(fd, 0)
            if attempt or not any(info.state == "removed" for info in sweep()):
                raise _full(size, None) from None
        else:
            return


# ---- what the dead left --------------------------------------------------------------------------


def sweep(*, remove: bool = True) -> list[SegmentInfo]:
    """Remove the segments that nobody holds and whose keeper has ended.

    Parameters
    ----------
    remove : bool
        False: only look.

    Returns
    -------
    list of SegmentInfo
        Those of this user that were made by onecopy, sorted by name. Empty without a /dev/shm.
    """
    global _swept_at  # noqa: PLW0603 - when this process last did so
    _swept_at = time.monotonic()
    found = []
    try:
        directory = _directory()
    except OSError:
        return []
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if _may_be_ours(entry))
        for name in names:
            try:
                size = os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
            except OSError:
                continue
            state = _sweep_one(directory, name, remove=remove)
            if state is not None:
                found.append(SegmentInfo(name, f"{DIRECTORY}/{name}", state, size))
    finally:
        os.close(directory)
    return found


def sweep_now_and_then() -> None:
    """Sweep, if this process has not done so within the last second.

    What cannot be looked at, for want of descriptors, stays; that is no failure of the caller's.
    """
    if time.monotonic() - _swept_at > _SWEEP_EVERY:
        with contextlib.suppress(OSError):
            sweep()


def _may_be_ours(entry: os.DirEntry[str]) -> bool:
    try:
        return _is_ours(entry.stat(follow_symlinks=False))
    except OSError:  # it has gone meanwhile
        return False


def _is_ours(status: os.stat_result) -> bool:
    return (
        stat.S_ISREG(status.st_mode)
        and bool(status.st_mode & _MADE_HERE)
        and status.st_uid == os.geteuid()
    )


def _sweep_one(directory: int, name: str, *, remove: bool) -> State | None:
    """Remove an orphan's name; None: it is not ours, or not there."""
    with _lock:
        try:
            fd = _open(directory, name)
        except FileNotFoundError:
            return None
        except OSError:
            return "failed"
        try:
            status = os.fstat(fd)
            if not _is_ours(status):
                return None
            if status.st_mode & _STAYS:
                return "in_use" if _is_locked(fd, _HOLD) else "persistent"
            if _is_kept(status, name):
                return "in_use" if _is_locked(fd, _HOLD) else "kept"
            if not _lock_byte(fd, _HOLD, fcntl.F_WRLCK):
                return "in_use"
            if not _is(directory, name, status):
                return None
            if not remove:
                return "orphan"
            os.unlink(name, dir_fd=directory)
        except OSError:
            return "failed"
        else:
            return "removed"
        finally:
            os.close(fd)


# ---- forks ---------------------------------------------------------------------------------------


def _before_fork() -> None:
    _lock.acquire()
    if _keeper is None:
        with contextlib.suppress(OSError):  # no descriptor left; the child asks for its parent
            _keeper_now()  # the child cannot find out any more


def _in_child() -> None:
    global _me, _ending
    # Of another thread, which is not here to finish it. With the parent's descriptor its lock goes
    # on.
    for fd in _unfinished:
        os.close(fd)
    _unfinished.clear()
    _me, _ending = None, False
    _lock.release()


leaving.before_os_exit(let_go_all)
os.register_at_fork(before=_before_fork, after_in_child=_in_child, after_in_parent=_lock.release)
