"""RWLock: many readers or one writer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from onecopy._core.arguments import choice
from onecopy._core.current import default_member
from onecopy._core.shared import Shared
from onecopy._native import RWLockBase, own_methods
from onecopy.locks.deaths import LockOwner, OnDeath, OwnerDeathPolicy, owner_of

if TYPE_CHECKING:
    from onecopy._native import Hold, Member

__all__ = ["Prefer", "RWLock", "prefer_number"]

Prefer: TypeAlias = 'Literal["writer", "reader", "fair"]'
_PREFER = ("writer", "reader", "fair")  # in the core's order


def prefer_number(prefer: str, otherwise: str = "") -> int:
    """Give the core's number of a preference.

    Parameters
    ----------
    prefer : str
        What the user wrote.
    otherwise : str, optional
        What to write instead, if it is like no preference.

    Raises
    ------
    ValueError
        There is no such preference.
    """
    return choice("prefer", prefer, _PREFER, otherwise)


@own_methods
class RWLock(Shared, RWLockBase):
    """A lock that many readers have together, or one writer alone.

    ::

        with lock.read():
            ...
        with lock.write(timeout=2):  # TimeoutError
            ...
        if lock.read().acquire(timeout=0.1):
            ...
            lock.read().release()

    Parameters
    ----------
    prefer : {"writer", "reader", "fair"}, optional
        Who goes first when both wait. ``"writer"`` (the default): no reader enters once a writer
        waits. ``"reader"``: a writer waits for a moment when nobody reads. ``"fair"``: as
        ``"writer"``, but readers who wait are let in between two writers.
    on_owner_death : {"warn", "raise"} or callable, optional
        As for `Lock`, for a writer that died inside. The next one to come is told while it has the
        lock for writing, also if it came to read. With ``"raise"`` a writer gets `OwnerDied` with
        the lock held; a reader, who could repair nothing, gets `OwnerDied` and no lock, as does
        every reader after it until a writer has come.

    Raises
    ------
    PoolFull
        There is no room for the lock.
    ValueError
        There is no such preference.

    Notes
    -----
    Readers of different processes do not touch each other's memory. A dead reader is not waited
    for. A thread that reads may read again at any time, and must give both back; a thread that
    reads cannot ask to write, nor one that writes to read (RuntimeError): it would wait for itself.
    Each side is released by the thread that took it; one that ends without doing so keeps writers
    out for as long as its process lives. A fork's child has nothing of its parent's.
    """

    _on_death: OnDeath

    def __init__(
        self, prefer: Prefer = "writer", *, on_owner_death: OwnerDeathPolicy = "warn"
    ) -> None:
        number = prefer_number(prefer, f"to give the lock a name, write pool.rwlock({prefer!r})")
        self._attach(None, default_member(), number, on_owner_death)

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        number, policy = state
        what = "the rwlock" + ("" if self._name is None else f" {self._name!r}")
        self._on_death = OnDeath(policy, what)
        RWLockBase.__init__(self, hold, member, number, self._on_death)

    def _state(self) -> tuple[Any, ...]:
        return 0, self._on_death.policy

    def _describe(self) -> str:
        owner = self.owner
        if owner is not None:
            return f", process {owner.pid} writes{'' if owner.alive else ' (dead)'}"
        return f", {self.readers} readers"

    @property
    def prefer(self) -> Prefer:
        """Who goes first when both wait."""
        return cast("Prefer", _PREFER[self._prefer])

    @property
    def owner(self) -> LockOwner | None:
        """Who writes: ``pid``, ``age`` in seconds, ``alive``; None: nobody."""
        return owner_of(self)
