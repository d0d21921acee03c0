"""Frames: a fixed number of equal arrays that go round.

A producer acquires a frame, fills it in place, and sends it on a queue or stream; it comes home
when the last process that looks at it lets go. Nothing is allocated while the frames are in use,
and a producer that is faster than its consumers waits for a frame instead of filling the pool.
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
from onecopy._core.keepalive import keep_for_child
from onecopy._core.kinds import Kind
from onecopy._core.lookup import check_matches, checked_name, open_or_create
from onecopy._core.membership import handle_of, join
from onecopy._core.shapes import checked_dtype, checked_shape
from onecopy._core.typevars import Scalar
from onecopy._native import FramesBase, own_methods
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    import numpy.typing as npt

    from onecopy._core.membership import PoolHandle
    from onecopy._core.shapes import ShapeLike
    from onecopy._native import Hold, Member
    from onecopy.pool import Pool

__all__ = ["Frames", "open_frames"]

_MOST = 1 << 20
_LOOKS = 20  # at frames of another shape, a millisecond apart, before they count as in use


@own_methods
class Frames(FramesBase[Scalar]):
    """A fixed number of equal arrays in a pool, each free or in somebody's hands.

    ``Frames(shape, dtype, count)`` makes them in the default pool; `Pool.frames` makes or opens
    them in any pool. They are pickled by reference.

    Parameters
    ----------
    shape : int or sequence of int
        Of each frame.
    dtype : dtype-like
        Of each frame; without Python objects.
    count : int
        How many.

    Raises
    ------
    PoolFull
        There is no room for all of them.
    ValueError, TypeError
        The frames would have no elements, Python objects as elements, or there would be none.

    Notes
    -----
    A frame whose holder dies comes home as well. A frame that a process keeps stays out: with
    ``count`` of them kept, `acquire` waits.
    """

    _name: str | None = None
    if not TYPE_CHECKING:
        get = Elsewhere("frames.acquire()")
        put = Elsewhere("queue.put(frame) or stream.publish(frame), which send a frame")
        release = Elsewhere("`del frame`: a frame comes home with its last reference")
        __dir__ = without_elsewhere

    @overload
    def __init__(
        self, shape: ShapeLike, dtype: type[Scalar] | np.dtype[Scalar], count: int
    ) -> None: ...
    @overload
    def __init__(self, shape: ShapeLike, dtype: npt.DTypeLike, count: int) -> None: ...
    def __init__(self, shape: ShapeLike, dtype: npt.DTypeLike, count: int) -> None:
        shape, dtype, count = _checked(shape, dtype, count)
        super().__init__(None, default_member(), shape, dtype, count)

    @property
    def name(self) -> str | None:
        """The name by which `Pool.frames` opens them; None: they have none."""
        return self._name

    @contextlib.contextmanager
    def lend(self, timeout: float | None = None) -> Iterator[npt.NDArray[Scalar]]:
        """Lend a frame for the length of a ``with`` block.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a free frame; None: without limit.

        Yields
        ------
        ndarray
            A writable frame, with what was in it before. When the block ends the array is emptied
            (its shape is then ``(0,)``) and this process lets go of the frame: it is home at once,
            or with the last receiver if it was sent. If something else refers to the array or a
            part of it by then, the frame stays with that instead.

        Raises
        ------
        queue.Empty
            No frame came home in time.
        """
        frame = self.acquire(timeout)
        lent = frame.view()
        del frame
        try:
            yield lent
        finally:
            lent.flags.writeable = False
            # Views of the array refer to the frame that it views, not to the array itself (numpy
            # shortens chains of bases), so these keep the frame out. What refers to the array
            # itself would be left without memory: it may be emptied if that is only the block's
            # variable.
            if sys.getrefcount(lent) <= _references_to_a_lent_array():
                cast("Any", lent).__setstate__((1, (0,), lent.dtype, False, b""))

    def close(self) -> None:
        """Be done with the frames in this process, as `Queue.close` and `Stream.close`.

        Further calls of this object raise `Closed`. Closing twice does nothing. Other processes go
        on. Frames that were acquired or received stay valid.
        """
        self.detach()

    def __enter__(self) -> Self:
        """Use the frames in a block, and close them in this process at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the frames in this process."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by reference."""
        keep_for_child(self)
        return _rebuild, (handle_of(self.member), self.handle, self._name)

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        try:
            return (
                f"<onecopy.Frames{name}, {self.available} of {self.count} at home, "
                f"shape {self.shape}, {self.dtype}>"
            )
        except OneCopyError:
            return f"<onecopy.Frames{name}, closed>"


