"""The methods of `Pool` for other transports: places instead of bytes.

docs/design/0027-hooks-and-dask.md says which process holds what when, and what each
death leaves.
"""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from onecopy._codec import arrays
from onecopy._codec.places import (
    ID_BYTES,
    Place,
    checked,
    find,
    flat_bytes,
    identity_of,
    memory_at,
)
from onecopy._codec.private_views import origin_of, view_of
from onecopy._codec.sealing import seal_memory
from onecopy._core.sizes import parse_size
from onecopy._native import guards_writes
from onecopy.errors import PoolFull, Untrusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Self, SupportsIndex

    from _typeshed import ReadableBuffer, WriteableBuffer

    from onecopy._native import Lease, Member

__all__ = ["ExportLease", "Transport"]


class ExportLease:
    """Holds the blocks of an export until it is released, or is no longer referred to.

    `Pool.export` makes it. It is also a context manager that releases at the end of the block.

    Attributes
    ----------
    nbytes : int
        Bytes that have places.
    copied : int
        Bytes of them that were copied into the pool. The others lay there already.

    Examples
    --------
    >>> pool = oc.Pool("exports", size="16MiB")
    >>> places, lease = pool.export([np.ones(1 << 20)])
    >>> lease.nbytes, lease.copied, lease.released
    (8388608, 8388608, False)
    >>> lease.release()  # when the other side has imported the places
    >>> lease.released
    True
    """

    __slots__ = ("__weakref__", "_leases", "copied", "nbytes")

    def __init__(self, leases: list[Lease], nbytes: int, copied: int) -> None:
        self._leases = leases
        self.nbytes: int = nbytes
        self.copied: int = copied

    @property
    def released(self) -> bool:
        """Whether it holds nothing: it was released, or nothing got a place."""
        return not self._leases

    def release(self) -> None:
        """Hold the blocks no longer. Receivers that have imported them keep them.

        Releasing twice does nothing.
        """
        self._leases = []

    def __len__(self) -> int:
        """Return the number of blocks that it holds."""
        return len(self._leases)

    def __bool__(self) -> bool:
        """Tell whether it holds a block."""
        return bool(self._leases)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release."""
        self.release()

    def __reduce__(self) -> Any:
        """Refuse: a pickle holds nothing."""
        raise TypeError(
            "an ExportLease cannot be pickled: it holds memory for this process. Send the places, "
            "and release the lease when the receiver has imported them"
        )

    def __repr__(self) -> str:
        """Tell how many blocks it holds."""
        if not self._leases:
            return "<ExportLease, released>"
        return f"<ExportLease of {len(self._leases)} blocks, {self.nbytes} bytes>"


class Transport:
    """The methods for transports that hand over buffers by their places in a pool."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def member(self) -> Member: ...
        @property
        def id(self) -> bytes: ...
        @property
        def closed(self) -> bool: ...

    def export(
        self,
        buffers: Iterable[ReadableBuffer],
        threshold: SupportsIndex | str = "1MiB",
    ) -> tuple[list[Place | None], ExportLease]:
        """Give places in this pool for large buffers, to send instead of their bytes.

        A buffer that lies elsewhere is copied into the pool. A buffer that lies in the pool is not
        copied. It becomes read-only in this process, as if it was put (see `seal`).

        Parameters
        ----------
        buffers : iterable of buffer
            Contiguous: arrays, memoryviews, bytes, `pickle.PickleBuffer`.
        threshold : int or str, optional
            The smallest buffer that gets a place: bytes, or a size such as ``"64KiB"``.

        Returns
        -------
        places : list of Place or None
            One for each buffer. None: send its bytes. It is smaller than `threshold` or empty, or
            the pool has no room.
        lease : ExportLease
            Holds the memory of all places. Keep it until the receiver has imported them.

        Raises
        ------
        Untrusted
            Other users may write the pool.
        Closed
            The pool is closed.
        BufferError, TypeError
            One of them is not contiguous, or is not a buffer. Nothing is held then.
        ValueError
            `threshold` is not a size.

        Notes
        -----
        A place keeps nothing alive. If the lease is released too early, `import_` raises `StaleRef`
        at the receiver. It never gives other data.

        Memory of a `SharedArray` gets a place, too, and stays writable for all processes.

        Examples
        --------
        What a transport sends instead of bytes, and what the other side makes of it:

        >>> pool = oc.Pool("transport", size="16MiB")
        >>> places, lease = pool.export([b"small", np.ones(1 << 20)], threshold="1MiB")
        >>> places[0], places[1].nbytes
        (None, 8388608)
        >>> pool.can_see(pool.id)
        True
        >>> memory = pool.import_(places)[1]
        >>> np.frombuffer(memory).sum()
        np.float64(1048576.0)
        >>> lease.release()

        A transport may also send an array of the pool by its place:

        >>> image = pool.zeros((480, 640), np.uint8)
        >>> pool.where(image) is not None, pool.seal(image), image.flags.writeable
        (True, True, False)
        >>> pool.share() >= image.nbytes  # bytes of the pool that count for this process
        True
        """
        member, smallest = self.member, parse_size(threshold, "threshold")
        _check_trust(member)
        places: list[Place | None] = []
        leases: list[Lease] = []
        nbytes = copied = 0
        for buffer in buffers:
            memory = flat_bytes(buffer)
            if memory.nbytes < smallest or not memory.nbytes:
                places.append(None)
                continue
            place = find(member, memory)
            if place is not None:
                # `memory` may have lost the object that Python code can write through.
                seal_memory(buffer if isinstance(buffer, np.ndarray) else memory)
            else:
                place = origin_of(memory)
                if place is not None and place.pool != identity_of(member):
                    place = None
            written: memoryview[Any] | None = None  # holds the block until the lease does
            if place is None:
                written = _written(member, memory)
                if written is None:
                    places.append(None)
                    continue
                place = find(member, written)
                if place is None:  # not possible: `written` lies in this pool
                    places.append(None)
                    continue
                copied += memory.nbytes
            leases.append(member.lease(place.block))
            places.append(place)
            nbytes += memory.nbytes
        return places, ExportLease(leases, nbytes, copied)

    def import_(
        self,
        places: Iterable[Place | Sequence[Any] | None],
        writable: Literal["readonly", "private"] = "readonly",
    ) -> list[memoryview | None]:
        """Give the memory of places that another process has exported.

        Parameters
        ----------
        places : iterable of Place, or None
            What `export` gave. A list or tuple with the four items of a `Place` is a place, too, as
            serializers make of it. They may come from anywhere, and are checked.
        writable : {"readonly", "private"}, optional
            ``"readonly"``: the memory itself, which may not be written. ``"private"``: writable
            memory that is copied page by page when it is written, and no other process sees that.

        Returns
        -------
        list of memoryview or None
            The bytes of each place; None for None. Each one holds its memory itself.

        Raises
        ------
        StaleRef
            One of them is gone for certain: its exporter has died or has released it, it is of
            another pool, or it was never a place. Nothing is held then. Ask for the bytes.
        Untrusted
            Other users may write the pool.
        Closed
            The pool is closed.
        PoolCorrupted, MemoryError
            From the core.
        ValueError
            `writable` is something else.
        """
        if writable not in {"readonly", "private"}:
            raise ValueError(f"writable={writable!r}: it is 'readonly' or 'private'")
        member = self.member
        _check_trust(member)
        # Torch writes to read-only memory, so it gets pages of its own, as in `get`.
        private = writable == "private" or guards_writes()
        held: dict[int, memoryview[Any]] = {}
        given: list[memoryview | None] = []
        for item in places:
            if item is None:
                given.append(None)
                continue
            place = checked(tuple(item) if isinstance(item, list) else item)
            part = memory_at(member, place, held)
            if private:
                part = view_of(part, place, writable=writable == "private")
            else:
                part = part.toreadonly()
            given.append(part)
        return given

    def where(self, buffer: ReadableBuffer) -> Place | None:
        """Tell where a buffer lies in this pool.

        Parameters
        ----------
        buffer : buffer
            Contiguous.

        Returns
        -------
        Place or None
            Its place, which is valid as long as a process holds the block. None: it does not lie in
            one block of this pool, or it is empty. Private pages lie in no pool.

        Raises
        ------
        Closed
            The pool is closed.
        BufferError, TypeError
            It is not contiguous, or not a buffer.
        """
        return find(self.member, flat_bytes(buffer))

    def seal(self, buffer: ReadableBuffer) -> bool:
        """Make memory of this pool read-only in this process, as `put` does with arrays.

        `export` calls it. A transport of your own calls it before it sends what `where` said.

        Parameters
        ----------
        buffer : buffer
            An array, or a memoryview of one.

        Returns
        -------
        bool
            Whether it is read-only now. False: it does not lie in this pool; it is a `SharedArray`;
            or an object of another library owns the memory. Then do not write to it any more.

        Raises
        ------
        Closed
            The pool is closed.
        BufferError, TypeError
            It is not contiguous, or not a buffer.

        Notes
        -----
        Views and memoryviews that were made before stay writable.
        """
        memory = flat_bytes(buffer)
        if find(self.member, memory) is None:
            return False
        return seal_memory(buffer if isinstance(buffer, np.ndarray) else memory)

    def can_see(self, id: bytes) -> bool:  # noqa: A002 - the name of what it takes
        """Tell whether places of a pool can be imported through this object.

        Ask it before places are sent: both sides tell each other their `id`.

        Parameters
        ----------
        id : bytes
            `Pool.id` of the other side. Or the first item of a `Place`, which also tells a copy of
            the pool's file from the pool.

        Returns
        -------
        bool
            False also if this pool is closed, if this process could not become a member, or if
            other users may write the pool. True is no promise: `import_` decides.
        """
        if self.closed:
            return False
        member = self.member
        if not member.joined or member.others_may_write or not isinstance(id, bytes):
            return False
        return id in {member.id, identity_of(member)} if len(id) >= ID_BYTES else False

    def share(self, pid: int | None = None) -> int:
        """Tell how much memory of this pool counts for a process.

        Parameters
        ----------
        pid : int, optional
            The process, by the number that it has for itself. Default: this process.

        Returns
        -------
        int
            Bytes: of each block that the process holds, its size divided by the number of processes
            that hold it. So the shares of all processes are together what is held. 0: the process
            holds nothing, or is no member. What only queues and names hold counts for no process.

        Raises
        ------
        Closed
            The pool is closed.
        OneCopyError
            This process could not become a member.
        """
        member = self.member
        if member.readonly:
            return 0
        wanted = os.getpid() if pid is None else operator.index(pid)
        return sum(
            holder["share"]
            for holder in member.holders()
            if holder["pid"] == wanted and holder["alive"]
        )


def _check_trust(member: Member) -> None:
    if member.others_may_write:
        raise Untrusted(
            f"other users may write the pool at {member.path}, and could change what is handed "
            "over. Send bytes, or use a pool of this user alone: Pool.create()"
        )


def _written(member: Member, memory: memoryview[Any]) -> memoryview[Any] | None:
    """Copy bytes into new memory of a pool. None: there is no room, or it may not be changed."""
    if member.readonly:
        return None
    try:
        block = arrays.empty(member, memory.nbytes, np.uint8)
    except PoolFull:
        return None
    member.fill(cast("WriteableBuffer", block), memory)
    block.flags.writeable = False
    return memoryview(cast("ReadableBuffer", block))
