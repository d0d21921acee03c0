"""The interface that a pickler offers to functions that take objects apart."""

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
# A buffer that will be written later: its size in bytes, and a function that writes it into memory
# of that size. The function may be called once, and must not keep the memory.
Later: TypeAlias = "tuple[int, Write]"


class Packing(Protocol):
    """The encoding of one object into a pickle and buffers."""

    member: Member | None  # a membership in the target pool; None: not known yet

    def later(self, nbytes: int, write: Write, /) -> pickle.PickleBuffer:
        """Return a buffer that is written directly to its place, when that is allocated."""

    def has(self, buffer: ReadableBuffer, /) -> bool:
        """Tell whether a buffer needs no copy.

        This is so if the buffer lies in the pool, in a mapped file, or in a pool that is open for
        reading.
        """

    def sends(self, array: npt.NDArray[Any], /) -> None:
        """Record an array in a pool. It becomes read-only when it has been sent."""


Reducer: TypeAlias = Callable[[Any, Packing], Any]


def has_own_reducer(kind: type[Any]) -> bool:
    """Tell whether a reducer for a type is registered with pickle or multiprocessing."""
    reduction = sys.modules.get("multiprocessing.reduction")
    return kind in copyreg.dispatch_table or (
        reduction is not None and kind in reduction.ForkingPickler._extra_reducers
    )


def is_being_loaded(module: str) -> bool:
    """Tell whether a thread is importing a module, or was when this process was forked.

    Importing the module would wait for that thread. If the thread does not exist any more, it would
    wait for ever.
    """
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))
