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
    def _owner_info(self) -> tuple[int, bool, float] | None: ...


def owner_of(lock: _HasOwner) -> LockOwner | None:
    """Say who has a lock; None: nobody."""
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

    def __call__(self, lock: Any, pid: int, stays: bool) -> None:
        """Do what the policy says.

        What it raises comes out of `acquire`. Then the core gives the lock back in a way that the
        next owner is told again, because nobody has repaired anything; but with `OwnerDied` the
        lock stays held, unless `stays` is false: a reader, who cannot repair, gets nothing.
        """
        text = f"process {pid} died, or left the pool, while it had {self.what}"
        if self.policy == "raise":
            raise OwnerDied(
                f"{text}. This process has it now, and what it protects may be half changed: "
                "repair that, then release the lock."
                if stays
                else f"{text}, so what it protects may be half changed. It cannot be read before a "
                "process has taken the lock for writing, and repaired it."
            )
        if callable(self.policy):
            self.policy(lock)
        else:
            warnings.warn(
                f"{text}; this process has it now. What it protects may be half changed: check or "
                "repair it before you rely on it. (on_owner_death='raise', or a function, instead "
                "of this warning)",
                OwnerDiedWarning,
                stacklevel=2,
            )
