"""Private views of a place: writable memory of this process that begins as the place's bytes.

A view knows its place. As long as no page of it was written, the bytes are still those of the
place, so they can be handed over again without a copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

import numpy as np

from onecopy._codec.backing import address
from onecopy._native import PrivateMemory, to_private, was_written

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from onecopy._codec.places import Place

__all__ = ["origin_of", "view_of"]


class _PrivateView(np.ndarray[Any, Any]):
    """The bytes of private pages. Its memoryview refers to it, so the origin is found again."""

    origin: Place | None = None  # the private pages hold its block


_views: WeakValueDictionary[int, _PrivateView] = WeakValueDictionary()  # by their addresses


def view_of(part: memoryview[Any], origin: Place, *, writable: bool) -> memoryview[Any]:
    """Return private memory that begins as the bytes of a place.

    Parameters
    ----------
    part : memoryview
        The memory of the place, over a lease.
    origin : Place
        Its place.
    writable : bool
        Whether the view may be written through numpy and memoryview.
    """
    private = to_private(part)
    if type(private) is not PrivateMemory:  # small, or shared: it was copied
        copied = memoryview(private)
        return copied if writable else copied.toreadonly()
    # Its base is no array: numpy would skip this one when it shortens a chain of bases.
    array = _PrivateView(private.nbytes, np.uint8, memoryview(private))
    array.origin = origin
    array.flags.writeable = writable
    _views[address(array)] = array
    return memoryview(cast("ReadableBuffer", array))


def origin_of(memory: memoryview[Any]) -> Place | None:
    """Return the place of bytes in a private view that was not written. None: copy them.

    It is the place of exactly these bytes. If the system does not say whether they were written,
    they count as written.
    """
    view, at = _view_behind(memory), address(np.frombuffer(memory, np.uint8))
    if view is None or view.origin is None:
        return None
    start = at - address(view)
    if start < 0 or start + memory.nbytes > view.nbytes or was_written(memory):
        return None
    return view.origin._replace(offset=view.origin.offset + start, nbytes=memory.nbytes)


def _view_behind(memory: memoryview[Any]) -> _PrivateView | None:
    """Follow the bases of arrays and memoryviews to a private view."""
    base: object = memory
    while base is not None:
        if isinstance(base, memoryview):
            base = base.obj
        elif isinstance(base, np.ndarray):
            # Slices are of the class, too; only the first one has the origin.
            if isinstance(base, _PrivateView) and base.origin is not None:
                return base
            base = base.base
        else:
            # Arrow's buffers do not tell what they were made of.
            return _view_around(memory) if type(base).__module__ == "pyarrow.lib" else None
    return None


def _view_around(memory: memoryview[Any]) -> _PrivateView | None:
    """Find a private view by its address. While it exists, nothing else lies there."""
    start = address(np.frombuffer(memory, np.uint8))
    for at, view in list(_views.items()):
        if at <= start and start + memory.nbytes <= at + view.nbytes:
            return view
    return None
