"""Objects of ctypes in a pool, with a lock or without: the core of Value and Array.

An object made here is an ordinary object of ctypes (``type(raw) is ctypes.c_double``) whose memory
is a `SharedArray` of bytes. It holds the array, and whatever ctypes or numpy makes of it (views,
pointers, parts) holds the object: the memory is free once the last of these is gone, in every
process.

It is pickled by reference, by pickle, by multiprocessing and on queues, which is arranged per type
in `copyreg`; objects of the type that lie in no pool are pickled as before. A pickle keeps nothing
alive (`StaleRef`), a queue does, and so does the start of a process that gets one as an argument.

``copy.copy`` and ``copy.deepcopy`` give a copy in ordinary memory, `copy` here one in the pool.
"""

from __future__ import annotations

import copyreg
import ctypes
import sys
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, overload
from weakref import WeakKeyDictionary

import numpy as np

from onecopy._codec.arrays import SharedArray
from onecopy._codec.backing import address
from onecopy._core.arguments import refuse
from onecopy._core.current import default_member
from onecopy._core.kinds import Kind
from onecopy._core.lookup import agree, open_or_create
from onecopy._core.shapes import checked_dtype, described
from onecopy._core.typevars import T
from onecopy._native import Guarded, GuardedAttribute, fill_array
from onecopy.errors import OneCopyError, StaleRef
from onecopy.locks.mutex import RLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from onecopy._native import Hold, Member
    from onecopy.pool import Pool

__all__ = [
    "Synchronized",
    "SynchronizedArray",
    "SynchronizedBase",
    "SynchronizedString",
    "Value",
    "copy",
    "open_value",
    "raw_array",
    "raw_value",
    "synchronized",
    "typecode_to_type",
    "with_lock",
]

typecode_to_type: dict[str, type[Any]] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}
"""The type of each type code, as in `multiprocessing.sharedctypes`."""

# Types whose items are converted in one loop, or copied from a buffer. Exactly these: a class
# derived from one, or one of the other byte order, has the same letter and other rules.
_LETTERS: dict[type[Any], str] = {
    **{kind: letter for letter, kind in typecode_to_type.items()},
    ctypes.c_bool: "?",
}
_INTEGERS = "bBhHiIlLqQ"
_BYTE: np.dtype[Any] = np.dtype(np.uint8)


# ------------------------------------------------------------------------------------ the memory


class _Memory:
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
        return _Memory, (self.array,)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Memory:
        """Stay: whoever copies the object sees by it that it is no reference that has arrived."""
        return self


def _attach(kind: type[Any], memory: _Memory) -> Any:
    """Make the object of that type over that memory."""
    obj = kind.from_buffer(memory.create_memoryview())
    # Not only by the buffer that ctypes keeps: for a pointer, it keeps the last target instead.
    obj._wrapper = memory
    return obj


def _allocate(member: Member, kind: type[Any], *, zero: bool) -> Any:
    """Make an object of a type of ctypes in a pool."""
    size = ctypes.sizeof(kind)
    if hasattr(kind, "_wrapper"):
        raise TypeError(f"{kind.__name__} has a field '_wrapper', the name that its memory goes by")
    _register(kind)
    memory = member.empty((size,), _BYTE, zero, True) if size else np.zeros(0, _BYTE)
    return _attach(kind, _Memory(memory.view(SharedArray)))


# ---- pickling

_registered: dict[type[Any], Callable[[Any], Any] | None] = {}  # what copyreg had before


def _register(kind: type[Any]) -> None:
    """Have objects of a type pickled by reference where they lie in a pool."""
    if copyreg.dispatch_table.get(kind) is not _reduce:
        _registered[kind] = cast("Any", copyreg.dispatch_table.get(kind))
        copyreg.pickle(kind, _reduce)
    if "multiprocessing.sharedctypes" in sys.modules:
        # It says the same of each type that it makes an object of, and there the last one counts.
        sys.modules["multiprocessing.reduction"].ForkingPickler.register(kind, _reduce_either)


def _reduce_either(obj: Any) -> Any:
    if isinstance(getattr(obj, "_wrapper", None), (_Memory, type(None))):
        return _reduce(obj)
    return sys.modules["multiprocessing.sharedctypes"].reduce_ctype(obj)


