"""A pool: one piece of shared memory, and everything that lives in it.

This file has more than 600 lines because its docstrings describe everything that a pool offers; the
code is in other modules.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload
from weakref import WeakSet

from onecopy._codec import arrays, pickler  # noqa: F401 - the pickler connects itself to the core
from onecopy._codec.object_factory import ObjectFactory
from onecopy._codec.transport import Transport
from onecopy._core import membership, memory_pressure, paths
from onecopy._core.keepalive import keep_for_child
from onecopy._core.object_directory import ObjectDirectory
from onecopy._core.places import MOST_PROCESSES
from onecopy._core.pool_files import is_readonly, make_pool, open_pool
from onecopy._core.pool_stats import PoolStats, stats_from
from onecopy._core.sizes import format_size, parse_size
from onecopy._core.things import things_in
from onecopy._core.until_made import until_made
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
    from onecopy._core.until_made import Wait
    from onecopy._native import Member
    from onecopy.locks.mutex import RLock
    from onecopy.stream import Policy
    from onecopy.values import Integer, Real, Synchronized

__all__ = ["Pool"]

_Sent = TypeVar("_Sent")  # the type of a channel's messages
_Part = TypeVar("_Part", bound="Detachable")

_SAME_SIZE = (
    2 << 20
)  # bytes by which a pool may be larger than requested: it consists of whole extents
_LARGEST = 3  # things that the statistics of a pool name
_ROUNDS = 100  # attempts to open the pool, else to make it


class Pool(LockFactory, ContainerFactory, ObjectFactory, Transport, ObjectDirectory):
    """A piece of shared memory in which objects, arrays, queues, streams, frames and locks live.

    ``Pool(name, size)`` opens the pool of that name, or makes it. `create` always makes a pool, and
    `open` always opens one. Any process of the same user may join: by the name; by a fork; or when
    it receives the pool, or anything in it, as an argument or on a queue. When the last process
    leaves, the pool is removed, unless it is persistent.

    A pool is also a mapping of names to objects: ``pool["calibration"] = array``.

    Parameters
    ----------
    name : str or path-like
        Up to 100 letters, digits, dots, hyphens and underscores; or a path, with a slash in it.
    size : int or str, optional
        Bytes for data, or a text like ``"512MB"`` or ``"2GiB"``. Memory is allocated when it is
        needed. Default: the size of the existing pool, else half of the free shared memory.
    backing, max_processes, persistent, prefault
        Used when a pool is made; see `create`. If `backing` is a path and that file exists, the
        pool in it is opened and gets the name.
    mode : int or "r", optional
        Permissions, if the pool is made; see `create`. ``"r"``: the pool must exist, and is opened
        for reading only; see `open`.

    Raises
    ------
    OneCopyError
        The pool exists with another size.
    PoolVersionError, PoolCorrupted, PermissionError
        The pool exists and cannot be used.
    PoolFull
        The machine does not have that much memory.
    ValueError, TypeError
        The name or the size is not valid.

    Notes
    -----
    Any number of threads and processes may call the methods. A forked child becomes a member
    automatically. Objects of the pool outlive the `Pool` object, `close`, and every other process.

    A forked child may be unable to become a member: all `max_processes` slots are taken, the
    process has dropped its rights or changed its root, or no descriptor is left. Then the child
    continues, and every use of the pool raises a `OneCopyError` that says why. The arrays that it
    inherited are not mapped in the child: accessing them is a segmentation fault. The child may
    open the pool again.

    Examples
    --------
    A pool is opened by its name in each program:

    >>> pool = oc.Pool("studio", size="64MiB")
    >>> oc.Pool.open("studio") == pool  # it must exist
    True
    >>> oc.Pool.create(size="1MiB").close()  # it must not; this one has no name
    >>> pool
    <onecopy.Pool 'studio', ... of 64.0 MiB in use>

    Arrays are allocated in it, or copied into it:

    >>> image = pool.empty((480, 640), np.uint8)
    >>> zeros, sevens = pool.zeros(3), pool.full(3, 7)
    >>> pool.array([1, 2]), sevens
    (array([1, 2]), array([7, 7, 7]))
    >>> total = pool.shared_array(4, np.int64)  # every process that has it may write

    Objects have names, or are referred to:

    >>> pool["calibration"] = {"gain": 2.0, "dark": image}
    >>> pool["calibration"]["gain"], pool.get("missing", 0)
    (2.0, 0)
    >>> pool.update(size=(480, 640), gain=1)
    >>> sorted(pool.keys()), len(list(pool.values())), dict(pool.items())["gain"]
    (['calibration', 'gain', 'size'], 3, 1)
    >>> pool.setdefault("gain", 5), pool.pop("gain")
    (1, 1)
    >>> pool.popitem()[0] in ("calibration", "size")
    True
    >>> pool.clear()
    >>> pool.put("anything that pickle takes").get()
    'anything that pickle takes'

    Everything that processes share has a name, too. The first call makes it, each other call opens
    it:

    >>> jobs, pictures = pool.queue("jobs"), pool.stream("pictures")
    >>> frames = pool.frames("buffers", (480, 640), np.uint8, 4)
    >>> settings, results = pool.dict(name="settings"), pool.list(name="results")
    >>> lock, rlock, rwlock = pool.lock("l"), pool.rlock("r"), pool.rwlock("rw")
    >>> condition, event, barrier = pool.condition("c"), pool.event("e"), pool.barrier("b", 2)
    >>> tokens, limited = pool.semaphore("s", 2), pool.bounded_semaphore("bs", 2)
    >>> counter = pool.value("i", 0)
    >>> pool.delete("jobs")  # the name is free; processes that have the queue keep it

    What is in the pool, and what dead processes left:

    >>> pool.stats().processes, pool.validate(), pool.collect()
    (1, [], 0)
    >>> pool.flush()  # for a pool in a file on a disk: until it is there
    >>> pool.unlink()  # no other process can join any more
    >>> pool.close()
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
            f"pool {os.fspath(name)!r} was made and removed again and again: other processes make "
            "it and leave it. Keep it open in one process"
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
            As for `Pool`. Default: a random name; other processes then reach the pool through an
            object in it. For a pool in a file (`backing`): a name by which processes of this
            machine find it until the pool directory is emptied, as a reboot does. The path always
            works.
        size : int or str, optional
            Bytes for data, as for `Pool`. Default: half of the free shared memory.
        backing : str or path-like, optional
            Where the memory is.

            ``"shm"``
                A file in the pool directory, in memory. If /dev/shm is smaller than `size`
                (containers often have 64 MB), ``"memfd"`` is used instead, and a line is logged.
            ``"memfd"``
                Anonymous memory, which /dev/shm does not limit.
            a path
                A file on disk. It stays when the last process leaves, also if that process is
                killed. A later process opens it by its path and finds the named objects in it. For
                a loss of power see `flush`.
        max_processes : int, optional
            How many processes may be members at the same time: 1 to 512. Default: 512.
        mode : int, optional
            Permissions of the file. If other users may write (``0o660``, ``0o666``), no process
            unpickles anything from the pool (`Untrusted`); arrays, bytes, strings, numbers, and
            lists, dicts, tuples and sets of them still travel. A process checks the permissions
            when it joins. If the owner makes the file writable for others later by ``chmod``,
            existing members still trust the pool.
        persistent : bool, optional
            Whether the pool stays when the last process leaves.
        prefault : bool, optional
            Whether to allocate and touch all memory now, so that later operations need not wait for
            it.

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
            The directory belongs to another user, or other users may write in it.
        ValueError, TypeError
            An argument is not valid.
        """
        asked = None if size is None else parse_size(size)
        self = cls.__new__(cls)
        self._set(make_pool(name, asked, backing, max_processes, mode, persistent, prefault))
        return self

    @classmethod
    def open(
        cls,
        name: str | os.PathLike[str],
        mode: Literal["r", "r+"] = "r+",
        *,
        wait: Wait = False,
    ) -> Self:
        """Join an existing pool, or open an unused pool for reading.

        Parameters
        ----------
        name : str or path-like
            As for `Pool`.
        mode : {"r+", "r"}, optional
            ``"r"``: for reading only. Any number of processes may read a pool in a file, or a
            persistent pool, while it has no members. No process can become a member until the last
            reader has closed the pool and released its arrays. The file is never changed and need
            not be writable. `put`, `empty`, ``pool["x"] = …``, queues, locks, and everything else
            that would change the pool raise `OneCopyError`; ``pool["x"]``, `list`, `stats` and
            `validate` work. Forked children are readers, too. Arrays are read-only. On queues of
            other pools they travel by the name of this pool, and are not copied.
        wait : bool or float, optional
            If it is not False, wait until another process has made the pool. A number limits the
            wait, in seconds. Default: False.

        Returns
        -------
        Pool

        Raises
        ------
        PoolNotFound
            There is no such pool, or its last process is dead; also at the end of `wait`.
        PoolVersionError
            It was made by a build with another memory layout.
        PoolCorrupted
            It is not a pool, or it is damaged.
        PermissionError
            It belongs to another user, or (``"r+"``) this process may not write to it.
        OneCopyError
            It is open for reading, or (``"r"``) it has members. The message names the process.
        """
        self = cls.__new__(cls)
        readonly = is_readonly(mode, ("r", "r+"))
        self._set(until_made(lambda: open_pool(name, readonly=readonly), PoolNotFound, wait))
        return self

    @classmethod
    def of(cls, member: Member) -> Self:
        """Make a `Pool` from a membership of this process; for the modules of this package."""
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
                f"pool {name!r} exists with size={existing} ({format_size(existing)}), but this "
                f"call has size={asked} ({format_size(asked)}); leave size out to use the existing "
                "pool, or use another name"
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
        """16 random bytes. Only a copy of the pool's file has the same ones."""
        return self._key[0]

    @property
    def size(self) -> int:
        """Bytes for data."""
        return self.member.capacity

    @property
    def readonly(self) -> bool:
        """Whether the pool was opened with ``mode="r"``."""
        return self.member.readonly

    @property
    def closed(self) -> bool:
        """Whether `close` was called on this object."""
        return self._member is None

    def stats(self) -> PoolStats:
        """Return how full the pool is.

        Returns
        -------
        PoolStats
            Counts that one lock protects are from one instant. To find the largest things, this
            visits every block that a thing keeps; ten thousand blocks take about two milliseconds.
        """
        member = self.member
        largest = tuple(things_in(member)[:_LARGEST])
        return stats_from(self._name, member.stats(), largest)

    def validate(self) -> list[str]:
        """Check every invariant of the pool.

        Returns
        -------
        list of str
            The broken invariants; empty if the pool is sound. No process should change the pool
            during the check, because an unfinished operation may look like damage.
        """
        return self.member.validate()

    def collect(self) -> int:
        """Clean up after dead processes, and return free memory to the system.

        Returns
        -------
        int
            The number of blocks that dead processes held and that are free now. Processes that wait
            for memory or for a lock clean up, too, without a call. `collect` also releases the
            copies that executors of this process keep to save time.
        """
        member = self.member
        memory_pressure.release_spare()
        reclaimed = member.collect()
        member.trim()
        return reclaimed

    def flush(self) -> None:
        """Write a pool in a file to the disk, and wait until it is there.

        A flush is needed only against a crash of the machine or a loss of power. Processes see each
        other's writes without it, and so does a process that opens the file later. If no process
        changes the pool during the call, the file then contains the whole pool. If power is lost
        while a process changes the pool, the pool may be damaged: keep a copy.

        `flush` has no effect for a pool in memory, or for a pool that was opened for reading only.

        Raises
        ------
        OSError
            The disk is full, or failed.
        """
        self.member.flush()

    def close(self) -> None:
        """Release the pool in this process.

        Queues, locks, and everything else that was made or opened through this object are released,
        too, in this process only. A thread that waits in one of them continues to wait until it
        succeeds or its time is up. Arrays, references and subscriptions stay valid. The process
        stays a member until the last of them is gone. Closing twice does nothing.
        """
        if self._member is None:
            return
        self._member = None  # from here on no part is added
        parts, self._parts = self._parts, WeakSet()
        for part in list(parts):
            part.detach()

    def unlink(self) -> None:
        """Remove the name of the pool now. No other process can join. Members keep the pool.

        Raises
        ------
        PoolNotFound
            The pool has no name any more.
        """
        # Before the unlink: if the pool directory is not safe, this raises and nothing has changed.
        # A reader, or a process that is not a member, removes no name: `unlink` raises and says
        # why.
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
        """Tell whether both are the same pool. A copy of the file is a different pool."""
        return self._key == other._key if isinstance(other, Pool) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __bool__(self) -> bool:
        """Return True, also if the pool contains no named object."""
        return True

    def __repr__(self) -> str:
        if self._member is None:
            return f"<onecopy.Pool {self._name!r}, closed>"
        if not self._member.joined:
            return f"<onecopy.Pool {self._name!r}, not a member>"
        counts = self._member.stats()
        taken = counts["used"] + counts["body_bytes"]
        used, size = format_size(taken), format_size(counts["capacity"])
        return f"<onecopy.Pool {self._name!r}, {used} of {size} in use>"

    def _repr_html_(self) -> str | None:
        """Return a table for notebooks: how full the pool is, and the largest things in it."""
        if self._member is None or not self._member.joined:
            return None
        from onecopy._core.cards import card

        stats = self.stats()
        used, size = format_size(stats.used + stats.structure_bytes), format_size(stats.size)
        rows = [
            ("in use", f"{used} of {size}"),
            ("blocks", f"{stats.blocks:,}"),
            ("processes", f"{stats.processes:,} of {stats.max_processes:,}"),
        ]
        for thing in stats.largest:
            name = "" if thing.name is None else f" {thing.name!r}"
            rows.append((f"{thing.kind}{name}", format_size(thing.bytes)))
        return card(f"Pool {self._name!r}", rows)

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
        """Make a number or another ctypes object, or open one by its name.

        Parameters
        ----------
        typecode_or_type : str or type
            A type code (``"i"``, ``"d"``, …), or any ctypes type: a structure, an array. Leave it
            out to open an existing value by its name.
        *args
            Arguments of its constructor. Default: zero. An existing value does not change.
        name : str, optional
            The first call with a name makes the value and its lock. Later calls open them.
        lock : bool or lock, optional
            True: a recursive lock, shared by all processes that have the value. False: no lock; the
            bare ctypes object is returned. Otherwise: the lock to use.

        Returns
        -------
        Synchronized or another SynchronizedBase, or ctypes object
            As from `onecopy.Value`.

        Raises
        ------
        OneCopyError
            The value of that name has another type; or it does not exist, and no type was passed.
        PoolFull
            The pool has no room.
        TypeError, ValueError
            There is no such type, or it refuses the arguments. With a name: numpy has no dtype for
            it.
        """
        return open_value(self, typecode_or_type, args, name, lock)

    # ------------------------------------------------------------------------------------- channels

    @overload
    def queue(
        self,
        name: str | None = None,
        maxsize: int | None = None,
        redeliver: bool | None = None,
        *,
        type: type[_Sent],
        wait: Wait = False,
    ) -> Queue[_Sent]: ...
    @overload
    def queue(
        self,
        name: str | None = None,
        maxsize: int | None = None,
        redeliver: bool | None = None,
        *,
        type: object = None,
        wait: Wait = False,
    ) -> Queue[Any]: ...
    def queue(
        self,
        name: str | None = None,
        maxsize: int | None = None,
        redeliver: bool | None = None,
        *,
        type: Any = None,  # noqa: A002 - what it is
        wait: Wait = False,
    ) -> Queue[Any]:
        """Make a queue, or open it by its name.

        Parameters
        ----------
        name : str, optional
            The first call with a name, in any process, makes the queue. Later calls open it. A
            queue without a name can be sent by reference.
        maxsize : int, optional
            The greatest number of messages. 0: as many as fit the pool. Default: the value of the
            existing queue, else 1024.
        redeliver : bool, optional
            Whether objects return to the head of the queue if the process that took them dies
            before it finishes them (`Queue.task_done`); see `Queue`. Default: the value of the
            existing queue, else False.
        type : type, optional
            The type of all messages: a dataclass, NamedTuple, TypedDict or `msgspec.Struct` with
            annotations, or an annotation. `Shape` gives arrays a shape. The pool keeps it as a
            schema. A message of another type is refused before anything is written, and the error
            names the field. Nothing is pickled. Default: the type of the existing queue, with dicts
            in the place of its classes; else any object.
        wait : bool or float, optional
            If it is not False, the call only opens the queue: it waits until another process has
            made it. A number limits the wait, in seconds. Default: False.

        Returns
        -------
        Queue

        Raises
        ------
        OneCopyError
            The queue of that name has another `maxsize`, `redeliver` or type. The message shows
            both types, field by field. Or the time of `wait` is up.
        PoolFull
            The pool has no room.
        ValueError
            `maxsize` is negative, or `wait` is passed without a name.
        TypeError
            `type` cannot be the type of messages.
        """
        return self._own(open_queue(self.member, name, maxsize, redeliver, type, wait))

    @overload
    def stream(
        self,
        name: str | None = None,
        depth: int | None = None,
        policy: Policy | None = None,
        *,
        type: type[_Sent],
        wait: Wait = False,
    ) -> Stream[_Sent]: ...
    @overload
    def stream(
        self,
        name: str | None = None,
        depth: int | None = None,
        policy: Policy | None = None,
        *,
        type: object = None,
        wait: Wait = False,
    ) -> Stream[Any]: ...
    def stream(
        self,
        name: str | None = None,
        depth: int | None = None,
        policy: Policy | None = None,
        *,
        type: Any = None,  # noqa: A002 - what it is
        wait: Wait = False,
    ) -> Stream[Any]:
        """Make a stream, or open it by its name.

        Parameters
        ----------
        name : str, optional
            As for `queue`.
        depth : int, optional
            How many messages the stream keeps, with their arrays and frames. Default: the value of
            the existing stream, else 16, or 2 with the policy "latest".
        policy : {"lossy", "lossless", "latest"}, optional
            What happens to a subscriber that falls behind; see `Stream`. Default: the policy of the
            existing stream, else "lossy".
        type : type, optional
            The type of all messages; as for `queue`.
        wait : bool or float, optional
            If it is not False, the call only opens the stream: it waits until another process has
            made it. A number limits the wait, in seconds. Default: False.

        Returns
        -------
        Stream

        Raises
        ------
        OneCopyError
            The stream of that name has another depth, policy or type; or the time of `wait` is up.
        PoolFull
            The pool has no room.
        ValueError
            There is no such policy, the depth is below 1, or `wait` is passed without a name.
        TypeError
            `type` cannot be the type of messages.
        """
        return self._own(open_stream(self.member, name, depth, policy, type, wait))

    @overload
    def frames(
        self,
        name: str | None,
        shape: ShapeLike | None,
        dtype: type[Scalar] | np.dtype[Scalar],
        count: int | None = None,
        *,
        wait: Wait = False,
    ) -> Frames[Scalar]: ...
    @overload
    def frames(
        self,
        name: str | None = None,
        shape: ShapeLike | None = None,
        *,
        dtype: type[Scalar] | np.dtype[Scalar],
        count: int | None = None,
        wait: Wait = False,
    ) -> Frames[Scalar]: ...
    @overload
    def frames(
        self,
        name: str | None = None,
        shape: ShapeLike | None = None,
        dtype: npt.DTypeLike | None = None,
        count: int | None = None,
        *,
        wait: Wait = False,
    ) -> Frames[Any]: ...
    def frames(
        self,
        name: str | None = None,
        shape: ShapeLike | None = None,
        dtype: npt.DTypeLike | None = None,
        count: int | None = None,
        *,
        wait: Wait = False,
    ) -> Frames[Any]:
        """Make a set of equal arrays that are used again and again, or open it by its name.

        Parameters
        ----------
        name : str, optional
            As for `queue`.
        shape : int or sequence of int
            The shape of each frame.
        dtype : dtype-like
            The dtype of each frame.
        count : int
            How many frames.
        wait : bool or float, optional
            If it is not False, the call only opens the frames: it waits until another process has
            made them. A number limits the wait, in seconds. Default: False.

        Returns
        -------
        Frames

        Raises
        ------
        OneCopyError
            The frames of that name have another shape, dtype or count, and a process has them open;
            or they do not exist, and shape or count was left out; or the time of `wait` is up.
        PoolFull
            The pool has no room for all of them.

        Notes
        -----
        A set of frames that no process has open contains no data that anyone can expect to find. So
        if a process asks for other frames under its name, the name then stands for new frames. If
        the pool becomes full, the set is deleted. Frames of the set that are in a message, or that
        a process holds, stay valid.
        """
        return self._own(open_frames(self.member, name, shape, dtype, count, wait))

    def _own(self, part: _Part, /) -> _Part:
        self._parts.add(part)
        if self._member is None:  # another thread has closed the pool meanwhile
            part.detach()
        return part


def _rebuild(handle: PoolHandle) -> Pool:
    return Pool.of(membership.join(handle))