def open_frames(
    pool: Pool,
    name: str | None,
    shape: ShapeLike | None,
    dtype: npt.DTypeLike | None,
    count: int | None,
) -> Frames:
    """Make or open frames; see `Pool.frames`."""
    if name is not None:
        checked_name(name, Kind.FRAMES)
    if count is not None:
        count = integer("count", count)
    asked_shape = None if shape is None else checked_shape(shape)
    asked_dtype = None if dtype is None else checked_dtype(dtype)
    member = pool.member

    def make(hold: Hold | None) -> Frames:
        if hold is None:
            if asked_shape is None or count is None:
                raise OneCopyError(
                    f"there are no frames {name!r} in pool {pool.name!r} to open; "
                    "to make them, give shape, dtype and count"
                )
            return _make(member, None, *_checked(asked_shape, asked_dtype, count), name)
        return _make(member, hold, (1,), np.dtype("u1"), 1, name)

    asked = {"shape": asked_shape, "dtype": asked_dtype, "count": count}
    looks = 0
    while True:
        frames = open_or_create(member, Kind.FRAMES, name, make)
        there = {"shape": frames.shape, "dtype": frames.dtype, "count": frames.count}
        if all(each is None or each == there[what] for what, each in asked.items()):
            return frames
        frames.detach()
        if asked_shape is None or count is None:  # not enough to make others
            looks = _LOOKS - 1
        else:
            _checked(asked_shape, asked_dtype, count)
            if _is_taken_away(member, name, looks):
                continue
        looks += 1
        if looks == _LOOKS:
            for what, each in asked.items():
                check_matches("frames", name, what, each, there[what])
        # Another process may be comparing, as this one is: then it lets go within microseconds.
        time.sleep(0.001)


def _is_taken_away(member: Member, name: str | None, looks: int) -> bool:
    """Free the name of frames that nobody has; tell whether it stands for others now, or none."""
    if name is None:
        return False
    if looks == 1:
        member.collect()  # a process that had them may have died
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
        raise ValueError(f"frames of shape {shape} and dtype {dtype} have no bytes to fill")
    if not 1 <= count <= _MOST:
        raise ValueError(f"count={count}: it must be between 1 and {_MOST:,}")
    return shape, dtype, count


@functools.cache
def _references_to_a_lent_array() -> int:
    """Count the references to a lent array that only the variable of its block refers to.

    Interpreters differ in what they count, so this looks at an object in the same situation.
    """
    counts: list[int] = []

    @contextlib.contextmanager
    def lend() -> Iterator[object]:
        lent = object()
        try:
            yield lent
        finally:
            counts.append(sys.getrefcount(lent))

    with lend() as _variable:
        pass
    return counts[0]


def _make(
    member: Member,
    hold: Hold | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    count: int,
    name: str | None,
) -> Frames:
    frames = Frames.__new__(Frames)
    FramesBase.__init__(frames, hold, member, shape, dtype, count)
    frames._name = name
    return frames


def _rebuild(pool: PoolHandle, handle: int, name: str | None) -> Frames:
    member = join(pool)
    return _make(member, member.hold(handle), (1,), np.dtype("u1"), 1, name)
