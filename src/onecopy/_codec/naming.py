"""A pickle some of whose buffers are found by name: in files, and in pools that are only read."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import ReadableBuffer

    from onecopy._codec.packing import Later

__all__ = ["Named", "wrap"]

# A function of a module, which finds the bytes, and its arguments.
Named: TypeAlias = "tuple[Callable[..., memoryview[Any]], tuple[Any, ...]]"


def wrap(
    data: bytes, named: Sequence[tuple[int, Named]], buffers: Sequence[ReadableBuffer | Later]
) -> bytes:
    """Put a pickle, and the names of some of its buffers, into another pickle.

    Parameters
    ----------
    data : bytes
        The pickle.
    named : sequence of (int, Named)
        Which of its buffers, counted from 0, ascending; and how they are found.
    buffers : sequence of buffers
        The others, in order.

    Returns
    -------
    bytes
        A pickle of the same object, for the others alone: ``pickle.loads(…, buffers=buffers)``. It
        raises what finding them raises.
    """
    return pickle.dumps(_Whole(data, named, buffers), 5, buffer_callback=lambda _: None)


class _Whole:
    """What `wrap` pickles."""

    def __init__(
        self, data: bytes, named: Sequence[tuple[int, Named]], buffers: Sequence[Any]
    ) -> None:
        # Pickle notes whether a buffer may be written; what is yet to be written, may.
        others = [bytearray() if isinstance(part, tuple) else part for part in buffers]
        self._parts = data, list(named), [pickle.PickleBuffer(part) for part in others]

    def __reduce__(self) -> tuple[Any, ...]:
        return _loads, self._parts


def _loads(data: bytes, named: list[tuple[int, Named]], buffers: list[ReadableBuffer]) -> Any:
    for index, (find, arguments) in named:
        buffers.insert(index, find(*arguments))
    return pickle.loads(data, buffers=buffers)
