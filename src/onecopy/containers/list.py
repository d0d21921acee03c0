"""A list in a pool."""

from __future__ import annotations

import operator
from collections.abc import Iterable, MutableSequence
from typing import TYPE_CHECKING, Any, cast

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
_SORTS_TOGETHER = 2  # tries without the lock


@own_methods
class List(Container, ListBase[T]):
    """A list that any processes share; the methods and errors of `list`.

    ``List(iterable)`` makes one in the default pool; `Pool.list` makes or opens one in any pool.
    Pickle it, or pass it to a child process, to have the same list there. It is registered as a
    `collections.abc.MutableSequence`.

    An item is written into the pool as it is put in, and built anew each time it is taken out or
    looked at: arrays in it are read where they lie, read-only, and everything else is a copy.
    Changing ``shared[0]`` does not change the list; assign it again, or keep a `List` in the list.

    Parameters
    ----------
    iterable : iterable, optional
        What is in it at first.

    Raises
    ------
    PoolFull
        There is no room. Every operation that needs room may raise it; the list is as before then.

    Notes
    -----
    Methods may be called by any number of processes and threads, also after a fork. Each is one
    step for everybody else, and for a process that dies in it: all of `extend`, of a slice
    assignment, of ``*=`` has happened, or nothing. `append`, ``list[i]``, ``list[i] = x`` and
    `pop` at the end take the same time for a list of any length; `insert`, and `pop` elsewhere,
    copy four bytes for each item. Iteration goes by index, as in `list`, and sees what others
    change meanwhile; ``==`` looks at the list as it was at one instant. `index`, `count`, `remove`
    and ``in`` look at some hundred items at a time, and stop at the first they find; an item that
    is there all the time is looked at once, also if others shift it meanwhile. For more than one
    step at a time take the `lock`.

    `pop` builds the object and then takes it out: what cannot be built (its class is gone) stays in
    the list, and the error comes out. Every other operation leaves such an item alone.

    A value that is built anew is not the object that was put in. So what is equal to nothing but
    itself is not found again: ``nan in List([nan])`` is false.

    `copy.copy` and `copy.deepcopy` give a plain list.

    A queue, a lock, another list, put in by itself, stays alive for as long as it is in the list,
    so a list that is in itself stays until it is taken out.
    """

    __hash__ = None  # type: ignore[assignment]  # as list: it changes

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
        """Go through the items by index, until there is none."""
        index = 0
        while (item := self._at(index, _MISSING)) is not _MISSING:
            yield item
            index += 1

    def __reversed__(self) -> Iterator[T]:
        """Go through the items from the end."""
        for index in range(len(self) - 1, -1, -1):
            item = self._at(index, _MISSING)
            if item is _MISSING:  # it has become shorter
                return
            yield item

    def index(
        self, value: object, start: SupportsIndex = 0, stop: SupportsIndex | None = None
    ) -> int:
        """Tell where the first item is that is equal to a value.

        Parameters
        ----------
        value : object
            What to look for.
        start, stop : int, optional
            Where to look, as in a slice.

        Returns
        -------
        int
            Its index at that instant.

        Raises
        ------
        ValueError
            There is none.
        """
        end = None if stop is None else integer("stop", stop)
        return self._index(value, slice(integer("start", start), end))

    def sort(self, *, key: Callable[[T], Any] | None = None, reverse: bool = False) -> None:
        """Sort the items; stable, as `list.sort`.

        Parameters
        ----------
        key : callable, optional
            What to compare instead of the items. Called again for all of them if others have
            changed the list meanwhile: at first without any lock held; the third time, under the
            `lock`, so that they wait.
        reverse : bool, optional
            Whether the largest comes first.

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
        """Sort it, unless it is changed meanwhile."""
        refs = self._refs()
        # Not a comprehension that uses `key`: Python 3.11 needs a cell for such a variable. If it
        # has no memory for it, it never lets go of the arguments, and so of this list.
        values = map(Ref.get, refs)
        keys = list(values if key is None else map(key, values))
        order = sorted(range(len(refs)), key=keys.__getitem__, reverse=reverse)
        return self._reorder(refs, order)

    def copy(self) -> list[T]:
        """Give what is in it at one instant, as a plain list."""
        return self[:]

    def __deepcopy__(self, memo: dict[Any, Any]) -> list[T]:
        """Give a plain list of copies; a list that is in itself is in the copy of itself."""
        from copy import deepcopy

        key = self._key()
        if key not in memo:
            made = memo[key] = []
            made.extend(deepcopy(item, memo) for item in self.copy())
        return cast("list[T]", memo[key])

    def __add__(self, other: object) -> list[Any]:
        """Give a plain list."""
        if not isinstance(other, (list, List)):
            return NotImplemented
        return self.copy() + _plain(other)

    def __radd__(self, other: object) -> list[Any]:
        """Give a plain list."""
        return other + self.copy() if isinstance(other, list) else NotImplemented

    def __mul__(self, times: SupportsIndex) -> list[T]:
        """Give a plain list."""
        return self.copy() * operator.index(times)

    __rmul__ = __mul__

    def __iadd__(self, other: Iterable[T]) -> Self:  # type: ignore[misc]  # as list's, unlike +
        """Extend it."""
        self.extend(other)
        return self

    def __imul__(self, times: SupportsIndex) -> Self:
        """Repeat what is in it; the values are not copied.

        Raises
        ------
        MemoryError
            There would be 2**20 references to one value or more, or too many items. Nothing has
            changed, and nothing has grown. ``extend`` with a plain list copies.
        OverflowError
            The number is out of all proportion.
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
