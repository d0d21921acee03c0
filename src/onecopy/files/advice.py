"""What the kernel is told about a mapping: how it will be read, and to read it now."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from onecopy.files.mapping import Mapping

__all__ = ["Advice", "advise_range", "checked_advice"]

Advice: TypeAlias = Literal["sequential", "random"] | None

_POPULATE_READ, _POPULATE_WRITE = 22, 23  # of Linux 5.14; `mmap` does not name them yet


def checked_advice(advise: str | None) -> None:
    """Refuse advice that is none.

    Parameters
    ----------
    advise : {"sequential", "random"} or None
        What a caller gave.

    Raises
    ------
    ValueError
        It is something else.
    """
    if advise not in {None, "sequential", "random"}:
        raise ValueError(f"advise={advise!r}: it is 'sequential', 'random' or None")


def advise_range(
    mapping: Mapping, offset: int, nbytes: int, advise: str | None, prefault: bool
) -> None:
    """Advise the kernel about a part of a mapping.

    Parameters
    ----------
    mapping : Mapping
        Of a file.
    offset, nbytes : int
        The part, in bytes of the mapping; it grows to whole pages.
    advise : {"sequential", "random"} or None
        ``"sequential"`` reads further ahead, ``"random"`` not at all.
    prefault : bool
        Whether to read the part into memory and map its pages now. Where the kernel cannot do that
        in one call (before 5.14), it is read ahead instead, and mapped on the first touch.

    Raises
    ------
    OSError
        The file could not be read.
    """
    start = offset - offset % mmap.PAGESIZE
    length = min(offset + nbytes, len(mapping)) - start
    if length <= 0:
        return
    if advise is not None:
        kind = mmap.MADV_SEQUENTIAL if advise == "sequential" else mmap.MADV_RANDOM
        mapping.madvise(kind, start, length)
    if prefault:
        # Not for a private copy: every page of it would be copied.
        shared = mapping.mode in {"r+", "w+"}
        try:
            mapping.madvise(_POPULATE_WRITE if shared else _POPULATE_READ, start, length)
        except OSError:
            mapping.madvise(mmap.MADV_WILLNEED, start, length)
