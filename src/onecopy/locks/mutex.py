"""Lock and RLock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy._core.arguments import Elsewhere, unnamed, without_elsewhere
from onecopy._core.current import default_member
from onecopy._core.shared import Shared
from onecopy._native import LockBase, own_methods
from onecopy.locks.deaths import LockOwner, OnDeath, OwnerDeathPolicy, owner_of

if TYPE_CHECKING:
    from onecopy._aio.locks import AioLock
    from onecopy._native import Hold, Member

__all__ = ["ONLY_LOCKS", "Lock", "RLock"]

ONLY_LOCKS = (  # what to write instead of `rlock.aio` and `rwlock.aio`
    "pool.lock(name).aio. Such a lock belongs to a thread, and all tasks of an event loop run in "
    "one thread, so it would not exclude them from each other"
)


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
        """The owner of the lock: ``pid``, ``age`` in seconds, ``alive``. None: the lock is free."""
        return owner_of(self)


@own_methods
class Lock(_Mutex):
    """A lock that one process at a time owns, and that survives the death of its owner.

    It has the methods of `multiprocessing.Lock`: ``acquire(block=True, timeout=None)`` (a negative
    timeout does not wait), ``release()``, ``locked()``, and ``with``. ``Lock()`` makes a lock in
    the default pool. `Pool.lock` makes or opens a lock in any pool. To use the same lock in another
    process, related or not, pickle it.

    If the owner dies, leaves the pool or ends without a release, the next thread that asks gets the
    lock within a fraction of a second, and is notified.

    Parameters
    ----------
    on_owner_death : {"warn", "raise"} or callable, optional
        What `acquire` (and ``with``) does in this process when it gets the lock of a dead owner.

        ``"warn"``
            Warn with `OwnerDiedWarning` and continue. If warnings are errors, the lock is released,
            and the next owner is notified again.
        ``"raise"``
            Raise `OwnerDied` *with the lock held*: repair in the ``except`` clause, then
            ``release()``.
        a function
            A function that repairs the data. It is called with the lock as its argument, while the
            caller owns the lock. It must not release the lock. If it raises, the lock is released
            and the next owner is notified again. To pickle the lock, the function must be
            importable.

    Raises
    ------
    PoolFull
        There is no room for the lock.

    Notes
    -----
    Any thread or process may release the lock, as in multiprocessing. Releasing a free lock raises
    ValueError. Ownership is per process: if a thread ends while it owns the lock, onecopy does not
    notice. A forked child does not own its parent's locks. A process that is stopped (SIGSTOP)
    keeps its locks.

    Examples
    --------
    >>> pool = oc.Pool("locks", size="4MiB")
    >>> lock = pool.lock("door")  # another process opens the same lock by this name
    >>> with lock:
    ...     lock.locked(), lock.owner is not None
    (True, True)
    >>> lock.acquire(timeout=10)
    True
    >>> lock.release()
    >>> lock.locked()
    False
    >>> lock.detach()  # this process has it no more; other processes keep it
    """

    _made_by = "lock"

    @property
    def aio(self) -> AioLock:
        """`acquire` and ``async with`` for tasks of an event loop; see docs/asyncio.md."""
        from onecopy._aio.locks import AioLock

        return AioLock(self)


@own_methods
class RLock(_Mutex):
    """A lock that its owner thread may acquire again.

    Like `Lock`, but only the thread that acquired it may release it (otherwise RuntimeError), as
    many times as it acquired it. For `on_owner_death` see `Lock`.

    Examples
    --------
    >>> pool = oc.Pool("locks", size="4MiB")
    >>> lock = pool.rlock("door")
    >>> with lock, lock:  # its owner may take it again
    ...     lock.locked()
    True
    >>> lock.acquire(block=False)
    True
    >>> lock.release()
    >>> lock.detach()  # this process has it no more; other processes keep it
    """

    _recursive = True
    _made_by = "rlock"
    if not TYPE_CHECKING:
        aio = Elsewhere(ONLY_LOCKS)
        __dir__ = without_elsewhere