def _reduce(obj: Any) -> Any:
    memory = getattr(obj, "_wrapper", None)
    if isinstance(memory, _Memory):
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


def _rebuild(kind: Any, steps: tuple[int | str, ...], memory: _Memory | None) -> Any:
    """Make the object again: in another process, after pickling; or a copy, for the module copy."""
    for step in steps:
        kind = getattr(kind, step) if isinstance(step, str) else kind * step
    if memory is None:
        return kind()
    if memory.attached or not isinstance(memory.array, SharedArray):
        return kind.from_buffer_copy(memory.array)
    if memory.array.nbytes < ctypes.sizeof(kind):
        raise StaleRef(
            f"{kind.__name__} has {ctypes.sizeof(kind)} bytes, and the block of that reference "
            f"{memory.array.nbytes}: the type differs between the two processes"
        )
    _register(kind)
    return _attach(kind, memory)


# --------------------------------------------------------------------------------- raw objects


def _type_of(typecode_or_type: Any) -> Any:
    if not isinstance(typecode_or_type, str):
        return typecode_or_type
    kind = typecode_to_type.get(typecode_or_type)
    if kind is None:
        codes = " ".join(typecode_to_type)
        refuse(
            "typecode_or_type",
            f"a type of ctypes, or one of the type codes {codes}",
            typecode_or_type,
            "to name a value, write the type first: "
            f"pool.value('d', 0.0, name={typecode_or_type!r})",
        )
    return kind


def raw_value(member: Member, typecode_or_type: Any, *args: Any) -> Any:
    """Make an object of ctypes in a pool, without a lock.

    Parameters
    ----------
    member : Member
        The membership.
    typecode_or_type : str or type
        One of `typecode_to_type`, or any type of ctypes with a size.
    *args
        For its constructor; what they do not set is zero.

    Returns
    -------
    ctypes object
        Of exactly that type.

    Raises
    ------
    TypeError
        There is no such type, or it refuses the arguments.
    PoolFull
        No room.
    """
    obj = _allocate(member, _type_of(typecode_or_type), zero=True)
    obj.__init__(*args)
    return obj


