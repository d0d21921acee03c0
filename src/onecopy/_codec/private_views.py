"""Private views of a place: writable memory of this process that begins as the place's bytes.

A view knows its place. As long as no page of it was written, the bytes are still those of the
place, so they can be handed over again without a copy.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

import numpy as np

from onecopy._codec.backing import address
from onecopy._native import PrivateMemory, to_private

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from onecopy._codec.places import Place

__all__ = ["origin_of", "view_of"]

_PAGEMAP = "/proc/self/pagemap"
_ENTRY = 8  # bytes of an entry, for each page
_IN_MEMORY, _IN_SWAP, _OF_FILE = (np.uint64(1 << bit) for bit in (63, 62, 61))


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
    if start < 0 or start + memory.nbytes > view.nbytes or _was_written(at, memory.nbytes):
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


def _was_written(at: int, nbytes: int) -> bool:
    """Tell whether a page of private memory is no page of the file any more."""
    page = os.sysconf("SC_PAGE_SIZE")
    first, last = at // page, (at + nbytes - 1) // page
    count = last - first + 1
    try:
        with open(_PAGEMAP, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib is not loaded
            file.seek(first * _ENTRY)
            data = file.read(count * _ENTRY)
    except OSError:
        return True
    if len(data) != count * _ENTRY:
        return True
    entries = np.frombuffer(data, np.uint64)
    # A page of neither kind was not touched: it will be the file's.
    used = (entries & (_IN_MEMORY | _IN_SWAP)) != 0
    return bool((used & ((entries & _OF_FILE) == 0)).any())
