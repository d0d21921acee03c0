"""Advice to the kernel about a mapping: how it will be read, and whether to read it now."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from onecopy.files.mapping import Mapping

__all__ = ["Advice", "advise_range", "checked_advice"]

Advice: TypeAlias = Literal["sequential", "random"] | None

_POPULATE_READ, _POPULATE_WRITE = 22, 23  # Linux 5.14; `mmap` lacks these names


def checked_advice(advise: str | None) -> None:
    """Check an argument `advise`.

    Parameters
    ----------
    advise : {"sequential", "random"} or None
        The argument of the caller.

    Raises
    ------
    ValueError
        It is something else.
    """
    if advise not in {None, "sequential", "random"}:
        raise ValueError(f"advise={advise!r}: it must be 'sequential', 'random' or None")


def advise_range(
    mapping: Mapping, offset: int, nbytes: int, advise: str | None, prefault: bool
) -> None:
    """Advise the kernel about a part of a mapping.

    Parameters
    ----------
    mapping : Mapping
        Of a file.
    offset, nbytes : int
        The part, in bytes of the mapping. It is extended to whole pages.
    advise : {"sequential", "random"} or None
        With ``"sequential"`` the kernel reads further ahead, with ``"random"`` it does not read
        ahead.
    prefault : bool
        Whether to read the part into memory and map its pages now. Kernels before 5.14 cannot do
        this in one call. They read ahead instead, and map a page on its first use.

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
        # POPULATE_WRITE is only for shared mappings: it would copy every page of a private one.
        shared = mapping.mode in {"r+", "w+"}
        try:
            mapping.madvise(_POPULATE_WRITE if shared else _POPULATE_READ, start, length)
        except OSError:
            mapping.madvise(mmap.MADV_WILLNEED, start, length)
