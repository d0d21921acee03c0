"""What lists and dicts in a pool share: the lock for several operations as one step."""

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
    """The object by which a pool detaches a container; a container itself has no hash."""

    __slots__ = ("__weakref__", "_container")

    def __init__(self, container: Container) -> None:
        self._container = ref(container)
        container._detach_handle = self

    def detach(self) -> None:
        """Release the container in this process."""
        container = self._container()
        if container is not None:
            container.detach()


@own_methods
class ContainerLock(RLock):
    """The lock of a shared list or dict; see `List.lock`.

    It is an `RLock`. While a thread owns it, no operation of another thread or process runs, and
    none begins.
    """

    _container: Container

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        policy, self._container = state
        super()._attach(hold, member, policy)
        self._on_death.what = self._container._what
        # Wait for an operation that is running. On a long list it may take milliseconds.
        self._follow_with(self._container._pass)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by reference, with the container."""
        return _lock_of, (self._container,)

    def __deepcopy__(self, memo: dict[int, Any]) -> ContainerLock:
        """Return the same lock: a deep copy of its container would be a plain list or dict."""
        return self._container.lock()


def _lock_of(container: Container) -> ContainerLock:
    return container.lock()


class _WarnOnly(OnDeath):
    """Warns an operation that found the lock's owner dead. The operation does not take the lock."""

    __slots__ = ()

    def __call__(self, lock: Any, pid: int, stays: bool) -> None:  # noqa: ARG002 - as OnDeath
        """Warn."""
        warnings.warn(
            f"process {pid} died, or left the pool, while it owned {self.what}. Some of its "
            "changes may be missing: check or repair the contents before you rely on them.",
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
                f"{type(self).__name__}.__init__() was called a second time: the object "
                f"is {self!r} already, and other processes may use it. Replace its contents, or "
                "make a new one"
            )
        self._bind(hold, member)
        self._is_bound = True
        if hold is None and state:
            self._fill(*state)

    def _bind(self, hold: Hold | None, member: Member) -> None:
        """Make the native part."""
        raise NotImplementedError

    def _fill(self, *state: Any) -> None:
        """Store the initial contents of a new container."""
        raise NotImplementedError

    def _is(self, other: object) -> bool:
        """Tell whether both objects are the same container in the pool."""
        return self is other or (
            isinstance(other, Container)
            and self.handle == other.handle
            and self.member is other.member
        )

    def _key(self) -> tuple[membership.Key, int]:
        """Return pool and handle, which are equal only for objects of the same container."""
        return membership.key_of(self.member), self.handle

    def __copy__(self) -> Any:
        """Return a plain copy: a second object for the same container would not be a copy."""
        return self.copy()

    def copy(self) -> Any:
        """Return a snapshot as a plain object."""
        raise NotImplementedError

    def _on_death(self) -> OnDeath:
        return _WarnOnly("warn", self._what)

    def lock(self) -> ContainerLock:
        """Return the lock for updates that need several operations.

        ``with shared.lock(): shared[key] += 1`` is safe. While a thread owns the lock, all
        operations of other threads and processes wait, also reads. The owner's operations continue.

        Returns
        -------
        RLock
            The same lock for all processes and threads. If its owner dies, the next owner, or the
            next operation that waits for the lock, gets an `OwnerDiedWarning`: some of several
            changes may be missing.
        """
        hold = self.member.hold(self._lock_handle)
        return ContainerLock._open(hold, self.member, None, "warn", self)
