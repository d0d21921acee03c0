"""What happens to whoever gets a lock whose last owner died while it had it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

from onecopy.errors import OwnerDied, OwnerDiedWarning

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LockOwner", "OnDeath", "OwnerDeathPolicy", "owner_of"]

OwnerDeathPolicy: TypeAlias = 'Literal["warn", "raise"] | Callable[[Any], object]'


class LockOwner(NamedTuple):
    """Who has a lock.

    Attributes
    ----------
    pid : int
        Of the process, in its own PID namespace.
    age : float
        Seconds since it took the lock, give or take a few milliseconds.
    alive : bool
        Whether the process lives. A dead owner's lock goes to whoever asks for it next.
    """

    pid: int
    age: float
    alive: bool


class _HasOwner(Protocol):
    @property
    def owner_info(self) -> tuple[int, bool, float] | None: ...


def owner_of(lock: _HasOwner) -> LockOwner | None:
    """Say who has a lock; None: nobody."""
    info = lock.owner_info
    if info is None:
        return None
    pid, alive, age = info
    return LockOwner(pid, age, alive)


class OnDeath:
    """The policy of one lock object, called by the core with the lock held.

    Parameters
    ----------
    policy : {"warn", "raise"} or callable
        As the user gave it.
    what : str
        The lock, for messages.

    Raises
    ------
    ValueError, TypeError
        It is none of these.
    """

    __slots__ = ("policy", "what")

    def __init__(self, policy: OwnerDeathPolicy, what: str) -> None:
        if isinstance(policy, str):
            if policy not in {"warn", "raise"}:
                raise ValueError(
                    f"on_owner_death={policy!r}: it is 'warn', 'raise', or something to call with "
                    "the lock"
                )
        elif not callable(policy):
            raise TypeError(
                f"on_owner_death is 'warn', 'raise' or callable, not {type(policy).__name__}"
            )
        self.policy = policy
        self.what = what

    def __call__(self, lock: Any, pid: int) -> None:
        """Do what the policy says; what it raises comes out of `acquire`."""
        text = (
            f"process {pid} died, or left the pool, while it had {self.what}; this process has it "
            "now. What it protects may be half changed: check or repair it before you rely on it"
        )
        if self.policy == "raise":
            raise OwnerDied(f"{text}, then release the lock.")
        try:
            if callable(self.policy):
                self.policy(lock)
            else:
                warnings.warn(
                    f"{text}. (on_owner_death='raise', or a function, instead of this warning)",
                    OwnerDiedWarning,
                    stacklevel=2,
                )
        except BaseException:
            # Nobody has repaired anything: the next owner is told again.
            lock.abandon()
            raise
