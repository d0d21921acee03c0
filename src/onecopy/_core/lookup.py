"""Named things: the first call with a name creates the thing; later calls open the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from onecopy._core import memory_pressure
from onecopy._core.arguments import called
from onecopy._core.kinds import Kind
from onecopy._core.until_made import until_made
from onecopy.errors import OneCopyError, PoolFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._core.until_made import Wait
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
_MOST_NAMED = 5  # things that an error names

_Thing = TypeVar("_Thing")


class Detachable(Protocol):
    """A structure in a pool that this process can release: a queue, a lock and so on."""

    def detach(self) -> None:
        """Release the structure in this process."""


# The parameter that callers pass in the place of the name by mistake, per kind.
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
    """Check that an argument can be a name.

    Parameters
    ----------
    name : str
        1 to 200 bytes in UTF-8.
    kind : Kind, optional
        The kind of the thing that will have the name.

    Returns
    -------
    str
        The name.

    Raises
    ------
    TypeError
        It is not a string.
    ValueError
        It is empty, too long, or cannot be encoded.
    """
    if not isinstance(name, str):
        text = f"{called()} argument 'name' must be a string, not {type(name).__name__} {name!r}"
        if kind in _MISTAKEN:
            text += (
                f": the first argument is the name; without a name, write {_MISTAKEN[kind]}="
                f"{name!r}, and pass the other arguments by name, too"
            )
        raise TypeError(text)
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"the name {name!r} cannot be encoded as UTF-8") from None
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
    wait: Wait = False,
) -> _Thing:
    """Open the thing of that name, or create it. Of several processes, the first one creates it.

    Parameters
    ----------
    member : Member
        The membership.
    kind : Kind
        The kind of the thing.
    name : str or None
        None: create one without a name.
    make : callable
        Called with None to create the thing, or with a hold on the existing thing to open it. It
        raises if the arguments of the call contradict the existing thing.
    store : callable
        Returns the object that the name will refer to, for a created thing. Default: the thing
        itself.
    again : bool, optional
        Whether `make` may be called again if the pool was full and memory was released. False if
        `make` uses up an iterator.
    wait : bool or float, optional
        If it is not False, the thing is not created: the call waits until another process has
        created it. A number limits the wait, in seconds.

    Returns
    -------
    thing
        The last result of `make`.

    Raises
    ------
    OneCopyError
        With `wait`: the time is up, and there is no thing of that name.
    """
    if wait is not False:
        return make(_existing(member, kind, name, wait))
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
    # If another process was faster, drop our thing and open the other one.
    return thing if existing is None else make(existing)


def _existing(member: Member, kind: Kind, name: str | None, wait: Wait) -> Hold:
    """Return a hold on the thing of that name, when another process has created it."""
    if name is None:
        raise ValueError(f"wait={wait!r} needs a name: without one, the call makes a new thing")
    checked = checked_name(name, kind)
    try:
        return until_made(lambda: member.name_get(kind, checked), KeyError, wait)
    except KeyError:
        what = kind.name.lower().replace("_", " ")
        text = f"after a wait of {wait:g} s, no process has made the {what} {name!r}"
        there = sorted(member.name_list(kind))[:_MOST_NAMED]
        if there:
            text += f"; the pool has {', '.join(map(repr, there))}"
    raise OneCopyError(f"{text}. Start the process that makes it, or wait longer (wait=True)")


def _create(make: Callable[[Hold | None], _Thing], again: bool) -> _Thing:
    before = memory_pressure.times()
    try:
        return make(None)
    except PoolFull:
        if not again or memory_pressure.times() == before:
            raise
    return make(None)  # memory was released meanwhile


def delete(member: Member, pool: str, name: str, kind: str | None) -> None:
    """Delete a name; see `Pool.delete`."""
    checked_name(name)
    found = 0
    which = [each for each in Kind if kind in {None, each.name.lower()}]
    if kind == Kind.VALUE_LOCK.name.lower() or not which:
        known = ", ".join(repr(each.name.lower()) for each in Kind if each is not Kind.VALUE_LOCK)
        raise ValueError(f"kind={kind!r}: it is one of {known}")
    if Kind.VALUE in which and Kind.VALUE_LOCK not in which:
        which.append(Kind.VALUE_LOCK)
    found = member.name_del_kinds(sum(1 << each for each in which), name)
    # Only the lock is left: a process died while it deleted the value.
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
    text = f"there is {what} named {name!r} in pool {pool!r}"
    if others:
        return f"{text}; these have that name: {', '.join(others)}"
    from difflib import get_close_matches

    every = {each for each in Kind if kind in {None, each.name.lower()}}
    near = get_close_matches(name, {n for each in every for n in member.name_list(each)}, 3)
    return f"{text}; there is {', '.join(map(repr, near))}" if near else text


def check_matches(
    what: str, name: str | None, argument: str, asked: object, existing: object
) -> None:
    """Check that an argument does not contradict the existing thing.

    Parameters
    ----------
    what, name : str
        The thing, for example ``"queue"`` and ``"jobs"``.
    argument : str
        The parameter.
    asked : object
        The argument of the call. None: it was left out.
    existing : object
        The value that the thing has.

    Raises
    ------
    OneCopyError
        They differ.
    """
    if asked is not None and asked != existing:
        raise OneCopyError(
            f"{what} {name!r} exists with {argument}={existing!r}, but this call has "
            f"{argument}={asked!r}; leave {argument} out to use the existing one, delete its name "
            f"(Pool.delete), or use another name"
        )
