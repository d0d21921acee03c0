"""Named things: the first call with a name creates, later ones, in any process, open the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from onecopy._core import memory_pressure
from onecopy._core.arguments import called
from onecopy._core.kinds import Kind
from onecopy.errors import OneCopyError, PoolFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._native import Hold, Member

__all__ = [
    "LONGEST",
    "Detachable",
    "check_matches",
    "checked_name",
    "delete",
    "open_or_create",
]

LONGEST = 200  # bytes of UTF-8

_Thing = TypeVar("_Thing")


class Detachable(Protocol):
    """A queue, a lock, or whatever else in a pool this process can let go of."""

    def detach(self) -> None:
        """Let go of it here."""


# What is passed in the place of the name by mistake, per kind.
_MISTAKEN = {
    Kind.QUEUE: "maxsize",
    Kind.STREAM: "depth",
    Kind.FRAMES: "shape",
    Kind.SEMAPHORE: "value",
    Kind.BOUNDED_SEMAPHORE: "value",
    Kind.CONDITION: "lock",
    Kind.BARRIER: "parties",
}


def checked_name(name: object, kind: Kind | None = None) -> str:
    """Refuse what cannot be a name.

    Parameters
    ----------
    name : str
        1 to 200 bytes in UTF-8.
    kind : Kind, optional
        What is to have the name.

    Returns
    -------
    str
        The name.

    Raises
    ------
    TypeError
        It is no string.
    ValueError
        It is empty, too long, or cannot be encoded.
    """
    if not isinstance(name, str):
        text = f"{called()} argument 'name' must be a string, not {type(name).__name__} {name!r}"
        if kind in _MISTAKEN:
            text += (
                f": the name comes first; without one, write {_MISTAKEN[kind]}="
                f"{name!r} and so on, by name"
            )
        raise TypeError(text)
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"the name {name!r} cannot be written as UTF-8") from None
    if not 0 < length <= LONGEST:
        raise ValueError(f"a name has 1 to {LONGEST} bytes in UTF-8; this one has {length}")
    return name


def open_or_create(
    member: Member,
    kind: Kind,
    name: str | None,
    make: Callable[[Hold | None], _Thing],
    *,
    store: Callable[[_Thing], Any] = lambda thing: thing,
    again: bool = True,
) -> _Thing:
    """Open the thing of that name, or create it; whichever process is first creates.

    Parameters
    ----------
    member : Member
        The membership.
    kind : Kind
        What the name stands for.
    name : str or None
        None: create one without a name.
    make : callable
        Called with None to create, with a hold of what exists to open. Raises if the arguments of
        the call contradict it.
    store : callable
        Gives what the name shall refer to, for a thing that was created. Default: the thing itself.
    again : bool, optional
        Whether `make` may be called once more if the pool was full and something was let go of:
        not if it uses up an iterator.

    Returns
    -------
    thing
        What `make` returned last.
    """
    if name is None:
        return _create(make, again)
    checked_name(name, kind)
    try:
        hold = member.name_get(kind, name)
    except KeyError:
        pass
    else:
        return make(hold)
    thing = _create(make, again)
    existing = member.name_set(kind, name, store(thing), True)
    # Another process was faster: ours goes, theirs counts.
    return thing if existing is None else make(existing)


def _create(make: Callable[[Hold | None], _Thing], again: bool) -> _Thing:
    before = memory_pressure.times()
    try:
        return make(None)
    except PoolFull:
        if not again or memory_pressure.times() == before:
            raise
    return make(None)  # what nobody needed was let go of meanwhile


def delete(member: Member, pool: str, name: str, kind: str | None) -> None:
    """Take a name away; see `Pool.delete`."""
    checked_name(name)
    found = 0
    which = [each for each in Kind if kind in {None, each.name.lower()}]
    if kind == Kind.VALUE_LOCK.name.lower() or not which:
        known = ", ".join(repr(each.name.lower()) for each in Kind if each is not Kind.VALUE_LOCK)
        raise ValueError(f"kind={kind!r}: it is one of {known}")
    if Kind.VALUE in which and Kind.VALUE_LOCK not in which:
        which.append(Kind.VALUE_LOCK)
    found = member.name_del_kinds(sum(1 << each for each in which), name)
    # The lock alone: of a value whose deleter died between the two.
    if found in {0, 1 << Kind.VALUE_LOCK}:
        raise KeyError(_not_there(member, pool, name, kind))


def _not_there(member: Member, pool: str, name: str, kind: str | None) -> str:
    names = {
        each: member.name_list(each)
        for each in Kind
        if each is not Kind.VALUE_LOCK and each.name.lower() != kind
    }
    others = [each.name.lower().replace("_", " ") for each in names if name in names[each]]
    what = "nothing" if kind is None else f"no {kind.replace('_', ' ')}"
    text = f"there is {what} named {name!r} in pool {pool!r} to delete"
    if others:
        return f"{text}; what has that name is: {', '.join(others)}"
    from difflib import get_close_matches

    every = {each for each in Kind if kind in {None, each.name.lower()}}
    near = get_close_matches(name, {n for each in every for n in member.name_list(each)}, 3)
    return f"{text}; there is {', '.join(map(repr, near))}" if near else text


def check_matches(
    what: str, name: str | None, argument: str, asked: object, existing: object
) -> None:
    """Refuse an argument that contradicts what exists.

    Parameters
    ----------
    what, name : str
        The thing, such as ``"queue"`` and ``"jobs"``.
    argument : str
        The parameter.
    asked : object
        Its argument; None: left out.
    existing : object
        What the thing has.

    Raises
    ------
    OneCopyError
        They differ.
    """
    if asked is not None and asked != existing:
        raise OneCopyError(
            f"{what} {name!r} exists with {argument}={existing!r}, and was asked for with "
            f"{argument}={asked!r}; leave {argument} out to take it as it is, take the name away "
            f"from it (Pool.delete), or use another name"
        )
