"""Pickles with buffers that travel by name: in files, and in pools that are open for reading."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import ReadableBuffer

    from onecopy._codec.packing import Later

__all__ = ["Named", "wrap"]

# A module-level function that finds the bytes, and its arguments.
Named: TypeAlias = "tuple[Callable[..., memoryview[Any]], tuple[Any, ...]]"


def wrap(
    data: bytes, named: Sequence[tuple[int, Named]], buffers: Sequence[ReadableBuffer | Later]
) -> bytes:
    """Wrap a pickle, and the names of some of its buffers, in another pickle.

    Parameters
    ----------
    data : bytes
        The pickle.
    named : sequence of (int, Named)
        The indexes of the named buffers, from 0, ascending; and how each of them is found.
    buffers : sequence of buffers
        The other buffers, in order.

    Returns
    -------
    bytes
        A pickle of the same object that needs the other buffers only: ``pickle.loads(…,
        buffers=buffers)``. Loading it raises the errors of finding the named buffers.
    """
    return pickle.dumps(_Whole(data, named, buffers), 5, buffer_callback=lambda _: None)


class _Whole:
    """The object that `wrap` pickles."""

    def __init__(
        self, data: bytes, named: Sequence[tuple[int, Named]], buffers: Sequence[Any]
    ) -> None:
        # Pickle records whether a buffer is writable. A buffer that will be written later is.
        others = [bytearray() if isinstance(part, tuple) else part for part in buffers]
        self._parts = data, list(named), [pickle.PickleBuffer(part) for part in others]

    def __reduce__(self) -> tuple[Any, ...]:
        return _loads, self._parts


def _loads(data: bytes, named: list[tuple[int, Named]], buffers: list[ReadableBuffer]) -> Any:
    for index, (find, arguments) in named:
        buffers.insert(index, find(*arguments))
    return pickle.loads(data, buffers=buffers)
