"""`SharedMemory` and `ShareableList`, as `multiprocessing.shared_memory` has them.

A segment is the same file as in the standard library. So processes with and without onecopy attach
to each other's segments. The difference is that no tracker process cleans up. A segment exists
until `unlink`, or until the program that made it has ended and no process has the segment any more.
It does not matter how these processes end.
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
    from types import FrameType, TracebackType
    from typing import Self

    from onecopy._core.segments import Kind

__all__ = ["ShareableList", "SharedMemory", "UnsupportedItem"]

_USE_POSIX = True
_SHM_NAME_PREFIX = "/psm_"


def _make_filename() -> str:
    """Return a random name like those of the standard library."""
    return _SHM_NAME_PREFIX + os.urandom(4).hex()


def _random_names() -> Iterator[str]:
    while True:
        yield _make_filename().lstrip("/")


class UnsupportedItem(KeyError, TypeError):
    """A value that a `ShareableList` cannot hold."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # the one of KeyError adds quotes


class _UntrackedName(str):
    """The name of a segment that the standard library's tracker process does not know.

    Programs that attach to segments unregister them at the tracker
    (`resource_tracker.unregister` with `_name`), because otherwise the tracker removes them. The
    tracker does not know the segments of onecopy, and would print a traceback. Therefore this class
    registers the segment just before it is unregistered.
    """

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        self._meet_the_tracker(sys._getframe(1))
        return format(str(self), spec)

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        self._meet_the_tracker(sys._getframe(1))  # from Python 3.15 on, instead of `format`
        return str(self).encode(encoding, errors)

    def _meet_the_tracker(self, caller: FrameType) -> None:
        """Register the name, if this is the function that is about to unregister it."""
        if caller.f_code.co_name == "_send" and caller.f_locals.get("cmd") == "UNREGISTER":
            tracker, kind = caller.f_locals["self"], caller.f_locals["rtype"]
            tracker._send("REGISTER", str(self), kind)


class SharedMemory:
    """Memory that several processes use by name.

    Parameters
    ----------
    name : str, optional
        Default with `create`: a new name, for example ``psm_1f2e3d4c``.
    create : bool
        Whether to make the segment. Otherwise this object attaches to an existing one.
    size : int
        The size of a new segment in bytes. It has exactly this size; all bytes are zero, and their
        memory is reserved. Ignored when attaching.
    track : bool
        For a new segment: False keeps it until `unlink`, also if no process uses it. Ignored when
        attaching: to attach never changes how long a segment exists.

    Attributes
    ----------
    buf : memoryview or None
        The memory; None after `close`.
    name : str
        Without a slash.
    size : int
        In bytes.
    kind : str
        "onecopy", or "multiprocessing" if the standard library or another program made it.

    Raises
    ------
    FileExistsError
        With `create`: the segment exists already.
    FileNotFoundError
        The segment does not exist, or all processes that had or kept it are dead.
    PoolFull
        /dev/shm has no room for it. The error is a MemoryError too.
    ValueError
        The size is not positive, or there is no name.
    OneCopyError, PermissionError
        The name belongs to a pool, a link, a pipe, or to another user.

    Notes
    -----
    *How long a segment exists.* It exists until a process calls `unlink`. Without that, it exists
    until the program that made it has ended and no process has a `SharedMemory` object for it,
    however these processes ended. The program is the process at the top of the tree of processes.
    In a child of multiprocessing, it is the process that started the child. In a forked child (also
    of ``os.fork``), it is the top of the parent's tree. So a child may make a segment, `close` it,
    return its name and end. A program that has loaded this module removes its segments when it
    ends by itself. If it was killed, the next process that makes or attaches to a segment, makes a
    pool, or runs ``onecopy gc`` removes them. In a program that runs for a long time, `unlink`
    segments that are not needed any more: neither `close`, nor the end of the object or of a child,
    frees them. ``onecopy ls`` shows a segment that no process has open as "kept". If a container
    that shares /dev/shm was killed, the host or another process of that container removes its
    segments. Other containers cannot see its processes.

    `close` releases the memory in this process. The object counts as a user until it is deleted, so
    ``close()`` followed by ``unlink()`` works as in the standard library. A segment of the standard
    library is removed by the tracker of one of its processes, or by `unlink`.

    *Arrays.* `close` never fails: arrays and views of `buf` keep the memory, but not the name.

    *Pickling* sends the name. If a segment is an argument of a process that is being started, the
    parent keeps the segment until that process has attached. If a segment is sent through a queue,
    keep the object until the receiver has attached.

    *Fork.* A forked child has the segments of its parent. Each exists until both have released it,
    or have ended. *Threads* may share an object.

    A file made by onecopy has the sticky bit (mode 01600, or 01700 with ``track=False``); see
    ``docs/design/0016-storage.md``.
    """

    # As in the standard library: with a slash in front. None: no segment to release.
    _name: str | None = None
    _segment: Segment | None = None
    _mapping: Mapping | None = None
    _buf: memoryview | None = None
    _size = 0

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True
    ) -> None:
        _release_unneeded()
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
        """Create a segment that has its contents before another process can attach to it."""
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
        names = _random_names() if name is None else iter([checked_name(name)])
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
        # When the interpreter ends, modules may be cleared already. The native core releases all
        # segments after that.
        if self._segment is None or _ending():
            return
        self.close()
        with suppress(OSError):  # then the next sweep removes it
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
        """The memory, or None after `close`."""
        return self._buf

    @property
    def name(self) -> str:
        """The name by which other processes attach to it."""
        return "" if self._name is None else self._name.removeprefix("/")

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self._size

    @property
    def kind(self) -> Kind:
        """Which library made it: "onecopy" or "multiprocessing"."""
        return self._kind

    def close(self) -> None:
        """Release the memory in this process as soon as no array or view of it is left.

        Idempotent; never raises an error. The segment stays: this object counts as its user until
        it is deleted or unlinked.
        """
        self._buf = None
        if self._mapping is not None:
            self._mapping.close()
        if self._segment is not None:
            _closed.add(self)

    def unlink(self) -> None:
        """Remove the name: no process can attach to it any more. Existing mappings stay valid.

        Raises
        ------
        FileNotFoundError
            The name was removed already. A new segment of the same name is not removed.
        """
        if self._segment is not None:
            self._segment.unlink()


