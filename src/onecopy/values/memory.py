"""The memory of an object of ctypes in a pool, and how such an object is pickled: by reference."""

from __future__ import annotations

import copyreg
import ctypes
import sys
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from onecopy._codec.arrays import SharedArray
from onecopy._codec.backing import address, lease_of
from onecopy.errors import StaleRef

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from onecopy._native import Member


_BYTE: np.dtype[Any] = np.dtype(np.uint8)


class Memory:
    """What an object of ctypes in a pool holds, as its attribute ``_wrapper``.

    That is the name, and `create_memoryview` the method, by which `multiprocessing.sharedctypes`
    sends its own objects to a child. Once it has made one of some type, it does so with all of that
    type, in a program that uses both; so ours pass there too.

    Parameters
    ----------
    array : SharedArray
        One-dimensional, of bytes.
    """

    __slots__ = ("array", "attached")

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array
        self.attached = False  # an object of ctypes in this process has it

    def create_memoryview(self) -> memoryview:
        """Give the memory to make an object of."""
        self.attached = True
        return memoryview(cast("Any", self.array))

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, (self.array,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Memory:
        """Stay: whoever copies the object sees by it that it is no reference that has arrived."""
        return self


def check_reachable(obj: Any) -> None:
    """Refuse an object whose memory is out of this process's reach; reading it would end it.

    Raises
    ------
    OneCopyError
        This is a forked child that is no member of the pool.
    """
    memory = getattr(obj, "_wrapper", None)
    if isinstance(memory, Memory):
        _check_reachable(memory)


def _check_reachable(memory: Memory) -> None:
    lease = lease_of(memory.array)
    if lease is not None and not lease.member.readonly:
        lease.member.hold(lease.handle)


def attach(kind: type[Any], memory: Memory) -> Any:
    """Make the object of that type over that memory."""
    obj = kind.from_buffer(memory.create_memoryview())
    # Not only by the buffer that ctypes keeps: for a pointer, it keeps the last target instead.
    obj._wrapper = memory
    return obj


def allocate(member: Member, kind: type[Any], *, zero: bool) -> Any:
    """Make an object of a type of ctypes in a pool."""
    size = ctypes.sizeof(kind)
    if hasattr(kind, "_wrapper"):
        raise TypeError(f"{kind.__name__} has a field '_wrapper', the name that its memory goes by")
    register(kind)
    memory = member.empty((size,), _BYTE, zero, True) if size else np.zeros(0, _BYTE)
    return attach(kind, Memory(memory.view(SharedArray)))


# ---- pickling

_registered: dict[type[Any], Callable[[Any], Any] | None] = {}  # what copyreg had before


def register(kind: type[Any]) -> None:
    """Have objects of a type pickled by reference where they lie in a pool."""
    if copyreg.dispatch_table.get(kind) is not _reduce:
        _registered[kind] = cast("Any", copyreg.dispatch_table.get(kind))
        copyreg.pickle(kind, _reduce)
    if "multiprocessing.sharedctypes" in sys.modules:
        # It says the same of each type that it makes an object of, and there the last one counts.
        sys.modules["multiprocessing.reduction"].ForkingPickler.register(kind, _reduce_either)


def _reduce_either(obj: Any) -> Any:
    if isinstance(getattr(obj, "_wrapper", None), (Memory, type(None))):
        return _reduce(obj)
    return sys.modules["multiprocessing.sharedctypes"].reduce_ctype(obj)


def _reduce(obj: Any) -> Any:
    memory = getattr(obj, "_wrapper", None)
    if isinstance(memory, Memory):
        if memory.array.size and ctypes.addressof(obj) == address(memory.array):
            return _rebuild, (*_spell(type(obj)), memory)
        # A copy that ctypes made, with the attributes of the original; or it has no bytes.
        if ctypes.sizeof(obj):
            del obj._wrapper
        else:
            return _rebuild, (*_spell(type(obj)), None)
    before = _registered.get(type(obj))
    return obj.__reduce_ex__(4) if before is None else before(obj)


def _spell(kind: type[Any]) -> tuple[type[Any], tuple[int | str, ...]]:
    """Take types apart that have no name in a module, by which pickle could find them.

    Returns
    -------
    kind : type
        That has a name.
    steps : tuple
        From there: the attribute with the type of the other byte order, lengths of arrays.
    """
    steps: list[int | str] = []
    item: Any = kind
    while issubclass(item, ctypes.Array) and item is item._type_ * item._length_:
        steps.append(item._length_)
        item = item._type_
    native = getattr(item, _NATIVE, None)
    if native not in (None, item):
        steps.append(_SWAPPED)
        item = native
    return item, tuple(reversed(steps))


_NATIVE, _SWAPPED = "__ctype_le__", "__ctype_be__"
if sys.byteorder == "big":
    _NATIVE, _SWAPPED = _SWAPPED, _NATIVE


def _rebuild(kind: Any, steps: tuple[int | str, ...], memory: Memory | None) -> Any:
    """Make the object again: in another process, after pickling; or a copy, for the module copy."""
    for step in steps:
        kind = getattr(kind, step) if isinstance(step, str) else kind * step
    if memory is None:
        return kind()
    if memory.attached or not isinstance(memory.array, SharedArray):
        _check_reachable(memory)
        return kind.from_buffer_copy(memory.array)
    if memory.array.nbytes < ctypes.sizeof(kind):
        raise StaleRef(
            f"{kind.__name__} has {ctypes.sizeof(kind)} bytes, and the block of that reference "
            f"{memory.array.nbytes}: the type differs between the two processes"
        )
    register(kind)
    return attach(kind, memory)
