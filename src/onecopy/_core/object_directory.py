"""The methods of `Pool` that make it a mapping: a directory of named objects."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from onecopy import _native
from onecopy._core.kinds import Kind
from onecopy._core.lookup import checked_name, delete

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from onecopy._native import Member

__all__ = ["ObjectDirectory"]


class ObjectDirectory(MutableMapping[str, Any]):
    """The objects of a pool, by their names; and how a name of any kind is deleted."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def member(self) -> Member: ...
        @property
        def name(self) -> str: ...

    def delete(self, name: str, kind: str | None = None) -> None:
        """Delete the name of a thing of any kind: an object, a queue, frames, a lock and so on.

        The name is free at once, for a thing of any kind, shape or size. Processes that have the
        thing open keep it, with its contents, and still share it. Its memory is freed when the last
        of them has released it or died, and nothing refers to it any more.

        Parameters
        ----------
        name : str
            The name of a thing in the pool.
        kind : str, optional
            "object" (``pool[name]``), "queue", "stream", "frames", "array" (`shared_array`),
            "lock", "rlock", "rwlock", "semaphore", "bounded_semaphore", "event", "condition",
            "barrier", "value" (with its lock), "list" or "dict". Default: all things with that
            name, of any kind.

        Raises
        ------
        KeyError
            There is no such thing. If several processes delete it, one of them succeeds.
        ValueError, TypeError
            There is no such kind, or the name cannot be a name.

        Notes
        -----
        While the things of one name are deleted, no process that opens things by name can find one
        of them deleted and another one not. If the process dies in this call, each thing of the
        name is either deleted or not.
        """
        delete(self.member, self.name, name, kind)

    # -------------------------------------------------------------------- the directory of objects

    def __getitem__(self, name: str) -> Any:
        """Return the object of that name. Its arrays lie in the pool and are read-only."""
        member = self.member
        if not isinstance(name, str):
            raise KeyError(name)
        hold = member.name_get(Kind.OBJECT, name)
        return member.ref(hold.handle).get()

    def get(
        self, name: str, default: Any = None, *, copy: Literal["on_write"] | bool | None = None
    ) -> Any:
        """Return the object of that name, or `default` if there is none.

        Parameters
        ----------
        name : str
            The name of an object (``pool[name] = obj``).
        default : object, optional
            The result if there is no such object.
        copy : {None, False, True, "on_write"}, optional
            How its arrays are received. None, False: read-only, in place. "on_write": writable and
            private; a page is copied when you write to it. True: writable and private; all arrays
            are copied at once.

        Returns
        -------
        object

        Raises
        ------
        ValueError
            `copy` is not one of these values.
        """
        _native.check_copy(copy)
        member = self.member
        try:
            hold = member.name_get(Kind.OBJECT, name)
        except (KeyError, TypeError):  # TypeError: it cannot be a name
            return default
        return member.ref(hold.handle).get(copy)

    def __setitem__(self, name: str, obj: Any) -> None:
        """Write an object under a name. For a reference, the name stands for its object."""
        member = self.member
        checked_name(name)
        member.name_set(Kind.OBJECT, name, member.put(obj), False)

    def __delitem__(self, name: str) -> None:
        """Delete a name. Processes that have the object keep it."""
        member = self.member
        if not isinstance(name, str):
            raise KeyError(name)
        member.name_del(Kind.OBJECT, name)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the current names, in the order in which they were first set."""
        return iter(self.member.name_list(Kind.OBJECT))

    def __len__(self) -> int:
        return self.member.name_count(Kind.OBJECT)

    def __contains__(self, name: object) -> bool:
        member = self.member
        if not isinstance(name, str):
            return False
        try:
            member.name_get(Kind.OBJECT, name)
        except KeyError:
            return False
        return True

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return the object of that name, or write `default` under it. One process succeeds.

        Parameters
        ----------
        name : str
            1 to 200 bytes in UTF-8.
        default : object, optional
            The object to write if there is none.

        Returns
        -------
        object
            The object that the name stands for now.
        """
        member = self.member
        try:
            return self[name]
        except KeyError:
            checked_name(name)
        ref = member.put(default)
        existing = member.name_set(Kind.OBJECT, name, ref, True)
        return ref.get() if existing is None else member.ref(existing.handle).get()
