"""A dict in a pool."""

from __future__ import annotations

from collections.abc import (
    ItemsView,
    Iterable,
    KeysView,
    Mapping,
    MutableMapping,
    Reversible,
    ValuesView,
)
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, overload

from onecopy._core.arguments import refuse
from onecopy._core.current import default_member
from onecopy._core.typevars import K, V
from onecopy._native import DictBase, own_methods
from onecopy.containers.shared import Container

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from onecopy._native import Hold, Member

__all__ = ["Dict"]

_MISSING = object()
_Other = TypeVar("_Other")


@own_methods
class Dict(Container, DictBase[K, V]):
    """A dict that any processes can share, with the methods and errors of `dict`.

    ``Dict(mapping_or_pairs, **more)`` makes a dict in the default pool. `Pool.dict` makes or opens
    a dict in any pool. To use the same dict in another process, pickle it or pass it to a child. It
    is registered as a `collections.abc.MutableMapping`.

    A value is written into the pool when it is set. Each read builds a new object: its arrays are
    read-only views of the memory in the pool, and everything else is a copy. So changing ``d["a"]``
    does not change the dict. Assign the value again, or keep a `List` or `Dict` in the dict.

    Parameters
    ----------
    pairs : mapping or iterable of pairs, optional
        The initial entries.
    **more
        Initial entries whose keys are names.

    Raises
    ------
    PoolFull
        The pool has no room. Every operation that needs room may raise it. Then the dict has not
        changed.
    TypeError
        A key is not None, a bool, int, float, str, bytes, or a tuple of these; or it is an instance
        of a subclass. A key must have the same bytes in every process. For other hashable objects,
        ``in``, `get`, and `pop` with a default report that the key is missing. Numbers and strings
        of other types are an exception, because they may be equal to a key: they raise.

    Notes
    -----
    Any number of processes and threads may call the methods, also after a fork. Each method is
    atomic, for other processes and if the process dies in it. `update` and ``|=`` are an exception:
    each key is a separate atomic step. Iteration is in the order of insertion. It iterates over a
    snapshot, so you may change the dict meanwhile. To do several steps as one, use the `lock`.

    1, 1.0 and True are the same key, as in `dict`. The dict keeps the first of them. All nans are
    the same key. (In `dict` this depends on the object.)

    ``in d.values()`` reads some hundred values at a time, and stops at the first match. It does not
    find `nan`, because each read builds a new object. `copy.copy` and `copy.deepcopy` return a
    plain dict.

    If a value is itself a queue, a lock or another dict, it stays alive as long as it is in the
    dict. So a dict that contains itself stays until you remove it from itself.

    Examples
    --------
    >>> pool = oc.Pool("cameras", size="16MiB")
    >>> settings = pool.dict(name="settings")
    >>> settings["gain"] = 2.0
    >>> settings.update(exposure=10, dark=np.zeros(4))
    >>> settings["dark"].flags.writeable, settings.get("missing"), "gain" in settings
    (False, None, True)
    >>> settings.setdefault("gain", 1.0), settings.pop("exposure")
    (2.0, 10)
    >>> sorted(settings.keys()), len(settings.values()), len(settings.items())
    (['dark', 'gain'], 2, 2)
    >>> with settings.lock():  # for several steps that belong together
    ...     settings["gain"] = settings["gain"] + 1
    >>> settings.copy()["gain"], settings.popitem()[0] in ("dark", "gain")
    (3.0, True)
    >>> settings.clear()
    >>> settings.detach()  # this process has it no more; other processes keep it
    >>> oc.Dict.fromkeys(["a", "b"], 0).copy()  # in the default pool
    {'a': 0, 'b': 0}
    """

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # as dict: it changes

    @overload
    def __init__(self, pairs: Mapping[K, V] | Dict[K, V], /) -> None: ...
    @overload
    def __init__(self, pairs: Iterable[tuple[K, V]] = (), /) -> None: ...
    @overload
    def __init__(self: Dict[str, V], pairs: Any = (), /, **more: V) -> None: ...
    def __init__(self, pairs: Any = (), /, **more: Any) -> None:

        self._attach(None, default_member(), pairs, more)

    def _bind(self, hold: Hold | None, member: Member) -> None:
        DictBase.__init__(self, hold, member, self._on_death())

    def _fill(self, *state: Any) -> None:
        self.update(state[0], **state[1])

    def _describe(self) -> str:
        count = len(self)
        return f", {count} {'entry' if count == 1 else 'entries'}"

    def __iter__(self) -> Iterator[K]:
        """Iterate over a snapshot of the keys."""
        return iter(self._keys())

    def __reversed__(self) -> Iterator[K]:
        """Iterate over a snapshot of the keys, in reverse order."""
        return iter(self._keys()[::-1])

    def keys(self) -> KeysView[K]:
        """Return a view of the keys."""
        return _Keys(cast("Mapping[Any, Any]", self))

    def values(self) -> ValuesView[V]:
        """Return a view of the values."""
        return _Values(cast("Mapping[Any, Any]", self))

    def items(self) -> ItemsView[K, V]:
        """Return a view of keys and values."""
        return _Items(cast("Mapping[Any, Any]", self))

    def copy(self) -> dict[K, V]:
        """Return a snapshot as a plain dict."""
        keys, refs = self._items()
        return {key: ref.get() for key, ref in zip(keys, refs, strict=True)}

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, default: V | _Other, /) -> V | _Other: ...
    def pop(self, key: Any, default: Any = _MISSING, /) -> Any:
        """Remove an entry and return its value.

        Parameters
        ----------
        key : object
            Its key.
        default : object, optional
            The result if there is no such entry.

        Returns
        -------
        object
            Its value.

        Raises
        ------
        KeyError
            There is no such entry, and no default was passed.

        Notes
        -----
        The value is built before the entry is removed. If it cannot be built, the entry stays and
        the error is raised, also if a default was passed. `popitem` does the same.
        """
        return self._take(key) if default is _MISSING else self._take_or(key, default)

    def update(self, pairs: Any = (), /, **more: Any) -> None:
        """Set the entries of a mapping, or of pairs, one after the other.

        Parameters
        ----------
        pairs : mapping or iterable of pairs, optional
            As for `dict.update`.
        **more
            Entries whose keys are names.
        """
        for key, value in _pairs(pairs):
            self[key] = value
        for name, value in more.items():
            self[cast("Any", name)] = value

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], value: Any = None) -> Self:
        """Make a dict in the default pool, with the same value for all keys."""
        return cls((key, value) for key in iterable)

    def __or__(self, other: object) -> dict[Any, Any]:
        """Return a plain dict."""
        return self.copy() | _plain(other) if isinstance(other, (dict, Dict)) else NotImplemented

    def __ror__(self, other: object) -> dict[Any, Any]:
        """Return a plain dict."""
        return other | self.copy() if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]  # as dict's, unlike |
        """Update the dict."""
        self.update(other)
        return self

    def __eq__(self, other: object) -> bool:
        """Compare the entries with those of a mapping."""
        if not isinstance(other, (Mapping, Dict)):
            return NotImplemented
        if self._is(other):
            return True
        return len(self) == len(other) and self.copy() == _plain(other)

    def __deepcopy__(self, memo: dict[Any, Any]) -> dict[K, V]:
        """Return a plain dict of copies. If the dict contains itself, so does the copy."""
        from copy import deepcopy

        key = self._key()
        if key not in memo:
            made = memo[key] = {}
            made.update((mine, deepcopy(value, memo)) for mine, value in self.copy().items())
        return cast("dict[K, V]", memo[key])


