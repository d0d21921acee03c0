"""`SharedMemory` and `ShareableList`, as `multiprocessing.shared_memory` has them.

A segment is the same file as there, so plain processes attach to ours and we to theirs. The
difference is who cleans up: there is no tracker process. A segment lives until `unlink`, or until
no process has it any more and the program that made it has ended, however its processes end.
"""

from __future__ import annotations

import operator
import os
import sys
from contextlib import suppress
from functools import partial
from types import GenericAlias
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

from onecopy import _native
from onecopy._core import leaving
from onecopy._core.keepalive import drop_for_ended, keep_for_child
from onecopy._core.segments import Segment, checked_name
from onecopy._native import MappedMemory, Mapping, ShareableListBase, own_methods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from onecopy._core.segments import Kind

__all__ = ["ShareableList", "SharedMemory", "UnsupportedItem"]

_USE_POSIX = True
_SHM_NAME_PREFIX = "/psm_"


def _make_filename() -> str:
    """Invent a name, in the standard library's manner."""
    return _SHM_NAME_PREFIX + os.urandom(4).hex()


def _invented() -> Iterator[str]:
    while True:
        yield _make_filename().lstrip("/")


class UnsupportedItem(KeyError, TypeError):
    """A value that a `ShareableList` cannot hold."""

    __str__ = Exception.__str__  # a KeyError would put it into quotes


class _UntrackedName(str):
    """The name of a segment that the standard library's tracker process does not know.

    Programs that attach to segments tell the tracker to forget them (`resource_tracker.unregister`
    with `_name`): without that it would remove them. It knows none of ours, and would print a
    traceback. So the tracker is told of it just before.
    """

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        caller = sys._getframe(1)
        if caller.f_code.co_name == "_send" and caller.f_locals.get("cmd") == "UNREGISTER":
            tracker, kind = caller.f_locals["self"], caller.f_locals["rtype"]
            tracker._send("REGISTER", str(self), kind)
        return format(str(self), spec)


class SharedMemory:
    """Memory that several processes have by name.

    Parameters
    ----------
    name : str, optional
        Default, with `create`: a new one such as ``psm_1f2e3d4c``.
    create : bool
        Whether to make it; else it is attached to.
    size : int
        Bytes, to create. It has exactly so many, all zero and all reserved. Ignored when attaching.
    track : bool
        To create: False keeps it until `unlink`, whoever lives. Ignored when attaching: that never
        changes when a segment goes.

    Attributes
    ----------
    buf : memoryview or None
        The memory; None once it was closed.
    name : str
        Without a slash.
    size : int
        In bytes.
    kind : str
        "onecopy", or "multiprocessing" for one that the standard library or another program made.

    Raises
    ------
    FileExistsError
        It was to be created, and is there.
    FileNotFoundError
        It is not there, or all processes that had or kept it are dead.
    PoolFull
        /dev/shm has no room for it; a MemoryError.
    ValueError
        The size is not positive, or there is no name.
    OneCopyError, PermissionError
        The name is a pool's, a link's or pipe's, or another user's.

    Notes
    -----
    *How long it lives.* Until somebody calls `unlink`; or until the program that made it has ended
    and the last `SharedMemory` object for it is gone, in whatever process, by whatever end. The
    program is the top of the tree of processes: in a child of multiprocessing, the process that
    started it (by fork: the top of that one's tree, also for a plain ``os.fork``). So a child may
    make a segment, `close` it, give its name back and end. A program that ends by itself takes
    what is left of it along, if it has loaded this module; who was killed is noticed by the next
    process that makes or attaches to a segment, makes a pool, or runs ``onecopy gc``. In a program
    that runs for long, `unlink` what is not needed any more: neither `close` nor the end of the
    object or of a child frees it. ``onecopy ls`` shows what nobody has as "kept". Of a container
    that shares /dev/shm and was killed, the machine sweeps, or another process of that container,
    but no other container: programs cannot be seen from there.

    `close` gives this process's memory back: the object still counts as a user until it is deleted,
    so that ``close()`` and then ``unlink()`` works as ever. A segment of the standard library's
    goes when *it* says so: with the tracker of one of its processes, or by `unlink`.

    *Arrays.* `close` never fails: arrays and views of `buf` keep the memory, though not the name.

    *Pickling* sends the name. A process that is being started with one as an argument keeps it
    alive from the parent; on a queue, keep the object until the receiver has attached.

    *Fork.* A child has what its parent has, until both have let go, or ended.
    *Threads* may share an object.

    A file made by onecopy has the sticky bit (mode 01600, or 01700 with ``track=False``); see
    ``docs/design/0016-storage.md``.
    """

    # As in the standard library: with a slash in front; None: there is nothing to let go of.
    _name: str | None = None
    _segment: Segment | None = None
    _mapping: Mapping | None = None
    _buf: memoryview | None = None
    _size = 0

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True
    ) -> None:
        _give_back()
        size = operator.index(size)
        if size < 0:
            raise ValueError(f"'size' must be a positive integer, not {size}")
        if create:
            self._create(name, size, track=track)
            return
        if name is None:
            raise ValueError("'name' can only be None if create=True")
        segment = Segment.attach(checked_name(name))
        try:
            self._have(segment, Mapping(segment.fileno(), segment.size))
        except BaseException:
            segment.release()
            raise

    @classmethod
    def _filled(cls, name: str | None, size: int, fill: Callable[[Mapping], None]) -> Self:
        """Create one that has its contents before anybody can attach to it."""
        self = cls.__new__(cls)
        self._create(name, size, fill=fill)
        return self

    def _create(
        self,
        name: str | None,
        size: int,
        *,
        track: bool = True,
        fill: Callable[[Mapping], None] | None = None,
    ) -> None:
        if size == 0:
            raise ValueError("'size' must be a positive number different from zero")
        names = _invented() if name is None else iter([checked_name(name)])
        mapping: Mapping

        def prepare(fd: int) -> None:
            nonlocal mapping
            mapping = Mapping(fd, size)
            if fill is not None:
                fill(mapping)

        segment = Segment.create(names, size, track=bool(track), fill=prepare)
        self._have(segment, mapping)

    def _have(self, segment: Segment, mapping: Mapping) -> None:
        self._segment, self._mapping = segment, mapping
        self._name, self._size = _UntrackedName(f"/{segment.name}"), segment.size
        self._kind: Kind = segment.kind
        self._track = segment.track
        self._buf = memoryview(MappedMemory(mapping))

    def __del__(self, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
        # Of an interpreter that ends, modules may be gone already. The native core lets go of all
        # segments after that.
        if self._segment is None or _ending():
            return
        self.close()
        with suppress(OSError):  # the next one sweeps
            self._segment.release()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._segment is not None:
            self._segment.check_held()
        keep_for_child(self)
        return self.__class__, (self.name, False, self.size)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.name!r}, size={self.size})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def buf(self) -> memoryview | None:
        """The memory, or None once it was closed."""
        return self._buf

    @property
    def name(self) -> str:
        """By which others attach to it."""
        return "" if self._name is None else self._name.removeprefix("/")

    @property
    def size(self) -> int:
        """Its bytes."""
        return self._size

    @property
    def kind(self) -> Kind:
        """Who made it: "onecopy" or "multiprocessing"."""
        return self._kind

    def close(self) -> None:
        """Give this process's memory of it back, once no array or view of it is left.

        Idempotent, and never an error. The segment stays: this object counts as its user until it
        is deleted or unlinked.
        """
        self._buf = None
        if self._mapping is not None:
            self._mapping.close()
        if self._segment is not None:
            _closed.add(self)

    def unlink(self) -> None:
        """Take its name away: nobody can attach to it any more; who has it keeps it.

        Raises
        ------
        FileNotFoundError
            Its name is gone already; one that was made anew under the name is not touched.
        """
        if self._segment is not None:
            self._segment.unlink()


