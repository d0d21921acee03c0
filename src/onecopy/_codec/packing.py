"""What a pickler offers to those that take objects apart."""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import pickle

    import numpy.typing as npt
    from _typeshed import ReadableBuffer, WriteableBuffer

    from onecopy._native import Member

__all__ = ["Later", "Packing", "Reducer", "has_own_reducer", "is_being_loaded"]

Write: TypeAlias = "Callable[[WriteableBuffer], object]"
# A buffer that is yet to be written: its size in bytes, and what writes it into memory of that
# size. It may be called once, and must not keep the memory.
Later: TypeAlias = "tuple[int, Write]"


class Packing(Protocol):
    """One object on its way into pickle and buffers."""

    member: Member | None  # of the pool that it goes to; None: nobody knows yet

    def later(self, nbytes: int, write: Write, /) -> pickle.PickleBuffer:
        """Give a buffer that is written straight to where it goes, once there is room for it."""

    def has(self, buffer: ReadableBuffer, /) -> bool:
        """Tell whether a buffer needs no copy.

        So it is if it lies in the pool, in a mapped file or in a pool that is open for reading.
        """

    def sends(self, array: npt.NDArray[Any], /) -> None:
        """Note an array whose memory may lie in a pool: it becomes read-only once it is sent."""


Reducer: TypeAlias = Callable[[Any, Packing], Any]


def has_own_reducer(kind: type[Any]) -> bool:
    """Tell whether somebody has told pickle or multiprocessing how to take a type apart."""
    reduction = sys.modules.get("multiprocessing.reduction")
    return kind in copyreg.dispatch_table or (
        reduction is not None and kind in reduction.ForkingPickler._extra_reducers
    )


def is_being_loaded(module: str) -> bool:
    """Tell whether some thread is just loading a module, or was when this process was forked.

    To import it would wait for that thread: for ever, if it is gone.
    """
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))
