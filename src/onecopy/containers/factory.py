"""The methods of `Pool` that make or open lists and dicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from onecopy._core.arguments import items, refuse
from onecopy._core.kinds import Kind
from onecopy._core.lookup import open_or_create
from onecopy.containers.dict import Dict
from onecopy.containers.list import List
from onecopy.containers.shared import DetachHandle

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from onecopy._core.lookup import Detachable
    from onecopy._core.typevars import K, T, V
    from onecopy._native import Member

__all__ = ["ContainerFactory"]

_Part = TypeVar("_Part", bound="Detachable")


class ContainerFactory:
    """The methods that make lists and dicts. Each raises `PoolFull` if there is no room."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def member(self) -> Member: ...  # noqa: D102 - Pool's
        def _own(self, part: _Part, /) -> _Part: ...

    def list(self, iterable: Iterable[T] = (), name: str | None = None) -> List[T]:
        """Make a list, or open it by its name; see `List`.

        Parameters
        ----------
        iterable : iterable, optional
            The initial items, if the list is made. No process can open the list without them. Not
            used if the list exists.
        name : str, optional
            The first call with a name, in any process, makes the list. Later calls open it. A list
            without a name can be sent by reference.

        Returns
        -------
        List
        """
        if isinstance(iterable, str):
            refuse(
                "iterable",
                "an iterable of items",
                iterable,
                f"to name it, write pool.list(name={iterable!r}); for a list of characters, "
                f"pool.list(list({iterable!r}))",
            )
        items("iterable", iterable)
        member = self.member
        made = open_or_create(
            member,
            Kind.LIST,
            name,
            lambda hold: List._open(hold, member, name, iterable),
            again=False,
        )
        self._own(DetachHandle(made))
        return made

    @overload
    def dict(self, pairs: Mapping[K, V] | Dict[K, V], name: str | None = None) -> Dict[K, V]: ...
    @overload
    def dict(self, pairs: Iterable[tuple[K, V]] = (), name: str | None = None) -> Dict[K, V]: ...
    def dict(self, pairs: Any = (), name: str | None = None) -> Dict[Any, Any]:
        """Make a dict, or open it by its name; see `Dict`.

        Parameters
        ----------
        pairs : mapping or iterable of pairs, optional
            The initial entries, as for `list`.
        name : str, optional
            As for `list`.

        Returns
        -------
        Dict
        """
        if isinstance(pairs, str):
            refuse(
                "pairs",
                "a mapping or pairs",
                pairs,
                f"to name the dict, write pool.dict(name={pairs!r})",
            )
        items("pairs", pairs, "a mapping or pairs")
        member = self.member
        made = open_or_create(
            member,
            Kind.DICT,
            name,
            lambda hold: Dict._open(hold, member, name, pairs, {}),
            again=False,
        )
        self._own(DetachHandle(made))
        return made
