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
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

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
    """A dict that any processes share; the methods and errors of `dict`.

    ``Dict(mapping_or_pairs, **more)`` makes one in the default pool; `Pool.dict` makes or opens one
    in any pool. Pickle it, or pass it to a child process, to have the same dict there. It is
    registered as a `collections.abc.MutableMapping`.

    A value is written into the pool as it is set, and built anew each time it is looked at: arrays
    in it are read where they lie, read-only, and everything else is a copy. Changing ``d["a"]``
    does not change the dict; assign it again, or keep a `List` or `Dict` in it.

    Parameters
    ----------
    pairs : mapping or iterable of pairs, optional
        What is in it at first.
    **more
        The same, for keys that are names.

    Raises
    ------
    PoolFull
        There is no room. Every operation that needs room may raise it; the dict is as before then.
    TypeError
        For a key that is not None, a bool, int, float, str, bytes, or a tuple of these, or that is
        of a subclass of one: a key must have the same bytes in every process. But ``in``, `get`
        and `pop` with a default say of other hashable objects that they are not there, except of
        numbers and strings of other types, which may well be equal to a key.

    Notes
    -----
    Methods may be called by any number of processes and threads, also after a fork. Each is one
    step for everybody else, and for a process that dies in it, except `update` and ``|=``, of which
    each key is one. Iteration, in the order of insertion, goes over the dict as it was at one
    instant, and may change it. For more than one step at a time take the `lock`.

    1, 1.0 and True are one key, as in `dict`, and the first of them comes back. All nans are one
    key (in `dict` it depends on which object it is).

    ``in d.values()`` looks at some hundred values at a time, and stops at the first it finds. `nan`
    among the values is not found, because a value is built anew. `copy.copy` and `copy.deepcopy`
    give a plain dict.

    A queue, a lock, another dict, set by itself, stays alive for as long as it is in the dict, so a
    dict that is in itself stays until it is taken out.
    """

    __hash__ = None  # type: ignore[assignment]  # as dict: it changes

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
        """Go through the keys that there are now."""
        return iter(self._keys())

    def __reversed__(self) -> Iterator[K]:
        """Go through the keys that there are now, the last first."""
        return iter(self._keys()[::-1])

    def keys(self) -> KeysView[K]:
        """Give a view of the keys."""
        return _Keys(cast("Mapping[Any, Any]", self))

    def values(self) -> ValuesView[V]:
        """Give a view of the values."""
        return _Values(cast("Mapping[Any, Any]", self))

    def items(self) -> ItemsView[K, V]:
        """Give a view of keys and values."""
        return _Items(cast("Mapping[Any, Any]", self))

    def copy(self) -> dict[K, V]:
        """Give what is in it at one instant, as a plain dict."""
        keys, refs = self._items()
        return {key: ref.get() for key, ref in zip(keys, refs, strict=True)}

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, default: V | _Other, /) -> V | _Other: ...
    def pop(self, key: Any, default: Any = _MISSING, /) -> Any:
        """Take an entry out.

        Parameters
        ----------
        key : object
            Its key.
        default : object, optional
            What to give if there is none.

        Returns
        -------
        object
            Its value.

        Raises
        ------
        KeyError
            There is none, and no default.

        Notes
        -----
        The value is built before the entry is taken out: if it cannot be built, the entry stays,
        and the error comes out; it is not taken for a missing key. So with `popitem`.
        """
        return self._take(key) if default is _MISSING else self._take_or(key, default)

    def update(self, pairs: Any = (), /, **more: Any) -> None:
        """Set the entries of a mapping, or of pairs, one after the other.

        Parameters
        ----------
        pairs : mapping or iterable of pairs, optional
            As `dict.update` takes them.
        **more
            The same, for keys that are names.
        """
        for key, value in _pairs(pairs):
            self[key] = value
        for name, value in more.items():
            self[cast("Any", name)] = value

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], value: Any = None) -> Self:
        """Make one in the default pool, with the same value for all keys."""
        return cls((key, value) for key in iterable)

    def __or__(self, other: object) -> dict[Any, Any]:
        """Give a plain dict."""
        return self.copy() | _plain(other) if isinstance(other, (dict, Dict)) else NotImplemented

    def __ror__(self, other: object) -> dict[Any, Any]:
        """Give a plain dict."""
        return other | self.copy() if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]  # as dict's, unlike |
        """Update it."""
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
        """Give a plain dict of copies; a dict that is in itself is in the copy of itself."""
        from copy import deepcopy

        key = self._key()
        if key not in memo:
            made = memo[key] = {}
            made.update((mine, deepcopy(value, memo)) for mine, value in self.copy().items())
        return cast("dict[K, V]", memo[key])


def _pairs(source: Any) -> Iterable[tuple[Any, Any]]:
    """Give pairs of what `dict.update` takes."""
    if isinstance(source, Dict):
        return source.copy().items()
    if hasattr(source, "keys"):
        return ((key, source[key]) for key in source.keys())  # noqa: SIM118 - as dict: only these two
    return _checked_pairs(source)


def _checked_pairs(source: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    if not isinstance(source, Iterable):
        refuse("pairs", "a mapping or pairs", source)
    for number, pair in enumerate(source):
        try:
            both = tuple(pair)
        except TypeError:
            raise TypeError(
                f"element {number} of what the dict is updated with is a {type(pair).__name__}, "
                "not a pair"
            ) from None
        if len(both) != 2:
            raise ValueError(
                f"element {number} of what the dict is updated with has length {len(both)}; it "
                "must be a pair"
            )
        yield both


def _plain(of: Any) -> dict[Any, Any]:
    return of.copy() if isinstance(of, Dict) else dict(of)


# The views of collections.abc, but over one instant: an entry that goes meanwhile is still seen.


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
