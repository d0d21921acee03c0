"""A pool: one piece of shared memory, and everything that lives in it.

This file has more than 600 lines because it has all that users call on a pool, with its reference:
what the methods do stands in other modules.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload
from weakref import WeakSet

from onecopy._codec import arrays, pickler  # noqa: F401 - the pickler connects itself to the core
from onecopy._codec.object_factory import ObjectFactory
from onecopy._core import membership, memory_pressure, paths
from onecopy._core.keepalive import keep_for_child
from onecopy._core.object_directory import ObjectDirectory
from onecopy._core.places import MOST_PROCESSES
from onecopy._core.pool_files import is_readonly, make_pool, open_pool
from onecopy._core.pool_stats import PoolStats, stats_from
from onecopy._core.sizes import format_size, parse_size
from onecopy._core.things import things_in
from onecopy.containers.factory import ContainerFactory
from onecopy.errors import Closed, OneCopyError, PoolExists, PoolNotFound
from onecopy.frames import Frames, open_frames
from onecopy.locks.factory import LockFactory
from onecopy.queue import Queue, open_queue
from onecopy.stream import Stream, open_stream
from onecopy.values import open_value

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import numpy as np
    import numpy.typing as npt

    from onecopy._core.lookup import Detachable
    from onecopy._core.membership import PoolHandle
    from onecopy._core.shapes import ShapeLike
    from onecopy._core.typevars import Scalar
    from onecopy._native import Member
    from onecopy.locks.mutex import RLock
    from onecopy.stream import Policy
    from onecopy.values import Integer, Real, Synchronized

__all__ = ["Pool"]

_Part = TypeVar("_Part", bound="Detachable")

_SAME_SIZE = (
    2 << 20
)  # bytes by which a pool may be larger than asked for: it is made of whole extents
_LARGEST = 3  # things that the figures of a pool name
_ROUNDS = 100  # of "it is not there: make it; it is there: open it"


class Pool(LockFactory, ContainerFactory, ObjectFactory, ObjectDirectory):
    """A piece of shared memory in which objects, arrays, queues, streams, frames and locks live.

    ``Pool(name, size)`` opens the pool of that name, or makes it; `create` insists on making one,
    and `open` on finding one. Any process of the same user may join: by the name, or by getting the
    pool, or anything in it, as an argument, on a queue, or by a fork. The last process that leaves
    takes the pool along, unless it is persistent.

    A pool is a mapping too, a directory of named objects: ``pool["calibration"] = array``.

    Parameters
    ----------
    name : str or path-like
        Up to 100 letters, digits, dots, hyphens and underscores; or a path, with a slash in it.
    size : int or str, optional
        Bytes for data, or such as ``"512MB"`` and ``"2GiB"``. Memory is taken as it is needed.
        Default: what exists, else half of the free shared memory.
    backing, max_processes, persistent, prefault
        For a pool that is made; see `create`. With a path as `backing`, the pool in that file is
        opened if there is one, and gets the name.
    mode : int or "r", optional
        Permissions of a pool that is made; see `create`. ``"r"``: the pool must exist, and is
        opened for reading only; see `open`.

    Raises
    ------
    OneCopyError
        The pool exists with another size.
    PoolVersionError, PoolCorrupted, PermissionError
        The pool exists and cannot be used.
    PoolFull
        The machine does not have that much memory.
    ValueError, TypeError
        The name or size will not do.

    Notes
    -----
    Methods may be called by any number of threads and processes. A forked child is a member by
    itself. Objects got from the pool outlive the `Pool` object, `close`, and every other process.

    Where a forked child cannot be a member (all `max_processes` slots are taken, the process has
    dropped its rights or changed its root, or no descriptor is left) it lives, and whatever it does
    with the pool is a `OneCopyError` that says why. Arrays that it inherited are out of its reach:
    touching them is a segmentation fault. It may open the pool anew.
    """

    __slots__ = ("__weakref__", "_key", "_member", "_name", "_parts")

    def __init__(
        self,
        name: str | os.PathLike[str],
        size: int | str | None = None,
        *,
        backing: str | os.PathLike[str] = "shm",
        max_processes: int = MOST_PROCESSES,
        mode: int | Literal["r"] = 0o600,
        persistent: bool = False,
        prefault: bool = False,
    ) -> None:
        asked = None if size is None else parse_size(size)
        if isinstance(mode, str):
            self._set(open_pool(name, backing, is_readonly(mode, ("r",))))
            self._check_size(asked)
            return
        for _ in range(_ROUNDS):
            try:
                member = open_pool(name, backing)
            except PoolNotFound:
                pass
            else:
                self._set(member)
                self._check_size(asked)
                return
            try:
                self._set(
                    make_pool(name, asked, backing, max_processes, mode, persistent, prefault)
                )
            except PoolExists:
                continue
            return
        raise OneCopyError(
            f"pool {os.fspath(name)!r} keeps appearing and vanishing: other processes make and "
            "leave it all the time. Let one process keep it open"
        )

    @classmethod
    def create(
        cls,
        name: str | os.PathLike[str] | None = None,
        size: int | str | None = None,
        *,
        backing: str | os.PathLike[str] = "shm",
        max_processes: int = MOST_PROCESSES,
        mode: int = 0o600,
        persistent: bool = False,
        prefault: bool = False,
    ) -> Self:
        """Make a pool.

        Parameters
        ----------
        name : str or path-like, optional
            As for `Pool`. Default: a random one; the pool is then reached through what lives in it.
            For a pool in a file (`backing`), a name by which processes of this machine find it,
            until the pool directory is emptied (a reboot does that); the path does always.
        size : int or str, optional
            Bytes for data, as for `Pool`. Default: half of the free shared memory.
        backing : str or path-like, optional
            Where the memory is.

            ``"shm"``
                A file in the pool directory, in memory. Where /dev/shm is smaller than `size`
                (containers often have 64 MB), ``"memfd"`` is used instead, and a line logged.
            ``"memfd"``
                Anonymous memory, which /dev/shm does not limit.
            a path
                A file on disk, which stays when the last process leaves, however it does: a later
                one opens it by its path, and finds what stands under a name in it. It survives
                processes; for a loss of power see `flush`.
        max_processes : int, optional
            How many may be members at a time: 1 to 512, which is the default.
        mode : int, optional
            Permissions of the file. Where others may write (``0o660``, ``0o666``), nothing that
            comes out of the pool is unpickled, in any process (`Untrusted`): arrays, bytes,
            strings, numbers and tuples of them still travel. What the file says when a process
            joins is what counts for that process: a later ``chmod`` by the owner gives away a
            pool that its members go on trusting.
        persistent : bool, optional
            Whether the pool stays when the last process leaves.
        prefault : bool, optional
            Whether to take and touch all memory now, so that nothing waits for it later.

        Returns
        -------
        Pool

        Raises
        ------
        PoolExists
            The name is taken.
        PoolFull
            The machine does not have that much memory.
        PermissionError
            The directory belongs to somebody else, or others may write in it.
        ValueError, TypeError
            An argument will not do.
        """
        asked = None if size is None else parse_size(size)
        self = cls.__new__(cls)
        self._set(make_pool(name, asked, backing, max_processes, mode, persistent, prefault))
        return self

    @classmethod
    def open(cls, name: str | os.PathLike[str], mode: Literal["r", "r+"] = "r+") -> Self:
        """Join a pool that exists, or read one that nobody uses.

        Parameters
        ----------
        name : str or path-like
            As for `Pool`.
        mode : {"r+", "r"}, optional
            ``"r"``: for reading only. Any number of processes may read a pool that stayed behind
            (one in a file, or persistent), while nobody is a member of it, and nobody becomes one
            until the last reader has closed it, and let go of the arrays that it got. The file is
            never changed and need not be writable. `put`, `empty`, ``pool["x"] = …``, queues, locks
            and whatever else would change the pool raise `OneCopyError`; ``pool["x"]``, `list`,
            `stats` and `validate` work. Children made by fork are readers too. Arrays are
            read-only; on other pools' queues they travel by naming the pool, and are not copied.

        Returns
        -------
        Pool

        Raises
        ------
        PoolNotFound
            There is none, or its last process is dead.
        PoolVersionError
            It was made by a build with another memory layout.
        PoolCorrupted
            It is no pool, or damaged.
        PermissionError
            It belongs to another user, or (``"r+"``) may not be written.
        OneCopyError
            It is open for reading, or (``"r"``) has members: the message says who.
        """
        self = cls.__new__(cls)
        self._set(open_pool(name, readonly=is_readonly(mode, ("r", "r+"))))
        return self

    @classmethod
    def of(cls, member: Member) -> Self:
        """Wrap a membership that this process has; for the modules of this package."""
        self = cls.__new__(cls)
        self._set(member)
        return self

    def _set(self, member: Member) -> None:
        self._member: Member | None = member
        self._key = membership.key_of(member)
        self._name = paths.pool_name(member.path)
        self._parts: WeakSet[Detachable] = WeakSet()

    def _check_size(self, asked: int | None) -> None:
        existing = self.member.capacity
        if asked is not None and not 0 <= existing - asked < _SAME_SIZE:
            name = self._name
            self.close()
            raise OneCopyError(
                f"pool {name!r} exists with size={existing} ({format_size(existing)}), and was "
                f"asked for with size={asked} ({format_size(asked)}); leave size out to take it as "
                "it is, or use another name"
            )

    # ----------------------------------------------------------------------------- the pool itself

    @property
    def member(self) -> Member:
        """The membership of this process; for the modules of this package."""
        member = self._member
        if member is None:
            raise Closed(f"pool {self._name!r} was closed here; open it again to use it")
        return member

    @property
    def name(self) -> str:
        """The name, or the path, by which `open` finds the pool."""
        return self._name

    @property
    def id(self) -> bytes:
        """16 random bytes that no other pool has, but copies of its file."""
        return self._key[0]

    @property
    def size(self) -> int:
        """Bytes for data."""
        return self.member.capacity

    @property
    def readonly(self) -> bool:
        """Whether it was opened with ``mode="r"``."""
        return self.member.readonly

    @property
    def closed(self) -> bool:
        """Whether `close` was called on this object."""
        return self._member is None

    def stats(self) -> PoolStats:
        """Tell how full the pool is.

        Returns
        -------
        PoolStats
            The counts are from one instant, as far as one lock reaches. To find the largest things,
            every block that a thing keeps is looked at: ten thousand take some two milliseconds.
        """
        member = self.member
        largest = tuple(things_in(member)[:_LARGEST])
        return stats_from(self._name, member.stats(), largest)

    def validate(self) -> list[str]:
        """Check every invariant of the pool.

        Returns
        -------
        list of str
            The broken ones; empty when the pool is sound. Meant for a pool that nobody is changing:
            what is under way may look like damage.
        """
        return self.member.validate()

    def collect(self) -> int:
        """Clean up after processes that died, and give free memory back to the system.

        Returns
        -------
        int
            Blocks that dead processes had held, and that are free now. The same happens by itself
            whenever somebody waits for memory or for a lock. Copies that executors of this process
            keep to save time are let go of, too.
        """
        member = self.member
        memory_pressure.release_spare()
        reclaimed = member.collect()
        member.trim()
        return reclaimed

    def flush(self) -> None:
        """Write a pool in a file to the disk, and wait until it is there.

        Processes need no flush to see each other's writes, and neither does a process that opens
        the file later: this is for the machine's end, not for theirs. What was in the pool before
        the call is in the file after it, if nobody changed anything meanwhile. The pool as a whole
        is not protected against a loss of power while it is being changed: keep a copy.

        Without effect for a pool in memory, and for one that was opened for reading only.

        Raises
        ------
        OSError
            The disk is full, or failed.
        """
        self.member.flush()

    def close(self) -> None:
        """Let go of the pool in this process.

        Queues, locks and whatever else was made or opened by this object are let go of too, here
        and not for others. Threads that wait in one go on waiting until they get what they wait
        for, or their time is up. Arrays and references stay valid, and this process stays a member
        until the last of them is gone. Closing twice does nothing.
        """
        if self._member is None:
            return
        self._member = None  # from here on nothing is added
        parts, self._parts = self._parts, WeakSet()
        for part in list(parts):
            part.detach()

    def unlink(self) -> None:
        """Take the pool's name away now: nobody else can join, and its members go on.

        Raises
        ------
        PoolNotFound
            It has no name any more.
        """
        # First: if the pool directory is not to be trusted, nothing has happened yet. A reader, and
        # a process that is no member, takes no name away: `unlink` says why.
        path, may = self.member.path, self.member.joined and not self.member.readonly
        if may and os.path.dirname(path) not in {"", paths.pool_directory()}:  # noqa: PTH120 - pathlib is not loaded for this
            paths.forget_path(path)
        self.member.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by reference."""
        keep_for_child(self)
        return _rebuild, (membership.handle_of(self.member),)

    def __eq__(self, other: object) -> bool:
        """Tell whether both are the same pool; a copy of its file is another one."""
        return self._key == other._key if isinstance(other, Pool) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __bool__(self) -> bool:
        """Say true, also without a named object in it."""
        return True

    def __repr__(self) -> str:
        if self._member is None:
            return f"<onecopy.Pool {self._name!r}, closed>"
        if not self._member.joined:
            return f"<onecopy.Pool {self._name!r}, of which this process is no member>"
        counts = self._member.stats()
        taken = counts["used"] + counts["body_bytes"]
        used, size = format_size(taken), format_size(counts["capacity"])
        return f"<onecopy.Pool {self._name!r}, {used} of {size} in use>"

    @overload
    def value(
        self,
        typecode_or_type: Integer,
        *args: Any,
        name: str | None = None,
        lock: Literal[True] | RLock = True,
    ) -> Synchronized[int]: ...
    @overload
    def value(
        self,
        typecode_or_type: Real,
        *args: Any,
        name: str | None = None,
        lock: Literal[True] | RLock = True,
    ) -> Synchronized[float]: ...
    @overload
    def value(
        self, typecode_or_type: Any = None, *args: Any, name: str | None = None, lock: Any = True
    ) -> Any: ...
    def value(
        self,
        typecode_or_type: Any = None,
        *args: Any,
        name: str | None = None,
        lock: Any = True,
    ) -> Any:
        """Make a number, or another object of ctypes, or open one by its name.

        Parameters
        ----------
        typecode_or_type : str or type
            A type code (``"i"``, ``"d"``, …), or any type of ctypes: a structure, an array. May be
            left out to open one by its name.
        *args
            For its constructor. Default: zero. What exists keeps what it has.
        name : str, optional
            The first call with a name makes the value, and its lock; later ones open them.
        lock : bool or lock, optional
            True: a recursive lock, for all who have the value; False: none, and the bare object of
            ctypes is given; else the lock to use.

        Returns
        -------
        Synchronized or another SynchronizedBase, or ctypes object
            As from `onecopy.Value`.

        Raises
        ------
        OneCopyError
            The value of that name has another type; or there is none, and no type.
        PoolFull
            No room.
        TypeError, ValueError
            There is no such type, it refuses the arguments, or, with a name, numpy has no dtype
            like it.
        """
        return open_value(self, typecode_or_type, args, name, lock)

    # ------------------------------------------------------------------------------------- channels

    def queue(
        self,
        name: str | None = None,
        maxsize: int | None = None,
        redeliver: bool | None = None,
    ) -> Queue[Any]:
        """Make a queue, or open it by its name.

        Parameters
        ----------
        name : str, optional
            The first call with a name, in any process, makes the queue; later ones open it. Without
            a name it travels by reference.
        maxsize : int, optional
            Messages at most; 0: as many as fit the pool. Default: what exists, else 1024.
        redeliver : bool, optional
            Whether what a process took and did not finish (`Queue.task_done`) before it died goes
            back to the head of the queue; see `Queue`. Default: what exists, else False.

        Returns
        -------
        Queue

        Raises
        ------
        OneCopyError
            The queue of that name has another maxsize, or the other kind of delivery.
        PoolFull
            No room.
        ValueError
            `maxsize` is negative.
        """
        return self._own(open_queue(self, name, maxsize, redeliver))

    def stream(
        self, name: str | None = None, depth: int | None = None, policy: Policy | None = None
    ) -> Stream[Any]:
        """Make a stream, or open it by its name.

        Parameters
        ----------
        name : str, optional
            As for `queue`.
        depth : int, optional
            Messages that the stream keeps, and with them the arrays and frames in them. Default:
            what exists, else 16, and 2 with the policy "latest".
        policy : {"lossy", "lossless", "latest"}, optional
            What happens to a subscriber that falls behind; see `Stream`. Default: what exists, else
            "lossy".

        Returns
        -------
        Stream

        Raises
        ------
        OneCopyError
            The stream of that name has another depth or policy.
        PoolFull
            No room.
        ValueError
            There is no such policy, or the depth is below 1.
        """
        return self._own(open_stream(self, name, depth, policy))

    @overload
    def frames(
        self,
        name: str | None,
        shape: ShapeLike | None,
        dtype: type[Scalar] | np.dtype[Scalar],
        count: int | None = None,
    ) -> Frames[Scalar]: ...
    @overload
    def frames(
        self,
        name: str | None = None,
        shape: ShapeLike | None = None,
        *,
        dtype: type[Scalar] | np.dtype[Scalar],
        count: int | None = None,
    ) -> Frames[Scalar]: ...
    @overload
    def frames(
        self,
        name: str | None = None,
        shape: ShapeLike | None = None,
        dtype: npt.DTypeLike | None = None,
        count: int | None = None,
    ) -> Frames[Any]: ...
    def frames(
        self,
        name: str | None = None,
        shape: ShapeLike | None = None,
        dtype: npt.DTypeLike | None = None,
        count: int | None = None,
    ) -> Frames[Any]:
        """Make a set of equal arrays that go round, or open it by its name.

        Parameters
        ----------
        name : str, optional
            As for `queue`.
        shape : int or sequence of int
            Of each frame.
        dtype : dtype-like
            Of each frame.
        count : int
            How many frames.

        Returns
        -------
        Frames

        Raises
        ------
        OneCopyError
            Those of that name have another shape, dtype or count, and somebody has them open; or
            there are none, and shape or count was left out.
        PoolFull
            No room for all of them.

        Notes
        -----
        A set of frames that no process has open is room, and no data. So the name stands for new
        frames if a process asks for other ones, and where a pool is full the set is deleted. Frames
        of it that are on their way, or in somebody's hands, stay whole.
        """
        return self._own(open_frames(self, name, shape, dtype, count))

    def _own(self, part: _Part, /) -> _Part:
        self._parts.add(part)
        if self._member is None:  # another thread has closed the pool meanwhile
            part.detach()
        return part


def _rebuild(handle: PoolHandle) -> Pool:
    return Pool.of(membership.join(handle))
