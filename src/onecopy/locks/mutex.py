"""Lock and RLock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy._core.arguments import unnamed
from onecopy._core.current import default_member
from onecopy._core.shared import Shared
from onecopy._native import LockBase, own_methods
from onecopy.locks.deaths import LockOwner, OnDeath, OwnerDeathPolicy, owner_of

if TYPE_CHECKING:
    from onecopy._native import Hold, Member

__all__ = ["Lock", "RLock"]


class _Mutex(Shared, LockBase):
    _recursive = False
    _made_by: str
    _on_death: OnDeath

    @unnamed
    def __init__(self, *, on_owner_death: OwnerDeathPolicy = "warn") -> None:
        self._attach(None, default_member(), on_owner_death)

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        (policy,) = state
        what = type(self).__name__.lower() + ("" if self._name is None else f" {self._name!r}")
        self._on_death = OnDeath(policy, f"the {what}")
        LockBase.__init__(self, hold, member, self._recursive, self._on_death)

    def _state(self) -> tuple[Any, ...]:
        return (self._on_death.policy,)

    def _describe(self) -> str:
        owner = self.owner
        if owner is None:
            return ", free"
        dead = "" if owner.alive else " (dead)"
        return f", held by process {owner.pid}{dead} for {owner.age:.1f} s"

    @property
    def owner(self) -> LockOwner | None:
        """Who has the lock: ``pid``, ``age`` in seconds, ``alive``; None: nobody."""
        return owner_of(self)


@own_methods
class Lock(_Mutex):
    """A lock that one process at a time has, and that survives its owner.

    The methods of `multiprocessing.Lock`: ``acquire(block=True, timeout=None)`` (a negative timeout
    does not wait), ``release()``, ``locked()``, and ``with``. ``Lock()`` makes one in the default
    pool; `Pool.lock` makes or opens one in any pool. Pickle it to have the same lock in another
    process, related or not.

    When the owner dies (or leaves the pool, or ends, without a release), whoever asks next gets the
    lock within a fraction of a second, and is told.

    Parameters
    ----------
    on_owner_death : {"warn", "raise"} or callable, optional
        What `acquire` (and ``with``) does in this process when it takes the lock over from a dead
        owner.

        ``"warn"``
            Warn with `OwnerDiedWarning` and go on. If warnings are errors, the lock is given back,
            and the next owner is told again.
        ``"raise"``
            Raise `OwnerDied` *with the lock held*: repair in the ``except`` clause, then
            ``release()``.
        a function
            Called with the lock as its argument and held, to repair. If it raises, the lock is
            given back and the next owner is told again. It must not release the lock. To pickle
            the lock, the function must be importable.

    Raises
    ------
    PoolFull
        There is no room for the lock.

    Notes
    -----
    Any thread or process may release it, as in multiprocessing; releasing a lock that nobody has
    raises ValueError. Ownership is per process: a thread that dies with the lock is not noticed.
    A fork's child does not have its parent's lock. A process that is stopped (SIGSTOP) keeps it.
    """

    _made_by = "lock"


@own_methods
class RLock(_Mutex):
    """A lock that the thread that has it may take again.

    As `Lock`, but only the thread that took it may release it (RuntimeError else), as often as it
    took it. See there for `on_owner_death`.
    """

    _recursive = True
    _made_by = "rlock"
