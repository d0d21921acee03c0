"""The methods of `Pool` that make or open locks, semaphores, events, conditions and barriers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from onecopy._core.arguments import seconds
from onecopy._core.kinds import Kind
from onecopy._core.lookup import check_matches, open_or_create
from onecopy.errors import OneCopyError
from onecopy.locks.barrier import Barrier, checked_parties
from onecopy.locks.condition import Condition, checked_lock
from onecopy.locks.event import Event
from onecopy.locks.mutex import Lock, RLock
from onecopy.locks.rwlock import RWLock, prefer_number
from onecopy.locks.semaphore import BoundedSemaphore, Semaphore, checked_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._core.lookup import Detachable
    from onecopy._native import Hold, Member
    from onecopy.locks.deaths import OwnerDeathPolicy
    from onecopy.locks.rwlock import Prefer

__all__ = ["LockFactory"]

_Part = TypeVar("_Part", bound="Detachable")
_Semaphore = TypeVar("_Semaphore", bound=Semaphore)


class LockFactory:
    """The methods that make locks and similar structures.

    The first call with a name, in any process, makes the thing. Later calls open it. An argument
    that is left out has the value of the existing thing. An argument that contradicts the existing
    thing raises `OneCopyError`. A thing without a name can be sent by reference: pickle it, send
    it, or pass it to a child. Each method raises `PoolFull` if there is no room. Each kind has its
    own names: ``lock("a")`` and ``rlock("a")`` are two things.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def member(self) -> Member: ...  # noqa: D102 - Pool's
        def _own(self, part: _Part, /) -> _Part: ...

    def lock(self, name: str | None = None, *, on_owner_death: OwnerDeathPolicy = "warn") -> Lock:
        """Make a lock, or open it by its name; see `Lock`."""
        return self._make(
            Kind.LOCK, name, lambda hold: Lock._open(hold, self.member, name, on_owner_death)
        )

    def rlock(self, name: str | None = None, *, on_owner_death: OwnerDeathPolicy = "warn") -> RLock:
        """Make a recursive lock, or open it by its name; see `RLock`."""
        return self._make(
            Kind.RLOCK, name, lambda hold: RLock._open(hold, self.member, name, on_owner_death)
        )

    def rwlock(
        self,
        name: str | None = None,
        prefer: Prefer | None = None,
        *,
        on_owner_death: OwnerDeathPolicy = "warn",
    ) -> RWLock:
        """Make a reader-writer lock, or open it by its name; see `RWLock`."""
        number = prefer_number("writer" if prefer is None else prefer)

        def make(hold: Hold | None) -> RWLock:
            lock = RWLock._open(hold, self.member, name, number, on_owner_death)
            check_matches("rwlock", name, "prefer", prefer, lock.prefer)
            return lock

        return self._make(Kind.RWLOCK, name, make)

    def semaphore(
        self, name: str | None = None, value: int | None = None, *, recover: bool | None = None
    ) -> Semaphore:
        """Make a semaphore (default value: 1), or open it by its name; see `Semaphore`."""
        return self._semaphore(Semaphore, Kind.SEMAPHORE, name, value, recover)

    def bounded_semaphore(
        self, name: str | None = None, value: int | None = None, *, recover: bool | None = None
    ) -> BoundedSemaphore:
        """Make a bounded semaphore, or open it by its name; see `BoundedSemaphore`."""
        return self._semaphore(BoundedSemaphore, Kind.BOUNDED_SEMAPHORE, name, value, recover)

    def event(self, name: str | None = None) -> Event:
        """Make an event, or open it by its name; see `Event`."""
        return self._make(Kind.EVENT, name, lambda hold: Event._open(hold, self.member, name))

    def condition(self, name: str | None = None, lock: Lock | RLock | None = None) -> Condition:
        """Make a condition variable, or open it by its name; see `Condition`."""
        checked_lock(lock)

        def make(hold: Hold | None) -> Condition:
            condition = Condition._open(hold, self.member, name, lock)
            if lock is not None and lock.handle != condition._lock_handle:
                raise OneCopyError(
                    f"condition {name!r} exists with another lock; leave lock out to use the "
                    "existing one, or use another name"
                )
            return condition

        return self._make(Kind.CONDITION, name, make)

    def barrier(
        self,
        name: str | None = None,
        parties: int | None = None,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> Barrier:
        """Make a barrier, or open it by its name; see `Barrier`."""
        if parties is not None:
            parties = checked_parties(parties)
        seconds("timeout", timeout)

        def make(hold: Hold | None) -> Barrier:
            if hold is None and parties is None:
                raise OneCopyError(
                    f"there is no barrier {name!r}; to make it, pass the number of parties"
                )
            barrier = Barrier._open(hold, self.member, name, parties or 1, action, timeout)
            check_matches("barrier", name, "parties", parties, barrier.parties)
            return barrier

        return self._make(Kind.BARRIER, name, make)

    def _semaphore(
        self,
        cls: type[_Semaphore],
        kind: Kind,
        name: str | None,
        value: int | None,
        recover: bool | None,
    ) -> _Semaphore:
        initial = 1 if value is None else checked_value(value)

        def make(hold: Hold | None) -> _Semaphore:
            semaphore = cls._open(hold, self.member, name, initial, recover is not False)
            check_matches("semaphore", name, "value", value, semaphore.initial)
            check_matches("semaphore", name, "recover", recover, semaphore.recovers)
            return semaphore

        return self._make(kind, name, make)

    def _make(self, kind: Kind, name: str | None, make: Callable[[Hold | None], _Part]) -> _Part:
        return self._own(open_or_create(self.member, kind, name, make))