def _pairs(source: Any) -> Iterable[tuple[Any, Any]]:
    """Return the pairs of an argument of `dict.update`."""
    if isinstance(source, Dict):
        return source.copy().items()
    if hasattr(source, "keys"):
        return ((key, source[key]) for key in source.keys())  # noqa: SIM118 - `dict` uses only these two methods
    return _checked_pairs(source)


def _checked_pairs(source: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    if not isinstance(source, Iterable):
        refuse("pairs", "a mapping or pairs", source)
    for number, pair in enumerate(source):
        try:
            both = tuple(pair)
        except TypeError:
            raise TypeError(
                f"element {number} of the argument of update is a {type(pair).__name__}, not a pair"
            ) from None
        if len(both) != 2:
            raise ValueError(
                f"element {number} of the argument of update has length {len(both)}; it "
                "must be a pair"
            )
        yield both


def _plain(of: Any) -> dict[Any, Any]:
    return of.copy() if isinstance(of, Dict) else dict(of)


# The views of collections.abc, but over a snapshot: an entry that is removed meanwhile is included.


class _View:
    __slots__ = ()
    _mapping: Any
    _kind = ""

    @property
    def mapping(self) -> MappingProxyType[Any, Any]:
        return MappingProxyType(self._mapping)

    def __repr__(self) -> str:
        return f"dict_{self._kind}({list(self)!r})"  # type: ignore[call-overload]


class _Keys(_View, KeysView[Any]):
    __slots__ = ()
    _kind = "keys"

    def __reversed__(self) -> Iterator[Any]:
        return iter(self._mapping._keys()[::-1])


class _Values(_View, ValuesView[Any]):
    __slots__ = ()
    _kind = "values"

    def __iter__(self) -> Iterator[Any]:
        for ref in self._mapping._refs():
            yield ref.get()

    def __reversed__(self) -> Iterator[Any]:
        for ref in reversed(self._mapping._refs()):
            yield ref.get()

    def __contains__(self, value: object) -> bool:
        return cast("bool", self._mapping._has_value(value))


class _Items(_View, ItemsView[Any, Any]):
    __slots__ = ()
    _kind = "items"

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        key, value = item
        mine = self._mapping.get(key, _MISSING)
        return mine is not _MISSING and (mine is value or bool(mine == value))

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for key, ref in zip(*self._mapping._items(), strict=True):
            yield key, ref.get()

    def __reversed__(self) -> Iterator[tuple[Any, Any]]:
        keys, refs = self._mapping._items()
        for key, ref in zip(reversed(keys), reversed(refs), strict=True):
            yield key, ref.get()


MutableMapping.register(Dict)
Reversible.register(Dict)
