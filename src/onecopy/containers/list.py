"""A list in a pool."""

from __future__ import annotations

import operator
from collections.abc import Iterable, MutableSequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from onecopy._core.arguments import function, integer, items
from onecopy._core.current import default_member
from onecopy._core.typevars import T
from onecopy._native import ListBase, Ref, own_methods
from onecopy.containers.shared import Container

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self, SupportsIndex

    from onecopy._native import Hold, Member

__all__ = ["List"]

_MISSING = object()
_SORTS_TOGETHER = 2  # attempts without the lock


@own_methods
class List(Container, ListBase[T]):
    """A list that any processes can share, with the methods and errors of `list`.

    ``List(iterable)`` makes a list in the default pool. `Pool.list` makes or opens a list in any
    pool. To use the same list in another process, pickle it or pass it to a child. It is registered
    as a `collections.abc.MutableSequence`.

    An item is written into the pool when it is stored. Each read builds a new object: its arrays
    are read-only views of the memory in the pool, and everything else is a copy. So changing
    ``shared[0]`` does not change the list. Assign the item again, or keep a `List` in the list.

    Parameters
    ----------
    iterable : iterable, optional
        The initial items.

    Raises
    ------
    PoolFull
        The pool has no room. Every operation that needs room may raise it. Then the list has not
        changed.

    Notes
    -----
    Any number of processes and threads may call the methods, also after a fork. Each method is
    atomic, for other processes and if the process dies in it: all of `extend`, of a slice
    assignment or of ``*=`` has happened, or nothing. `append`, ``list[i]``, ``list[i] = x`` and
    `pop` at the end take the same time for a list of any length. `insert`, and `pop` at another
    place, copy four bytes for each item. Iteration is by index, as in `list`, and includes changes
    that happen meanwhile. ``==`` compares a snapshot. `index`, `count`, `remove` and ``in`` read
    some hundred items at a time; all except `count` stop at the first match. They read each item
    that is in the list all the time exactly once, also if other processes shift it meanwhile. To do
    several steps as one, use the `lock`.

    `pop` builds the object and then removes it. If the object cannot be built (its class does not
    exist any more), it stays in the list and the error is raised. Every other operation leaves such
    an item unchanged.

    Each read builds a new object, not the object that was stored. So an object that is equal only
    to itself is not found: ``nan in List([nan])`` is false.

    `copy.copy` and `copy.deepcopy` return a plain list.

    If an item is itself a queue, a lock or another list, it stays alive as long as it is in the
    list. So a list that contains itself stays until you remove it from itself.

    Examples
    --------
    >>> pool = oc.Pool("cameras", size="16MiB")
    >>> results = pool.list(name="results")
    >>> results.append(3)
    >>> results.extend([1, 2, 2])
    >>> results.insert(0, "first")
    >>> results.index(1), results.count(2), len(results)
    (2, 2, 5)
    >>> results.pop(0)
    'first'
    >>> results.remove(3)
    >>> results.sort(reverse=True)
    >>> results.reverse()
    >>> results.copy(), results[-1]
    ([1, 2, 2], 2)
    >>> with results.lock():  # for several steps that belong together
    ...     results[0] = results[0] + 1
    >>> results.clear()
    >>> results.detach()  # this process has it no more; other processes keep it
    """

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # as list: it changes

    def __init__(self, iterable: Iterable[T] = ()) -> None:

        items("iterable", iterable)
        self._attach(None, default_member(), iterable)

    def _bind(self, hold: Hold | None, member: Member) -> None:
        ListBase.__init__(self, hold, member, self._on_death())

    def _fill(self, *state: Any) -> None:
        self.extend(state[0])

    def _describe(self) -> str:
        count = len(self)
        return f", {count} {'item' if count == 1 else 'items'}"

    def __iter__(self) -> Iterator[T]:
        """Iterate over the items by index, until there is none."""
        index = 0
        while (item := self._at(index, _MISSING)) is not _MISSING:
            yield item
            index += 1

    def __reversed__(self) -> Iterator[T]:
        """Iterate over the items from the end."""
        for index in range(len(self) - 1, -1, -1):
            item = self._at(index, _MISSING)
            if item is _MISSING:  # the list has become shorter
                return
            yield item

    def index(
        self, value: object, start: SupportsIndex = 0, stop: SupportsIndex | None = None
    ) -> int:
        """Return the index of the first item that is equal to a value.

        Parameters
        ----------
        value : object
            The value to find.
        start, stop : int, optional
            The range to search, as in a slice.

        Returns
        -------
        int
            Its index at the time of the comparison.

        Raises
        ------
        ValueError
            No item is equal to the value.
        """
        end = None if stop is None else integer("stop", stop)
        return self._index(value, slice(integer("start", start), end))

    def sort(self, *, key: Callable[[T], Any] | None = None, reverse: bool = False) -> None:
        """Sort the items; stable, as `list.sort`.

        Parameters
        ----------
        key : callable, optional
            Returns what to compare instead of an item. If another process or thread changes the
            list meanwhile, `key` is called again for all items. The first two attempts hold no
            lock. The third one holds the `lock`, so others wait.
        reverse : bool, optional
            Whether the largest item comes first.

        Raises
        ------
        ValueError
            `key`, or a comparison, changes the list itself.
        """
        function("key", key)
        for _ in range(_SORTS_TOGETHER):
            if self._try_to_sort(key, reverse):
                return
        with self.lock():
            if not self._try_to_sort(key, reverse):
                raise ValueError("list modified during sort")

    def _try_to_sort(self, key: Callable[[T], Any] | None, reverse: bool) -> bool:
        """Sort the list, unless it is changed meanwhile; return whether it was sorted."""
        refs = self._refs()
        # Do not use a comprehension with `key`: Python 3.11 needs a cell for such a variable. If it
        # has no memory for the cell, it never releases the arguments, and so never releases this
        # list.
        values = map(Ref.get, refs)
        keys = list(values if key is None else map(key, values))
        order = sorted(range(len(refs)), key=keys.__getitem__, reverse=reverse)
        return self._reorder(refs, order)

    def copy(self) -> list[T]:
        """Return a snapshot as a plain list."""
        return self[:]

    def __deepcopy__(self, memo: dict[Any, Any]) -> list[T]:
        """Return a plain list of copies. If the list contains itself, so does the copy."""
        from copy import deepcopy

        key = self._key()
        if key not in memo:
            made = memo[key] = []
            made.extend(deepcopy(item, memo) for item in self.copy())
        return cast("list[T]", memo[key])

    def __add__(self, other: object) -> list[Any]:
        """Return a plain list."""
        if not isinstance(other, (list, List)):
            return NotImplemented
        return self.copy() + _plain(other)

    def __radd__(self, other: object) -> list[Any]:
        """Return a plain list."""
        return other + self.copy() if isinstance(other, list) else NotImplemented

    def __mul__(self, times: SupportsIndex) -> list[T]:
        """Return a plain list."""
        return self.copy() * operator.index(times)

    __rmul__ = __mul__

    def __iadd__(self, other: Iterable[T]) -> Self:  # type: ignore[misc]  # as list's, unlike +
        """Extend the list."""
        self.extend(other)
        return self

    def __imul__(self, times: SupportsIndex) -> Self:
        """Repeat the items. The values are not copied.

        Raises
        ------
        MemoryError
            There would be 2**20 or more references to one value, or too many items. The list and
            its memory have not changed. ``extend`` with a plain list copies.
        OverflowError
            The number is far too large.
        """
        self._repeat(times)
        return self

    def __eq__(self, other: object) -> bool:
        """Compare the items with those of a list."""
        if not isinstance(other, (list, List)):
            return NotImplemented
        if self._is(other):
            return True
        return len(self) == len(other) and self.copy() == _plain(other)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, (list, List)):
            return NotImplemented
        return self.copy() < _plain(other)

    def __le__(self, other: object) -> bool:
        if not isinstance(other, (list, List)):
            return NotImplemented
        return self.copy() <= _plain(other)

    def __gt__(self, other: object) -> bool:
        if not isinstance(other, (list, List)):
            return NotImplemented
        return self.copy() > _plain(other)

    def __ge__(self, other: object) -> bool:
        if not isinstance(other, (list, List)):
            return NotImplemented
        return self.copy() >= _plain(other)


def _plain(of: list[Any] | List[Any]) -> list[Any]:
    return of.copy() if isinstance(of, List) else of


MutableSequence.register(List)
