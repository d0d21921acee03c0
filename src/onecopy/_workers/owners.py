"""Calls a function when an object is gone: any number of functions, one weak reference.

`weakref.finalize` makes a reference with a callback for each function. If an object that has
several is destroyed while the process has no memory, CPython 3.11 does not clear them: each then
has a pointer to freed memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from onecopy._core.weak_tables import remove_if

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Watch", "watch"]


class _Owner(ref[Any]):
    """The reference to an object, with what is called when it is gone."""

    __slots__ = ("at", "watches")

    at: int  # the object's id
    watches: set[Watch]


class Watch:
    """A function that is called when an object is gone, unless the watch is ended before."""

    __slots__ = ("_function", "_owner")

    def __init__(self, owner: _Owner, function: Callable[[], object]) -> None:
        self._owner = owner
        self._function = function

    def call(self) -> None:
        """Call the function."""
        self._function()

    def end(self) -> None:
        """Call the function no more. Ending a watch twice does nothing."""
        watches = self._owner.watches
        watches.discard(self)
        if not watches:
            remove_if(_owners, self._owner.at, self._owner)


# By the ids of the objects. There is no lock: each step is atomic in the interpreter. If one thread
# ends the last watch of an object while another begins one, the object has two references for a
# while; both work.
_owners: dict[int, _Owner] = {}


def watch(obj: Any, function: Callable[[], object]) -> Watch:
    """Call a function when an object is gone.

    Parameters
    ----------
    obj : object
        It must allow weak references.
    function : callable
        Called without arguments, in any thread. It must not refer to the object.

    Returns
    -------
    Watch
        To end it.
    """
    at = id(obj)
    owner = _owners.get(at)
    if owner is None or owner() is not obj:
        new = _Owner(obj, _gone)
        new.at = at
        new.watches = set()
        if owner is not None:
            remove_if(_owners, at, owner)  # its callback failed: there was no memory
        owner = _owners.setdefault(at, new)
    begun = Watch(owner, function)
    owner.watches.add(begun)
    return begun


def _gone(
    owner: _Owner,
    # When the interpreter ends, the names of a module are removed before this is called last.
    owners: dict[int, _Owner] = _owners,
    remove: Callable[[Any, Any, Any], None] = remove_if,
) -> None:
    remove(owners, owner.at, owner)
    while owner.watches:
        try:
            begun = owner.watches.pop()
        except KeyError:  # another thread ended the last watch
            return
        begun.call()
