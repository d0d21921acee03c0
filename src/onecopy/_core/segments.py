"""Shared-memory segments: files of /dev/shm that live as long as a process uses or owns them.

The protocol is in the native core: ``native/storage/shared_memory.hpp`` has the rules, and
``docs/design/0016-storage.md`` the states and what a death at every step leaves. Here are names,
errors and what only Python knows: which process has started this one.

A segment that nobody holds and whose owner process has ended is *stale*. Only stale segments are
removed: by a sweep, by a process that attaches, by the last holder, or by the owner when it ends.
The owner is the top of the tree of processes in which the segment was made, as far as that is
known. So a child may make a segment, fill it, give its name back and end, and its parent attaches
later.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, cast

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
    "release_all",
    "sweep",
    "sweep_now_and_then",
]

DIRECTORY = _native.SEGMENT_DIRECTORY  # where glibc, and so every program, has shared memory
Kind: TypeAlias = Literal["onecopy", "multiprocessing"]
State: TypeAlias = Literal["in_use", "kept", "removed", "stale", "persistent", "failed"]

_HIDDEN = _native.SEGMENT_HIDDEN_PREFIX
_SWEEP_EVERY = 1.0  # seconds between two looks at all of /dev/shm
_NO_ROOM = {errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EDQUOT}

_swept_at = float("-inf")


class SegmentInfo(NamedTuple):
    """A segment of this user that was made by onecopy.

    Attributes
    ----------
    name : str
        By which it is attached to.
    path : str
        The file.
    state : str
        "in_use", "kept" (nobody holds it, but its owner process lives), "stale" (nobody holds it,
        and its owner has ended; the next use removes it), "removed", "persistent" (nobody holds
        it, and it stays until it is unlinked), or "failed" (it could not be looked at).
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


def _full(size: int, name: str | None, number: int) -> PoolFull:
    group = memory_limit()
    # ENOMEM: the core has looked at the group. Its room may be another one by now.
    if group is not None and (number == errno.ENOMEM or size > group.room):
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


def _parent_pid() -> int:
    """Give the process that started this one by multiprocessing; 0: none did."""
    module = sys.modules.get("multiprocessing.process")  # not loaded: it has started nobody
    if module is None:
        return 0
    known = module.parent_process()
    if known is not None:
        return cast("int", known.pid)
    # It is just being started, and imports the main module.
    inheriting = getattr(module.current_process(), "_inheriting", False)
    return os.getppid() if inheriting else 0


# ---- segments ------------------------------------------------------------------------------------


class Segment:
    """A segment that this process holds.

    Made by `create` and `attach`. It is held until `release` or `unlink`, or until the process
    ends. A forked child holds it too. Threads may share it.

    Attributes
    ----------
    name : str
        Its name, without a slash.
    size : int
        In bytes.
    kind : str
        "onecopy", or "multiprocessing" (or any other program).
    track : bool
        Whether it goes when nobody holds it and its owner process has ended.
    """

    __slots__ = ("_hold", "kind", "name", "size", "track")

    def __init__(self, hold: _native.SegmentHold, name: str) -> None:
        self._hold = hold
        self.name = name
        self.size = hold.size
        self.kind: Kind = "onecopy" if hold.made_here else "multiprocessing"
        self.track = hold.made_here and not hold.persistent
        leaving.arrange()

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
            Whether it goes when nobody holds it and its owner process has ended.
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
        new = _new_segment(size, persistent=not track)
        try:
            if fill is not None:
                fill(new.fileno())
            name = ""
            for name in names:
                hold = new.publish(name, _parent_pid())
                if hold is not None:
                    return cls(hold, name)
        finally:
            new.discard()
        raise FileExistsError(
            errno.EEXIST,
            "shared memory of that name exists; attach to it with create=False, or choose another",
            f"{DIRECTORY}/{name}",
        )

    @classmethod
    def attach(cls, name: str) -> Segment:
        """Hold a segment that exists.

        Parameters
        ----------
        name : str
            As `checked_name` gives it.

        Raises
        ------
        FileNotFoundError
            There is none, or it was stale; then it is removed.
        OneCopyError, PermissionError
            The name is something else's, or another user's.
        ValueError
            It has no size yet.
        """
        sweep_now_and_then()
        return cls(_native.attach_segment(name), name)

    @property
    def _ino(self) -> tuple[int, int]:
        return self._hold.identity

    def fileno(self) -> int:
        """Give the descriptor; -1 if the segment was released."""
        return self._hold.fileno()

    def check_held(self) -> None:
        """Refuse to continue if the descriptor was lost: this process no longer counts as a user.

        Raises
        ------
        OneCopyError
            Something in this process closed the number.
        """
        number = self._hold.fileno()
        if number >= 0 and not self._hold.is_ours():
            raise OneCopyError(
                f"shared memory {self.name!r} is not held by this process any more: something in "
                f"it closed the descriptor of {DIRECTORY}/{self.name} (number {number}), or gave "
                "the number to another file. A library that daemonizes does that "
                "(os.closerange), and so does a program that closes a number twice. Attach after "
                "daemonizing, or leave the descriptor open. Memory that is mapped stays valid"
            )

    def unlink(self) -> None:
        """Remove the name, for all processes; mappings stay valid. The segment is released.

        Raises
        ------
        FileNotFoundError
            It has no name any more. A new segment under its old name is not removed.
        OSError
            EBUSY: another process was stopped while it unlinked it.
        """
        self._hold.unlink()

    def keep_here(self) -> None:
        """Make this process the owner, and not the top of its tree: no child's may outlive it.

        Only for a segment that this process made. While this process holds it, it is not removed.

        Raises
        ------
        OneCopyError
            The descriptor was lost.
        """
        self.check_held()
        self._hold.take_over()

    def has_name(self) -> bool:
        """Tell whether it can still be attached to."""
        return self._hold.has_name()

    def release(self) -> None:
        """Release it. If that makes it stale, it is removed. Idempotent."""
        self._hold.release()

    def release_unnamed(self) -> bool:
        """Release it if no process can attach to it any more; tell whether it is released."""
        return self._hold.release_unnamed()


def _new_segment(size: int, *, persistent: bool) -> _native.NewSegment:
    try:
        return _native.NewSegment(size, persistent)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        number = error.errno
    raise _full(size, None, number)


def release_all() -> None:
    """Release every segment that this process holds or owns: it is about to end.

    For a child that multiprocessing has forked. Any other process does this in the native core,
    when the interpreter has ended.
    """
    _native.release_segments()


# ---- what the dead left --------------------------------------------------------------------------


def sweep(*, remove: bool = True) -> list[SegmentInfo]:
    """Remove the segments that nobody holds and whose owner process has ended.

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
    return [
        SegmentInfo(name, f"{DIRECTORY}/{name}", cast("State", state), size)
        for name, state, size in _native.sweep_segments(remove)
    ]


def sweep_now_and_then() -> None:
    """Sweep, if this process has not done so within the last second.

    What cannot be looked at, for want of descriptors, stays; that is no failure of the caller's.
    """
    if time.monotonic() - _swept_at > _SWEEP_EVERY:
        sweep()


def _before_fork() -> None:
    _native.note_segment_owner(_parent_pid())


leaving.before_os_exit(release_all)
os.register_at_fork(before=_before_fork)
