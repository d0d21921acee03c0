"""RWLock: many readers or one writer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from onecopy._core.arguments import Elsewhere, choice, without_elsewhere
from onecopy._core.current import default_member
from onecopy._core.shared import Shared
from onecopy._native import RWLockBase, own_methods
from onecopy.locks.deaths import LockOwner, OnDeath, OwnerDeathPolicy, owner_of
from onecopy.locks.mutex import ONLY_LOCKS

if TYPE_CHECKING:
    from onecopy._native import Hold, Member

__all__ = ["Prefer", "RWLock", "prefer_number"]

Prefer: TypeAlias = 'Literal["writer", "reader", "fair"]'
_PREFER = ("writer", "reader", "fair")  # in the core's order


def prefer_number(prefer: str, otherwise: str = "") -> int:
    """Return the core's number of a preference.

    Parameters
    ----------
    prefer : str
        The argument of the user.
    otherwise : str, optional
        What to write instead, if the argument is similar to no preference.

    Raises
    ------
    ValueError
        There is no such preference.
    """
    return choice("prefer", prefer, _PREFER, otherwise)


@own_methods
class RWLock(Shared, RWLockBase):
    """A lock for many readers together, or one writer alone.

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
        Which side is first if both wait. ``"writer"`` (the default): no reader enters while a
        writer waits. ``"reader"``: a writer enters only when there is no reader. ``"fair"``: as
        ``"writer"``, but waiting readers enter between two writers.
    on_owner_death : {"warn", "raise"} or callable, optional
        As for `Lock`, for a writer that died while it owned the lock. The next thread, also a
        reader, is notified while it owns the lock for writing. With ``"raise"``, a writer gets
        `OwnerDied` and owns the lock. A reader cannot repair, so it gets `OwnerDied` and no lock.
        So does every later reader, until a writer has acquired the lock.

    Raises
    ------
    PoolFull
        There is no room for the lock.
    ValueError
        There is no such preference.

    Notes
    -----
    Readers of different processes write to different memory. Writers do not wait for a dead reader.
    A thread that reads may acquire the reading side again at any time, and must release it as many
    times. A thread that reads cannot acquire the writing side, and a thread that writes cannot
    acquire the reading side (RuntimeError), because it would wait for itself. The thread that
    acquired a side must release it. If a thread ends without releasing the reading side, writers
    wait as long as its process lives. A forked child owns neither side of its parent's locks.

    Examples
    --------
    >>> pool = oc.Pool("locks", size="4MiB")
    >>> lock = pool.rwlock("table")
    >>> with lock.read():  # many readers at a time
    ...     lock.readers
    1
    >>> with lock.write(timeout=10):  # one writer, and no reader
    ...     lock.readers
    0
    >>> lock.detach()  # this process has it no more; other processes keep it
    """

    _on_death: OnDeath
    if not TYPE_CHECKING:
        aio = Elsewhere(ONLY_LOCKS)
        __dir__ = without_elsewhere

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
        """Which side is first if both wait."""
        return cast("Prefer", _PREFER[self._prefer])

    @property
    def owner(self) -> LockOwner | None:
        """The writer: ``pid``, ``age`` in seconds, ``alive``. None: there is no writer."""
        return owner_of(self)
