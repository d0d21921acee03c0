"""The memory of a ctypes object in a pool, and how such an object is pickled by reference."""

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
    """The memory of a ctypes object in a pool. The object has it as its attribute ``_wrapper``.

    `multiprocessing.sharedctypes` uses this attribute and the method `create_memoryview` to send
    its own objects to a child. When it has made an object of some type, it treats all objects of
    that type so. Therefore this class has the same names, and a program can use both packages.

    Parameters
    ----------
    array : SharedArray
        One-dimensional, of bytes.
    """

    __slots__ = ("array", "attached")

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array: npt.NDArray[Any] = array
        self.attached: bool = False  # whether a ctypes object in this process uses it

    def create_memoryview(self) -> memoryview:
        """Return the memory for an object."""
        self.attached = True
        return memoryview(cast("Any", self.array))

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, (self.array,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Memory:
        """Return self, so that `_rebuild` can distinguish a copy from an unpickled reference."""
        return self


def check_reachable(obj: Any) -> None:
    """Raise if the memory of an object is not mapped in this process. Reading it would end it.

    Raises
    ------
    OneCopyError
        This is a forked child that is not a member of the pool.
    """
    memory = getattr(obj, "_wrapper", None)
    if isinstance(memory, Memory):
        _check_reachable(memory)


def _check_reachable(memory: Memory) -> None:
    lease = lease_of(memory.array)
    if lease is not None and not lease.member.readonly:
        lease.member.hold(lease.handle)


def attach(kind: type[Any], memory: Memory) -> Any:
    """Make an object of a type over a memory."""
    obj = kind.from_buffer(memory.create_memoryview())
    # The buffer that ctypes keeps is not enough: a pointer keeps its last target instead.
    obj._wrapper = memory
    return obj


def allocate(member: Member, kind: type[Any], *, zero: bool) -> Any:
    """Make an object of a ctypes type in a pool."""
    size = ctypes.sizeof(kind)
    if hasattr(kind, "_wrapper"):
        raise TypeError(
            f"{kind.__name__} has a field '_wrapper', the name of onecopy's own attribute"
        )
    register(kind)
    memory = member.empty((size,), _BYTE, zero, True) if size else np.zeros(0, _BYTE)
    return attach(kind, Memory(memory.view(SharedArray)))


# ---- pickling

_registered: dict[type[Any], Callable[[Any], Any] | None] = {}  # the earlier entries of copyreg


def register(kind: type[Any]) -> None:
    """Make objects of a type that lie in a pool be pickled by reference."""
    if copyreg.dispatch_table.get(kind) is not _reduce:
        _registered[kind] = cast("Any", copyreg.dispatch_table.get(kind))
        copyreg.pickle(kind, _reduce)
    if "multiprocessing.sharedctypes" in sys.modules:
        # It registers each type that it makes an object of. The last registration counts.
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
        # It is a copy that ctypes made, with the attributes of the original; or it has no bytes.
        if ctypes.sizeof(obj):
            del obj._wrapper
        else:
            return _rebuild, (*_spell(type(obj)), None)
    before = _registered.get(type(obj))
    return obj.__reduce_ex__(4) if before is None else before(obj)


def _spell(kind: type[Any]) -> tuple[type[Any], tuple[int | str, ...]]:
    """Split a type that pickle cannot find by a module and name into a named type and steps.

    Returns
    -------
    kind : type
        A type that has a name.
    steps : tuple
        The steps from there: the attribute with the type of the other byte order, and lengths of
        arrays.
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
    """Rebuild the object after pickling in another process; or make a copy, for `copy`."""
    for step in steps:
        kind = getattr(kind, step) if isinstance(step, str) else kind * step
    if memory is None:
        return kind()
    if memory.attached or not isinstance(memory.array, SharedArray):
        _check_reachable(memory)
        return kind.from_buffer_copy(memory.array)
    if memory.array.nbytes < ctypes.sizeof(kind):
        raise StaleRef(
            f"{kind.__name__} has {ctypes.sizeof(kind)} bytes, but the block of that reference has "
            f"{memory.array.nbytes}: the type differs between the two processes"
        )
    register(kind)
    return attach(kind, memory)
