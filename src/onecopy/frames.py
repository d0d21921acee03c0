"""Frames: a fixed number of equal arrays that are used again and again.

A producer acquires a frame, fills it in place, and sends it on a queue or stream. The frame becomes
free when its last holder releases it. Nothing is allocated while the frames are in use. A producer
that is faster than its consumers waits for a free frame, so it cannot fill the pool.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np

from onecopy._core.arguments import Elsewhere, integer, without_elsewhere
from onecopy._core.current import default_member
from onecopy._core.kinds import Kind
from onecopy._core.lookup import check_matches, checked_name, open_or_create
from onecopy._core.paths import pool_name
from onecopy._core.shapes import checked_dtype, checked_shape
from onecopy._core.shared import Closable, rebuild
from onecopy._core.typevars import Scalar
from onecopy._native import FramesBase, own_methods
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import numpy.typing as npt

    from onecopy._aio.channels import AioFrames
    from onecopy._core.shapes import ShapeLike
    from onecopy._core.until_made import Wait
    from onecopy._native import Hold, Member

__all__ = ["Frames", "open_frames"]

_MOST = 1 << 20
_EXISTS = (1,), np.dtype("u1"), 1  # the arguments that existing frames do not need
_LOOKS = 20  # checks of frames with another shape, a millisecond apart, before they count as in use


@own_methods
class Frames(Closable, FramesBase[Scalar]):
    """A fixed number of equal arrays in a pool. Each of them is free, or has holders.

    ``Frames(shape, dtype, count)`` makes them in the default pool. `Pool.frames` makes or opens
    them in any pool. A set of frames is pickled by reference.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of each frame.
    dtype : dtype-like
        The dtype of each frame, without Python objects.
    count : int
        How many frames.

    Raises
    ------
    PoolFull
        There is no room for all of them.
    ValueError, TypeError
        The frames would have no elements, or elements that are Python objects; or `count` is below
        1.

    Notes
    -----
    A frame also becomes free when its holder dies. A frame that a process keeps is not free. If
    processes keep all ``count`` frames, `acquire` waits.

    Examples
    --------
    >>> pool = oc.Pool("studio", size="64MiB")
    >>> frames = pool.frames("buffers", (480, 640), np.uint8, count=4)
    >>> picture = frames.acquire(timeout=10)
    >>> picture[:] = 7
    >>> frames.available, frames.count
    (3, 4)
    >>> pool.queue("pictures").put(picture)  # a handle is sent; the picture becomes read-only
    >>> received = pool.queue("pictures").get()
    >>> del picture, received  # with its last reference, the frame is free again
    >>> with frames.lend() as picture:
    ...     picture[:] = 8
    >>> frames.available
    4
    >>> frames.detach()  # this process has them no more; other processes keep them
    >>> pool.frames("buffers", (480, 640), np.uint8, count=4).close()  # the same
    """

    _shown_as = "Frames"  # also if they are of a subclass
    if not TYPE_CHECKING:
        get = Elsewhere("frames.acquire()")
        put = Elsewhere("queue.put(frame) or stream.publish(frame), which send a frame")
        release = Elsewhere("`del frame`: a frame becomes free with its last reference")
        __dir__ = without_elsewhere

    @overload
    def __init__(
        self, shape: ShapeLike, dtype: type[Scalar] | np.dtype[Scalar], count: int
    ) -> None: ...
    @overload
    def __init__(self, shape: ShapeLike, dtype: npt.DTypeLike, count: int) -> None: ...
    def __init__(self, shape: ShapeLike, dtype: npt.DTypeLike, count: int) -> None:
        shape, dtype, count = _checked(shape, dtype, count)
        self._attach(None, default_member(), shape, dtype, count)

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        shape, dtype, count = state or _EXISTS
        FramesBase.__init__(self, hold, member, shape, dtype, count)

    def _opener(self) -> tuple[Any, ...]:
        return (_rebuild,)  # they arrive as frames also if the class is a subclass

    def _describe(self) -> str:
        free = f"{self.available} of {self.count} free"
        return f", {free}, shape {self.shape}, {self.dtype}"

    @property
    def aio(self) -> AioFrames[Scalar]:
        """`acquire` and `lend` for tasks of an event loop; see docs/asyncio.md."""
        from onecopy._aio.channels import AioFrames

        return AioFrames(self, contextlib.contextmanager(lent_for_a_block))

    @contextlib.contextmanager
    def lend(self, timeout: float | None = None) -> Iterator[npt.NDArray[Scalar]]:
        """Acquire a frame for the length of a ``with`` block.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a free frame; None: without limit.

        Yields
        ------
        ndarray
            A writable frame. It contains what was in it before. At the end of the block the array
            becomes empty (its shape is then ``(0,)``), and this process releases the frame. The
            frame is free at once; if it was sent, it becomes free when its last receiver releases
            it. If something else still refers to the array or to a part of it, the array keeps the
            frame.

        Raises
        ------
        queue.Empty
            No frame became free in time.
        """
        yield from lent_for_a_block([self.acquire(timeout)])

    def close(self) -> None:
        """Release the frames in this process, as `Queue.close` and `Stream.close` do.

        Later calls of this object raise `Closed`. Closing twice does nothing. Other processes keep
        the frames. Frames that were acquired or received stay valid.
        """
        self.detach()

    def _repr_html_(self) -> str | None:
        """Return a table for notebooks."""
        from onecopy._core.cards import card

        try:
            rows = [
                ("free", f"{self.available:,} of {self.count:,}"),
                ("shape", str(self.shape)),
                ("dtype", str(self.dtype)),
            ]
        except OneCopyError:
            return None
        return card(self._label(), rows)


def open_frames(
    member: Member,
    name: str | None,
    shape: ShapeLike | None,
    dtype: npt.DTypeLike | None,
    count: int | None,
    wait: Wait = False,
) -> Frames:
    """Make or open frames; see `Pool.frames`."""
    if name is not None:
        checked_name(name, Kind.FRAMES)
    if count is not None:
        count = integer("count", count)
    asked_shape = None if shape is None else checked_shape(shape)
    asked_dtype = None if dtype is None else checked_dtype(dtype)

    def make(hold: Hold | None) -> Frames:
        if hold is None:
            if asked_shape is None or count is None:
                raise OneCopyError(
                    f"pool {pool_name(member.path)!r} has no frames named {name!r}; "
                    "to make them, pass shape, dtype and count"
                )
            checked = _checked(asked_shape, asked_dtype, count)
            return Frames._open(None, member, name, *checked)
        return Frames._open(hold, member, name)

    asked = {"shape": asked_shape, "dtype": asked_dtype, "count": count}
    looks = 0
    while True:
        frames = open_or_create(member, Kind.FRAMES, name, make, wait=wait)
        there = {"shape": frames.shape, "dtype": frames.dtype, "count": frames.count}
        if all(each is None or each == there[what] for what, each in asked.items()):
            return frames
        frames.detach()
        if asked_shape is None or count is None:  # too few arguments to make frames
            looks = _LOOKS - 1
        else:
            _checked(asked_shape, asked_dtype, count)
            if _is_unlinked(member, name, looks):
                continue
        looks += 1
        if looks == _LOOKS:
            for what, each in asked.items():
                check_matches("frames", name, what, each, there[what])
        # Another process may be comparing, as this one does: it detaches within microseconds.
        time.sleep(0.001)


def _is_unlinked(member: Member, name: str | None, looks: int) -> bool:
    """Unlink unused frames; return whether the name now stands for other frames, or for none."""
    if name is None:
        return False
    if looks == 1:
        member.collect()  # a process that had them open may have died
    if member.name_del_unused(Kind.FRAMES, name):
        return True
    try:
        member.name_get(Kind.FRAMES, name)
    except KeyError:
        return True
    return False


def _checked(
    shape: ShapeLike, dtype: npt.DTypeLike | None, count: int
) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    shape, dtype, count = checked_shape(shape), checked_dtype(dtype), integer("count", count)
    if 0 in shape or not dtype.itemsize:
        raise ValueError(f"frames of shape {shape} and dtype {dtype} have no bytes")
    if not 1 <= count <= _MOST:
        raise ValueError(f"count={count}: it must be between 1 and {_MOST:,}")
    return shape, dtype, count


def lent_for_a_block(
    acquired: list[npt.NDArray[Scalar]],
) -> Generator[npt.NDArray[Scalar], None, None]:
    """Yield an array of the frame that the list has. At its end, empty it; see `Frames.lend`."""
    lent = acquired.pop().view()
    raised = True
    try:
        yield lent
        raised = False
    finally:
        lent.flags.writeable = False
        # numpy shortens chains of bases: a view of this array refers to the frame and not to this
        # array. So such views keep the frame. But objects that refer to this array itself would
        # lose its memory. So empty the array only if nothing but the variable of the block refers
        # to it.
        if sys.getrefcount(lent) <= _references_to_a_lent_array(raised):
            cast("Any", lent).__setstate__((1, (0,), lent.dtype, False, b""))


@functools.cache
def _references_to_a_lent_array(raised: bool) -> int:
    """Count the references to an array of `lend` if only the variable of the block refers to it.

    Interpreters count differently, so this counts the references to an object in the same
    situation. From Python 3.14 on, there is one more if the block raises.
    """
    counts: list[int] = []

    @contextlib.contextmanager
    def lend() -> Iterator[object]:
        lent = object()
        try:
            yield lent
        finally:
            counts.append(sys.getrefcount(lent))

    with contextlib.suppress(LookupError), lend() as _variable:
        if raised:
            raise LookupError
    return counts[0]


def _rebuild(*place: Any) -> Frames:
    return rebuild(Frames, *place)
