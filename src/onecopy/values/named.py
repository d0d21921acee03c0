"""Values that a pool finds by their name."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from onecopy._core.kinds import Kind
from onecopy._core.lookup import check_matches, open_or_create
from onecopy._core.shapes import checked_dtype, described
from onecopy.errors import OneCopyError
from onecopy.locks.mutex import RLock
from onecopy.values.memory import Memory, attach, register
from onecopy.values.raw import raw_value, type_of
from onecopy.values.synchronized import checked_lock, with_lock

if TYPE_CHECKING:
    from onecopy._codec.arrays import SharedArray
    from onecopy._core.pool_type import OwningPool
    from onecopy._native import Hold, Member


def open_value(
    pool: OwningPool, typecode_or_type: Any, args: tuple[Any, ...], name: str | None, lock: Any
) -> Any:
    """Make or open a value; see `Pool.value`."""
    member = pool.member
    if member.readonly:
        raise OneCopyError(
            f"the pool at {member.path} was opened with mode='r', so its values and their locks "
            "cannot be used. Close the pool in all processes, and open it without mode"
        )
    kind = None if typecode_or_type is None else type_of(typecode_or_type)
    dtype = None if kind is None or name is None else _dtype_of(kind)
    new_lock = lock in (True, None)
    if lock is not False and not new_lock:
        checked_lock(lock)

    entry = 0  # the handle of the thing with this name

    def make(hold: Hold | None) -> Any:
        nonlocal entry
        if hold is None:
            if kind is None:
                raise OneCopyError(
                    f"pool {pool.name!r} has no value {name!r}; to make it, pass its type"
                )
            try:
                return raw_value(member, kind, *args)
            except TypeError as error:
                if name is None and args and isinstance(args[0], str):
                    raise TypeError(_meant_as_name(typecode_or_type, args, error)) from error
                raise
        entry = hold.handle
        existing = cast("SharedArray", member.ref(entry).get())
        there = np.dtype((existing.dtype, existing.shape))
        check_matches("value", name, "type", dtype, there)
        found = _type_for(there) if kind is None else kind
        register(found)
        return attach(found, Memory(existing.reshape(-1).view(np.uint8)))

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
        # The value was deleted meanwhile. The lock may belong to another value, or to none.
        own.detach()
        member.name_del_unused(Kind.VALUE_LOCK, name)


def _meant_as_name(typecode_or_type: Any, args: tuple[Any, ...], error: TypeError) -> str:
    kind = getattr(typecode_or_type, "__name__", repr(typecode_or_type))
    rest = "".join(f"{arg!r}, " for arg in args[1:])
    return (
        f"Pool.value(): a value of type {kind} cannot be made of {', '.join(map(repr, args))} "
        f"({error}): to name it, write pool.value({kind}, {rest}name={args[0]!r})"
    )


def _stands_for(member: Member, name: str, entry: int) -> bool:
    try:
        return member.name_get(Kind.VALUE, name).handle == entry
    except KeyError:
        return False


# numpy does not know c_wchar, and numpy.ctypeslib lacks the last two.
_WIDE = np.dtype("U1")
_NAMED: dict[np.dtype[Any], type[Any]] = {
    _WIDE: ctypes.c_wchar,
    np.dtype("S1"): ctypes.c_char,
    np.dtype(np.longdouble): ctypes.c_longdouble,
}


def _dtype_of(kind: type[Any]) -> np.dtype[Any]:
    """Return a dtype for a ctypes type, so that a process without this type can open the value."""
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
    """Split a dtype of nested arrays into the item's dtype and the whole shape."""
    shape: tuple[int, ...] = ()
    while dtype.subdtype is not None:
        dtype, part = dtype.subdtype
        shape += part
    return dtype, shape


def _type_for(dtype: np.dtype[Any]) -> Any:
    """Return a ctypes type for an existing value; for a structure, make one from its fields."""
    base, shape = _flat(dtype)
    kind: Any = _NAMED.get(base)
    if kind is None:
        kind = np.ctypeslib.as_ctypes_type(base) if base.fields is None else _of_fields(base)
    for length in reversed(shape):
        kind *= length
    return kind


def _of_fields(dtype: np.dtype[Any]) -> Any:
    """Return a structure or a union with a dtype's fields where they are, and bytes in the gaps.

    That of `as_ctypes_type` names no layout: from Python 3.14 on that gives a DeprecationWarning.
    """
    fields = [(offset, name, kind) for name, (kind, offset, *_) in (dtype.fields or {}).items()]
    is_union = len(fields) > 1 and not any(offset for offset, _, _ in fields)
    parts: list[tuple[str, Any]] = []
    end = 0
    for offset, name, field in sorted(fields, key=lambda each: each[0]):
        kind = _type_for(field)
        if is_union:
            end = max(end, ctypes.sizeof(kind))
        else:
            if offset < end:
                raise NotImplementedError(f"fields of {dtype} overlap")
            if offset > end:
                parts.append(("", ctypes.c_char * (offset - end)))
            end = offset + ctypes.sizeof(kind)
        parts.append((name, kind))
    if end < dtype.itemsize:
        parts.append(("", ctypes.c_char * (dtype.itemsize - (0 if is_union else end))))
    # With all gaps filled, and without bit fields, both layouts place the fields alike.
    namespace = {"_fields_": parts, "_pack_": 1, "_layout_": "ms", "__module__": None}
    return type("union" if is_union else "struct", (_BASES[is_union],), namespace)


_BASES: dict[bool, type[Any]] = {False: ctypes.Structure, True: ctypes.Union}