# Objects that count as users although their memory is closed. If another process has unlinked the
# segment in the meantime, only this process's descriptor keeps the memory.
_closed: WeakSet[SharedMemory] = WeakSet()


def _release_unneeded() -> None:
    """Release segments that no process needs; called when a segment is made or attached to."""
    drop_for_ended()
    for shm in list(_closed):
        if shm._segment is not None and not shm._segment.release_unnamed():
            continue
        _closed.discard(shm)


@own_methods
class ShareableList(ShareableListBase):
    """A list of fixed length in shared memory. Each item is replaced atomically.

    Parameters
    ----------
    sequence : iterable, optional
        Its items: int of 64 bits, float, bool, None, str and bytes of less than 10 MB. A str or
        bytes has room for ``8 * (len(item) // 8 + 1)`` bytes, as in the standard library, or for
        more bytes if its UTF-8 form needs them.
    name : str, optional
        The name of the new shared memory; without `sequence`, of the shared memory to attach to.

    Attributes
    ----------
    shm : SharedMemory
        The shared memory of the list. Do not close it while the list is used.
    format : str
        The format of the items for `struct`, as in the standard library.

    Raises
    ------
    UnsupportedItem
        An item of another type. The error is a KeyError (as in the standard library) and a
        TypeError.
    struct.error
        An int of more than 64 bits.
    ValueError
        A str or bytes that is too large for a list, or for the room of its item.
    OneCopyError
        The shared memory has no such list. Lists of the standard library have another layout.
    TimeoutError
        A process of another PID namespace has been setting the item for 5 seconds. This process
        cannot find out whether that process is alive.
    PoolFull
        /dev/shm has no room for it.

    Notes
    -----
    Processes and threads may read and write the same items at the same time. A reader gets an item
    as one process wrote it, never parts of two items. If a process is killed at any instruction,
    the list has the old item or the new one, and no other process waits. Reading and writing an
    item are two steps: for ``l[i] += 1`` in two processes, use a lock.

    Trailing NULs are kept; the standard library removes them.
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


# This process keeps the segments of its children, also if it uses no segment itself.
_native.keep_segments()
leaving.arrange()