def raw_array(member: Member, typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """Make an array of ctypes in a pool, without a lock.

    Parameters
    ----------
    member : Member
        The membership.
    typecode_or_type : str or type
        Of the items, as for `raw_value`.
    size_or_initializer : int or sequence
        The length, for zeros; or the items.

    Returns
    -------
    ctypes array
        Of exactly the type ``item * length``. numpy takes it as an array without copying:
        ``np.asarray(raw)``.

    Raises
    ------
    ValueError
        The length is negative.
    TypeError, OverflowError
        As the constructor of the array: floats for integers, and so on.
    PoolFull
        No room.

    Notes
    -----
    Items are converted as ctypes does: integers are cut to their width, floats are none. Lists and
    tuples of numbers are read in one loop of C; the numbers of a buffer (an array of numpy, bytes,
    `array.array`, a memoryview) are copied, or converted by numpy where that gives the same.
    """
    kind = _type_of(typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _allocate(member, kind * size_or_initializer, zero=True)
    items = size_or_initializer
    length = len(items)
    letter = _LETTERS.get(kind)
    if letter is None:
        obj = _allocate(member, kind * length, zero=True)
        obj.__init__(*items)
        return obj
    kind *= length
    source = _numbers(letter, items)
    if source is None:
        if type(items) is not list and type(items) is not tuple:
            items = tuple(items)
        obj = _allocate(member, kind, zero=len(items) != length)
        if len(items) > length:
            obj.__init__(*items)  # ctypes says that these are too many
        fill_array(obj, letter, items)
        return obj
    obj = _allocate(member, kind, zero=False)
    if length:
        target = np.frombuffer(obj, "u1" if letter == "c" else letter)
        if source.dtype == target.dtype:
            np.copyto(target, source)
        else:
            with np.errstate(all="ignore"):  # as C converts
                np.copyto(target, source, casting="unsafe")
    return obj


def _numbers(letter: str, items: Any) -> npt.NDArray[Any] | None:
    """See items as an array whose conversion by numpy is that of ctypes; None: it is not."""
    kind = type(items)
    if kind is np.ndarray or kind is SharedArray:
        source = cast("npt.NDArray[Any]", items)
    elif _is_buffer(kind):
        try:
            source = np.asarray(memoryview(items))
        except (TypeError, ValueError, NotImplementedError):  # a format that numpy does not know
            return None
    else:
        return None
    if source.ndim != 1:
        return None
    what = source.dtype.kind
    if letter == "c":
        # Integers are characters for ctypes only if they are Python's.
        is_bytes = kind is not np.ndarray and kind is not SharedArray and source.dtype == np.uint8
        return source if is_bytes else None
    if letter in _INTEGERS:
        return source if what in "iu" else None
    if letter == "d":
        return source if what in "iuf" else None
    if letter == "f":
        if what == "f" and source.dtype.itemsize <= np.dtype("d").itemsize:
            return source
        # By way of a double, as ctypes: rounding once is something else.
        return source.astype(np.float64) if what in "iuf" else None
    return None


def _is_buffer(kind: Any) -> bool:
    """Tell whether going through an object of that type gives what its buffer says."""
    if issubclass(kind, ctypes.Array):
        return kind._type_ in _LETTERS
    module = sys.modules.get("array")
    return kind in (bytes, bytearray, memoryview) or (module is not None and kind is module.array)


def copy(obj: Any) -> Any:
    """Copy an object of ctypes into the default pool.

    Parameters
    ----------
    obj : ctypes object
        Of any type with a size, wherever it lies.

    Returns
    -------
    ctypes object
        Of the same type; without a lock.

    Raises
    ------
    TypeError
        It is no object of ctypes; of one with a lock, copy ``get_obj()``.
    PoolFull
        No room.
    """
    fresh = _allocate(default_member(), type(obj), zero=False)
    ctypes.pointer(fresh)[0] = obj
    return fresh


# ---------------------------------------------------------------------------- objects with a lock


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Wrap an object of ctypes so that a lock guards its attributes and items.

    Parameters
    ----------
    obj : ctypes object
        Whether or not it lies in a pool: a number, an array, a structure or a union.
    lock : lock, optional
        Anything with ``acquire`` and ``release``. Default: a new `RLock`.
    ctx : context, optional
        Where a new lock is from: ``ctx.RLock()``. Default: the default pool.

    Returns
    -------
    Synchronized, SynchronizedArray, SynchronizedString or another SynchronizedBase
        The last for structures and unions: its fields are attributes.

    Raises
    ------
    AssertionError
        It has a lock already.
    AttributeError
        The lock is none.
    """
    if isinstance(obj, SynchronizedBase):
        raise AssertionError(f"{obj!r} has a lock already")  # noqa: TRY004 - the standard library's
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        cls = SynchronizedString if obj._type_ is ctypes.c_char else SynchronizedArray
        return cls(obj, lock, ctx)
    return _class_for(type(obj))(obj, lock, ctx)


_classes: WeakKeyDictionary[type[Any], type[SynchronizedBase]] = WeakKeyDictionary()


def _class_for(kind: type[Any]) -> type[SynchronizedBase]:
    """Make the class for a structure or union, once."""
    known = _classes.get(kind)
    if known is None:
        fields = {
            field[0]: GuardedAttribute(field[0])
            for part in reversed(kind.__mro__)
            for field in vars(part).get("_fields_", ())
        }
        known = type(f"Synchronized{kind.__name__}", (SynchronizedBase,), fields)
        known = _classes.setdefault(kind, known)
    return known


class SynchronizedBase(Guarded[T]):
    """An object of ctypes and its lock.

    ``get_lock()`` gives the lock, ``get_obj()`` the object, whose access nothing guards;
    ``acquire``, ``release`` and ``with`` are the lock's. What is read or written through this
    object is, each time, with the lock held; for more at a time (``value += 1``), hold it::

        with counter.get_lock():
            counter.value += 1

    It is pickled by reference if its parts are: those of this package, always; a lock of
    `multiprocessing`, while a process is being started.

    Parameters
    ----------
    obj, lock, ctx
        As for `synchronized`.

    Notes
    -----
    If the lock's last owner died with it, whoever gets it next is told, as the lock was told to
    (default: `OwnerDiedWarning`), also by an attribute. A lock that is closed (its pool was) raises
    `OneCopyError`; the object itself stays usable.
    """

    def __init__(self, obj: Any, lock: Any = None, ctx: Any = None) -> None:
        if not lock:
            lock = RLock() if ctx is None else ctx.RLock()
        checked_lock(lock)
        super().__init__(obj, lock)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by reference."""
        return synchronized, (self._obj, self._lock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} wrapper for {self._obj}>"


class Synchronized(SynchronizedBase[T]):
    """A number (or whatever else has a ``value``) and its lock; see `SynchronizedBase`."""

    if TYPE_CHECKING:
        value: T
    else:
        value = GuardedAttribute("value")


class SynchronizedArray(SynchronizedBase[T]):
    """An array and its lock; see `SynchronizedBase`.

    Items and slices are read and written with the lock held, each time. Going through it is not one
    access but many: hold the lock, or take ``[:]``.
    """

    __getitem__ = Guarded._get_item
    __setitem__ = Guarded._set_item

    def __len__(self) -> int:
        return len(self._obj)

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[T]: ...


class SynchronizedString(SynchronizedArray[bytes]):
    """An array of characters and its lock; see `SynchronizedBase`.

    ``value`` are the bytes up to the first zero, ``raw`` all of them.
    """

    value = GuardedAttribute("value")
    raw = GuardedAttribute("raw")


def checked_lock(lock: object) -> None:
    """Refuse what cannot be a lock.

    Parameters
    ----------
    lock : object
        Anything.

    Raises
    ------
    AttributeError
        It has no method ``acquire``.
    """
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")


def with_lock(raw: Any, lock: Any, ctx: Any = None) -> Any:
    """Wrap an object as the argument `lock` of `Value` says.

    Parameters
    ----------
    raw : ctypes object
        The object.
    lock : bool, None or lock
        False: none; True or None: a new one.
    ctx : context, optional
        Where a new lock is from.

    Returns
    -------
    ctypes object or SynchronizedBase
    """
    if lock is False:
        return raw
    if lock in (True, None):
        return synchronized(raw, None, ctx)
    checked_lock(lock)
    return synchronized(raw, lock, ctx)


# The types that a type code stands for, to a type checker.
Integer: TypeAlias = 'Literal["b", "B", "h", "H", "i", "I", "l", "L", "q", "Q"]'
Real: TypeAlias = 'Literal["f", "d"]'


@overload
def Value(
    typecode_or_type: Integer, *args: Any, lock: Literal[True] | RLock = True
) -> Synchronized[int]: ...
@overload
def Value(
    typecode_or_type: Real, *args: Any, lock: Literal[True] | RLock = True
) -> Synchronized[float]: ...
@overload
def Value(
    typecode_or_type: type[ctypes._SimpleCData[T]], *args: Any, lock: Literal[True] | RLock = True
) -> Synchronized[T]: ...
@overload
def Value(typecode_or_type: Any, *args: Any, lock: Any = True) -> Any: ...
def Value(  # noqa: N802 - spelled as in multiprocessing
    typecode_or_type: Any, *args: Any, lock: Any = True
) -> Any:
    """Make a number, or another object of ctypes, in the default pool, with a lock.

    Parameters
    ----------
    typecode_or_type : str or type
        A type code (``"i"``, ``"d"``, …), or any type of ctypes.
    *args
        For its constructor. Default: zero.
    lock : bool or lock, optional
        True: a new `RLock`; False: none, and the bare object of ctypes is given; else the lock.

    Returns
    -------
    Synchronized or another SynchronizedBase, or ctypes object
        With ``value``, ``get_lock()``, ``get_obj()``, and ``with``.

    Raises
    ------
    TypeError
        There is no such type, or it refuses the arguments.
    AttributeError
        The lock has no ``acquire``.
    PoolFull
        No room.

    See Also
    --------
    Pool.value : in any pool, and with a name.
    """
    return with_lock(raw_value(default_member(), typecode_or_type, *args), lock)


# ----------------------------------------------------------------------------------- named values


def open_value(
    pool: Pool, typecode_or_type: Any, args: tuple[Any, ...], name: str | None, lock: Any
) -> Any:
    """Make or open a value; see `Pool.value`."""
    member = pool.member
    if member.readonly:
        raise OneCopyError(
            f"the pool at {member.path} was opened with mode='r': a value in it, or its lock, "
            "could not be written. Close the pool everywhere and open it without mode"
        )
    kind = None if typecode_or_type is None else _type_of(typecode_or_type)
    dtype = None if kind is None or name is None else _dtype_of(kind)
    new_lock = lock in (True, None)
    if lock is not False and not new_lock:
        checked_lock(lock)

    entry = 0  # handle of what the name stands for

    def make(hold: Hold | None) -> Any:
        nonlocal entry
        if hold is None:
            if kind is None:
                raise OneCopyError(
                    f"there is no value {name!r} in pool {pool.name!r} to open; to make it, give "
                    "its type"
                )
            return raw_value(member, kind, *args)
        entry = hold.handle
        existing = cast("SharedArray", member.ref(entry).get())
        there = np.dtype((existing.dtype, existing.shape))
        agree("value", name, "type", dtype, there)
        found = _type_for(there) if kind is None else kind
        _register(found)
        return _attach(found, _Memory(existing.reshape(-1).view(np.uint8)))

    def store(raw: Any) -> Any:
        nonlocal entry
        base, shape = _flat(cast("np.dtype[Any]", dtype))
        ref = member.put(raw._wrapper.array.view(base).reshape(shape))
        entry = ref.handle
        return ref

    def make_lock(hold: Hold | None) -> RLock:
        return RLock._open(hold, member, name, "warn")

    while True:
        raw = open_or_create(member, Kind.VALUE, name, make, store=store, again=False)
        if not new_lock:
            return with_lock(raw, lock)
        own = pool._own(open_or_create(member, Kind.VALUE_LOCK, name, make_lock))
        if name is None or _stands_for(member, name, entry):
            return with_lock(raw, own)
        # Deleted meanwhile: the lock may be that of another value, or of none.
        own.detach()
        member.name_del_unused(Kind.VALUE_LOCK, name)


def _stands_for(member: Member, name: str, entry: int) -> bool:
    try:
        return member.name_get(Kind.VALUE, name).handle == entry
    except KeyError:
        return False


# numpy does not know c_wchar, and ctypes' own table has neither of the last two.
_WIDE = np.dtype("U1")
_NAMED: dict[np.dtype[Any], type[Any]] = {
    _WIDE: ctypes.c_wchar,
    np.dtype("S1"): ctypes.c_char,
    np.dtype(np.longdouble): ctypes.c_longdouble,
}


def _dtype_of(kind: type[Any]) -> np.dtype[Any]:
    """Describe a type of ctypes so that a process that does not have it can open the value."""
    shape: tuple[int, ...] = ()
    item: Any = kind
    try:
        while issubclass(item, ctypes.Array):
            shape += (item._length_,)
            item = item._type_
        base: np.dtype[Any] = _WIDE if item is ctypes.c_wchar else described(item)
        dtype = checked_dtype(np.dtype((base, shape)))
    except TypeError as error:
        raise TypeError(
            f"a value of type {getattr(kind, '__name__', kind)} cannot have a name: {error}"
        ) from error
    if not dtype.itemsize:
        raise ValueError(f"a value of type {kind.__name__} has no bytes, and cannot have a name")
    return np.dtype(_flat(dtype))


def _flat(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Take a dtype of arrays of arrays apart."""
    shape: tuple[int, ...] = ()
    while dtype.subdtype is not None:
        dtype, part = dtype.subdtype
        shape += part
    return dtype, shape


def _type_for(dtype: np.dtype[Any]) -> Any:
    """Give a type of ctypes for what exists; for a structure, one made up from its fields."""
    base, shape = _flat(dtype)
    kind: Any = _NAMED.get(base)
    if kind is None:
        kind = np.ctypeslib.as_ctypes_type(base)
    for length in reversed(shape):
        kind *= length
    return kind
