"""What lists and dicts in a pool have in common: the lock for what takes several operations."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any
from weakref import ref

from onecopy._core import membership
from onecopy._core.shared import Shared
from onecopy._native import own_methods
from onecopy.errors import OwnerDiedWarning
from onecopy.locks.deaths import OnDeath
from onecopy.locks.mutex import RLock

if TYPE_CHECKING:
    from onecopy._native import Hold, Member

__all__ = ["Container", "ContainerLock", "DetachHandle"]


class DetachHandle:
    """What a pool knows a container by, to detach it: a container has no hash."""

    __slots__ = ("__weakref__", "_container")

    def __init__(self, container: Container) -> None:
        self._container = ref(container)
        container._detach_handle = self

    def detach(self) -> None:
        """Let go of the container in this process."""
        container = self._container()
        if container is not None:
            container.detach()


@own_methods
class ContainerLock(RLock):
    """The lock of a shared list or dict; see `List.lock`.

    An `RLock`. Once it is taken, no operation of anybody else is under way, and none begins.
    """

    _container: Container

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        policy, self._container = state
        super()._attach(hold, member, policy)
        self._on_death.what = self._container._what
        # The operation that is under way; one on a long list takes milliseconds.
        self._follow_with(self._container._pass)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by reference, with the container."""
        return _lock_of, (self._container,)

    def __deepcopy__(self, memo: dict[int, Any]) -> ContainerLock:
        """Give the same lock: a deep copy of its container would be a plain list or dict."""
        return self._container.lock()


def _lock_of(container: Container) -> ContainerLock:
    return container.lock()


class _Told(OnDeath):
    """Tells an operation that found the lock's owner dead; the operation does not take the lock."""

    __slots__ = ()

    def __call__(self, lock: Any, pid: int, stays: bool) -> None:  # noqa: ARG002 - as OnDeath
        """Warn."""
        warnings.warn(
            f"process {pid} died, or left the pool, while it had {self.what}. Of its changes some "
            "may be missing: check or repair what is there before you rely on it.",
            OwnerDiedWarning,
            stacklevel=2,
        )


class Container(Shared):
    """A list or a dict in a pool."""

    _detach_handle: DetachHandle
    _is_bound = False

    if TYPE_CHECKING:

        @property
        def _lock_handle(self) -> int: ...
        def _pass(self) -> None: ...

    @property
    def _what(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        return f"the lock of the {type(self).__name__.lower()}{name}"

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        if self._is_bound:
            raise TypeError(
                f"{type(self).__name__}.__init__() was called a second time: this is {self!r} "
                "already, which others may have too. Assign to all of it, or make a new one"
            )
        self._bind(hold, member)
        self._is_bound = True
        if hold is None and state:
            self._fill(*state)

    def _bind(self, hold: Hold | None, member: Member) -> None:
        """Make the native part."""
        raise NotImplementedError

    def _fill(self, *state: Any) -> None:
        """Put in what a new one contains."""
        raise NotImplementedError

    def _is(self, other: object) -> bool:
        """Tell whether the other object is the same one in the pool, as a pickle of it is."""
        return self is other or (
            isinstance(other, Container)
            and self.handle == other.handle
            and self.member is other.member
        )

    def _key(self) -> tuple[membership.Key, int]:
        """Tell which container of which pool it is: equal for every object of it, and no other."""
        return membership.key_of(self.member), self.handle

    def __copy__(self) -> Any:
        """Give a plain copy: a second object for the same one would be none."""
        return self.copy()

    def copy(self) -> Any:
        """Give what is in it at one instant, as a plain object."""
        raise NotImplementedError

    def _on_death(self) -> OnDeath:
        return _Told("warn", self._what)

    def lock(self) -> ContainerLock:
        """Give the lock for updates that take several operations.

        ``with shared.lock(): shared[key] += 1`` is safe against everybody: while a thread has the
        lock, all operations of others wait, reading ones too; its own go on.

        Returns
        -------
        RLock
            The same lock for all processes and threads. If its owner dies, the next to have it,
            or to wait for it in an operation, is warned with `OwnerDiedWarning`: of several
            changes, some may be missing.
        """
        hold = self.member.hold(self._lock_handle)
        return ContainerLock._open(hold, self.member, None, "warn", self)
