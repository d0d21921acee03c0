"""A list in a pool."""

from __future__ import annotations

import operator
from collections.abc import Iterable, MutableSequence
from typing import TYPE_CHECKING, Any

from onecopy._native import ListBase
from onecopy.containers.shared import Container

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self, SupportsIndex

    from onecopy._native import Hold, Member

__all__ = ["List"]


class List(Container, ListBase):
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
    change meanwhile; `index`, `count`, ``in`` and ``==`` look at the list as it was at one instant.
    For more than one step at a time take the `lock`.

    A queue, a lock, another list, put in by itself, stays alive for as long as it is in the list,
    so a list that is in itself stays until it is taken out.
    """

    __hash__ = None  # type: ignore[assignment]  # as list: it changes

    def __init__(self, iterable: Iterable[Any] = ()) -> None:
        from onecopy.default import default_pool

        self._attach(None, default_pool().member, iterable)

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        ListBase.__init__(self, hold, member, self._on_death())
        if hold is None and state:
            self.extend(state[0])

    def _describe(self) -> str:
        return f", {len(self)} items"

    def __iter__(self) -> Iterator[Any]:
        """Go through the items by index, until there is none."""
        index = 0
        while True:
            try:
                item = self[index]
            except IndexError:
                return
            yield item
            index += 1

    def __reversed__(self) -> Iterator[Any]:
        """Go through the items from the end."""
        for index in range(len(self) - 1, -1, -1):
            try:
                item = self[index]
            except IndexError:  # it has become shorter
                return
            yield item

    def __contains__(self, value: object) -> bool:
        return any(_is(ref.get(), value) for ref in self._refs())

    def count(self, value: object) -> int:
        """Count the items that are equal to a value."""
        return sum(_is(ref.get(), value) for ref in self._refs())

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
        refs = self._refs()
        end = None if stop is None else operator.index(stop)
        for index in range(*slice(operator.index(start), end).indices(len(refs))):
            if _is(refs[index].get(), value):
                return index
        raise ValueError(f"{value!r} is not in list")

    def remove(self, value: object) -> None:
        """Take the first item out that is equal to a value.

        Raises
        ------
        ValueError
            There is none.
        """
        while True:
            for index, ref in enumerate(self._refs()):
                if _is(ref.get(), value):
                    if self._remove_at(index, ref):
                        return
                    break  # others have changed the list meanwhile
            else:
                raise ValueError("list.remove(x): x not in list")

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort the items; stable, as `list.sort`.

        Parameters
        ----------
        key : callable, optional
            What to compare instead of the items. Called without any lock held, and again if others
            have changed the list meanwhile.
        reverse : bool, optional
            Whether the largest comes first.
        """
        while True:
            refs = self._refs()
            keys = [ref.get() if key is None else key(ref.get()) for ref in refs]
            order = sorted(range(len(refs)), key=keys.__getitem__, reverse=reverse)
            if self._reorder(refs, order):
                return

    def copy(self) -> list[Any]:
        """Give what is in it at one instant, as a plain list."""
        return self[:]

    def __add__(self, other: object) -> list[Any]:
        """Give a plain list."""
        if not isinstance(other, (list, List)):
            return NotImplemented
        return self.copy() + _plain(other)

    def __radd__(self, other: object) -> list[Any]:
        """Give a plain list."""
        return other + self.copy() if isinstance(other, list) else NotImplemented

    def __mul__(self, times: SupportsIndex) -> list[Any]:
        """Give a plain list."""
        return self.copy() * operator.index(times)

    __rmul__ = __mul__

    def __iadd__(self, other: Iterable[Any]) -> Self:  # type: ignore[misc]  # as list's, unlike +
        """Extend it."""
        self.extend(other)
        return self

    def __imul__(self, times: SupportsIndex) -> Self:
        """Repeat what is in it; the values are not copied."""
        self._repeat(operator.index(times))
        return self

    def __eq__(self, other: object) -> bool:
        """Compare the items with those of a list."""
        if not isinstance(other, (list, List)):
            return NotImplemented
        return self is other or self.copy() == _plain(other)

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


def _is(item: object, value: object) -> bool:
    """Tell whether they are equal, as `list` does: nan is itself."""
    return item is value or bool(item == value)


def _plain(of: list[Any] | List) -> list[Any]:
    return of.copy() if isinstance(of, List) else of


MutableSequence.register(List)
