"""What happens when a thread gets a lock whose last owner died."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

from onecopy.errors import OwnerDied, OwnerDiedWarning

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LockOwner", "OnDeath", "OwnerDeathPolicy", "owner_of"]

OwnerDeathPolicy: TypeAlias = 'Literal["warn", "raise"] | Callable[[Any], object]'


class LockOwner(NamedTuple):
    """The owner of a lock.

    Attributes
    ----------
    pid : int
        The process number, in the PID namespace of that process.
    age : float
        Seconds since it acquired the lock, exact to a few milliseconds.
    alive : bool
        Whether the process is alive. The next thread that asks gets the lock of a dead owner.
    """

    pid: int
    age: float
    alive: bool


class _HasOwner(Protocol):
    @property
    def _owner_info(self) -> tuple[int, bool, float] | None: ...


def owner_of(lock: _HasOwner) -> LockOwner | None:
    """Return the owner of a lock. None: it has no owner."""
    info = lock._owner_info
    if info is None:
        return None
    pid, alive, age = info
    return LockOwner(pid, age, alive)


class OnDeath:
    """The policy of one lock object, called by the core with the lock held.

    Parameters
    ----------
    policy : {"warn", "raise"} or callable
        The argument that the user passed.
    what : str
        A description of the lock, for messages.

    Raises
    ------
    ValueError, TypeError
        The policy is none of these.
    """

    __slots__ = ("policy", "what")

    def __init__(self, policy: OwnerDeathPolicy, what: str) -> None:
        if isinstance(policy, str):
            if policy not in {"warn", "raise"}:
                raise ValueError(
                    f"on_owner_death={policy!r}: it must be 'warn', 'raise', or a function of "
                    "the lock"
                )
        elif not callable(policy):
            raise TypeError(
                f"on_owner_death must be 'warn', 'raise' or callable, not {type(policy).__name__}"
            )
        self.policy: OwnerDeathPolicy = policy
        self.what: str = what

    def __call__(self, lock: Any, pid: int, stays: bool) -> None:
        """Apply the policy.

        If this raises, `acquire` raises. Then the core releases the lock, and the next owner is
        notified again, because the data was not repaired. `OwnerDied` is an exception: the caller
        keeps the lock, unless `stays` is false. `stays` is false for a reader, because a reader
        cannot repair.
        """
        text = f"process {pid} died, or left the pool, while it owned {self.what}"
        if self.policy == "raise":
            raise OwnerDied(
                f"{text}. This process owns it now, and the protected data may be half changed: "
                "repair the data, then release the lock."
                if stays
                else f"{text}, so the protected data may be half changed. It cannot be read before "
                "a process has acquired the lock for writing, and repaired the data."
            )
        if callable(self.policy):
            self.policy(lock)
        else:
            warnings.warn(
                f"{text}. This process owns it now. The protected data may be half changed: check "
                "or repair it before you rely on it. (To get an exception or a call instead, use "
                "on_owner_death='raise' or a function.)",
                OwnerDiedWarning,
                stacklevel=2,
            )
