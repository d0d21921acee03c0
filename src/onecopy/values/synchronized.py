"""ctypes objects with a lock: the results of `multiprocessing.Value` and `Array`."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload
from weakref import WeakKeyDictionary

from onecopy._core.current import default_member
from onecopy._core.typevars import T
from onecopy._native import Guarded, GuardedAttribute
from onecopy.errors import OneCopyError
from onecopy.locks.mutex import RLock
from onecopy.values.memory import check_reachable
from onecopy.values.raw import raw_value

if TYPE_CHECKING:
    from collections.abc import Iterator


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Wrap a ctypes object so that a lock guards its attributes and items.

    Parameters
    ----------
    obj : ctypes object
        A number, an array, a structure or a union, in a pool or not.
    lock : lock, optional
        Anything with ``acquire`` and ``release``. Default: a new `RLock`.
    ctx : context, optional
        A new lock is ``ctx.RLock()``. Default: a lock in the default pool.

    Returns
    -------
    Synchronized, SynchronizedArray, SynchronizedString or another SynchronizedBase
        The last one is for structures and unions. Its attributes are the fields.

    Raises
    ------
    AssertionError
        The object has a lock already.
    AttributeError
        `lock` is not a lock.
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
    """A ctypes object and its lock.

    ``get_lock()`` returns the lock. ``get_obj()`` returns the object; no lock guards its use.
    ``acquire``, ``release`` and ``with`` are those of the lock. Each single read or write through
    this object holds the lock. For several accesses (``value += 1``), hold it yourself::

        with counter.get_lock():
            counter.value += 1

    It is pickled by reference if its parts are. Parts of this package always are. A lock of
    `multiprocessing` is, while a process is being started.

    Parameters
    ----------
    obj, lock, ctx
        As for `synchronized`.

    Notes
    -----
    If the owner of the lock dies, the next owner is notified as the lock's `on_owner_death` says
    (default: `OwnerDiedWarning`), also when it only uses an attribute. If the lock's pool was
    closed, the lock raises `OneCopyError`. The object itself stays usable.
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
        try:
            check_reachable(self._obj)
        except OneCopyError:
            return f"<{type(self).__name__}, out of reach>"
        return f"<{type(self).__name__} wrapper for {self._obj}>"


class Synchronized(SynchronizedBase[T]):
    """A number, or another object with a ``value``, and its lock; see `SynchronizedBase`."""

    if TYPE_CHECKING:
        value: T
    else:
        value = GuardedAttribute("value")


class SynchronizedArray(SynchronizedBase[T]):
    """An array and its lock; see `SynchronizedBase`.

    Each access to an item or a slice holds the lock. Iteration is many accesses, not one: hold the
    lock, or use ``[:]``.
    """

    if TYPE_CHECKING:

        def __getitem__(self, key: Any, /) -> Any: ...
        def __setitem__(self, key: Any, value: Any, /) -> None: ...
    else:
        __getitem__ = Guarded._get_item
        __setitem__ = Guarded._set_item

    def __len__(self) -> int:
        return len(self._obj)

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[T]: ...


class SynchronizedString(SynchronizedArray[bytes]):
    """An array of characters and its lock; see `SynchronizedBase`.

    ``value`` has the bytes up to the first zero, ``raw`` has all bytes.
    """

    value: GuardedAttribute = GuardedAttribute("value")
    raw: GuardedAttribute = GuardedAttribute("raw")


def checked_lock(lock: object) -> None:
    """Check that an object can be a lock.

    Parameters
    ----------
    lock : object
        Any object.

    Raises
    ------
    AttributeError
        It has no method ``acquire``.
    """
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")


def with_lock(raw: Any, lock: Any, ctx: Any = None) -> Any:
    """Wrap an object according to the argument `lock` of `Value`.

    Parameters
    ----------
    raw : ctypes object
        The object.
    lock : bool, None or lock
        False: no lock. True or None: a new lock. Otherwise: this lock.
    ctx : context, optional
        The context that makes a new lock.

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


# Type codes of integers and of floats, for type checkers.
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
    """Make a number, or another ctypes object, in the default pool, with a lock.

    Parameters
    ----------
    typecode_or_type : str or type
        A type code (``"i"``, ``"d"``, …), or any ctypes type.
    *args
        Arguments of its constructor. Default: zero.
    lock : bool or lock, optional
        True: a new `RLock`. False: no lock; the bare ctypes object is returned. Otherwise: the lock
        to use.

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
        The pool has no room.

    See Also
    --------
    Pool.value : in any pool, and with a name.

    Examples
    --------
    >>> counter = oc.Value("i", 0)
    >>> with counter.get_lock():
    ...     counter.value += 1
    >>> counter.value
    1
    """
    return with_lock(raw_value(default_member(), typecode_or_type, *args), lock)
