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
    """The objects of a pool, by their names; and how any name is taken away."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def member(self) -> Member: ...
        @property
        def name(self) -> str: ...

    def delete(self, name: str, kind: str | None = None) -> None:
        """Take a name away from what it stands for: an object, a queue, frames, a lock, whatever.

        The name is free at once, for a thing of any kind, shape or size. Processes that have the
        thing go on using it, with each other; what is in it stays theirs. Its memory is given back
        when the last of them lets go of it, or is dead, and nothing refers to it any more.

        Parameters
        ----------
        name : str
            Of what is in the pool.
        kind : str, optional
            "object" (``pool[name]``), "queue", "stream", "frames", "array" (`shared_array`),
            "lock", "rlock", "rwlock", "semaphore", "bounded_semaphore", "event", "condition",
            "barrier", "value" (with its lock), "list" or "dict". Default: all that has the name, of
            whatever kind.

        Raises
        ------
        KeyError
            There is no such thing: of several processes that delete it, one succeeds.
        ValueError, TypeError
            There is no such kind, or the name can be none.

        Notes
        -----
        Nobody who opens things by name finds one that is deleted, and not another of the same name.
        If the process dies in here, each thing of the name is deleted, or not.
        """
        delete(self.member, self.name, name, kind)

    # -------------------------------------------------------------------- the directory of objects

    def __getitem__(self, name: str) -> Any:
        """Build the object of that name; its arrays lie in the pool and are read-only."""
        member = self.member
        if not isinstance(name, str):
            raise KeyError(name)
        hold = member.name_get(Kind.OBJECT, name)
        return member.ref(hold.handle).get()

    def get(
        self, name: str, default: Any = None, *, copy: Literal["on_write"] | bool | None = None
    ) -> Any:
        """Build the object of that name, or give `default` if there is none.

        Parameters
        ----------
        name : str
            Of an object: ``pool[name] = obj``.
        default : object, optional
            What is given if there is none.
        copy : {None, False, True, "on_write"}, optional
            How its arrays are had. None, False: read-only, where they lie. "on_write": writable and
            private, and a page is copied when it is written. True: writable and private, and all of
            them are copied at once.

        Returns
        -------
        object

        Raises
        ------
        ValueError
            `copy` is none of these.
        """
        _native.check_copy(copy)
        member = self.member
        try:
            hold = member.name_get(Kind.OBJECT, name)
        except (KeyError, TypeError):  # it is no name at all
            return default
        return member.ref(hold.handle).get(copy)

    def __setitem__(self, name: str, obj: Any) -> None:
        """Write an object under a name; a reference is stored as the object it refers to."""
        member = self.member
        checked_name(name)
        member.name_set(Kind.OBJECT, name, member.put(obj), False)

    def __delitem__(self, name: str) -> None:
        """Take a name away; whoever has the object keeps it."""
        member = self.member
        if not isinstance(name, str):
            raise KeyError(name)
        member.name_del(Kind.OBJECT, name)

    def __iter__(self) -> Iterator[str]:
        """Go through the names there are now, in the order in which they were first set."""
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
        """Give the object of that name, or write `default` under it; one process wins.

        Parameters
        ----------
        name : str
            1 to 200 bytes in UTF-8.
        default : object, optional
            What to write if there is none.

        Returns
        -------
        object
            What the name stands for now.
        """
        member = self.member
        try:
            return self[name]
        except KeyError:
            checked_name(name)
        ref = member.put(default)
        existing = member.name_set(Kind.OBJECT, name, ref, True)
        return ref.get() if existing is None else member.ref(existing.handle).get()