# Objects that still count as users, though their memory is closed. If others have taken the name
# meanwhile, nothing but our descriptor keeps the memory.
_closed: WeakSet[SharedMemory] = WeakSet()


def _give_back() -> None:
    """Let go of what is kept for nobody: looked at whenever a segment is made or attached to."""
    drop_for_ended()
    for shm in list(_closed):
        if shm._segment is not None and not shm._segment.release_unnamed():
            continue
        _closed.discard(shm)


@own_methods
class ShareableList(ShareableListBase):
    """A list of fixed length in shared memory, whose items are replaced whole.

    Parameters
    ----------
    sequence : iterable, optional
        Its items: int of 64 bits, float, bool, str and bytes of less than 10 MB, None. A str or
        bytes has room for ``8 * (len(item) // 8 + 1)`` bytes, as in the standard library; for more
        if its UTF-8 needs more.
    name : str, optional
        Of its shared memory: of the new one, or, without `sequence`, of the one to attach to.

    Attributes
    ----------
    shm : SharedMemory
        Where it lies. `ShareableList` is used as long as that is not closed.
    format : str
        What `struct` would call the items, as in the standard library.

    Raises
    ------
    UnsupportedItem
        An item of another type; a KeyError (as in the standard library) and a TypeError.
    struct.error
        An int of more than 64 bits.
    ValueError
        A str or bytes that is too large: for a list, or for the room of its item.
    OneCopyError
        Attaching to shared memory in which no such list lies; lists of the standard library are
        laid out otherwise.
    TimeoutError
        Setting an item that a process of another PID namespace has been setting for 5 seconds:
        whether that lives cannot be seen from here.
    PoolFull
        /dev/shm has no room for it.

    Notes
    -----
    Processes and threads may read and write the same items at once: a reader gets an
    item as somebody wrote it, never parts of two. A process that is killed at any instruction
    leaves the old item or the new one, and is in nobody's way. Two changes of one item are not one
    step: for ``l[i] += 1`` in two processes, use a lock.

    Trailing NULs survive, other than in the standard library.
    """

    __slots__ = ("__dict__",)
    shm: SharedMemory

    def __init__(self, sequence: Iterable[Any] | None = None, *, name: str | None = None) -> None:
        if name is None or sequence is not None:
            items = [] if sequence is None else list(sequence)
            self.shm = SharedMemory._filled(
                name, self._needed(items), lambda mapping: self._fill(mapping, items)
            )
        else:
            self.shm = SharedMemory(name)
        assert self.shm._mapping is not None  # noqa: S101 - it was just made
        super().__init__(self.shm._mapping)

    def __reduce__(self) -> tuple[Any, ...]:
        keep_for_child(self)
        return partial(self.__class__, name=self.shm.name), ()

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({list(self)}, name={self.shm.name!r})"

    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)


# What children have made is kept by this process, also if it makes and attaches to nothing.
_native.keep_segments()
leaving.arrange()
