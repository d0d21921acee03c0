"""What replaces a manager in a process that has a proxy and not its manager."""

from __future__ import annotations

from multiprocessing import managers as standard
from multiprocessing.managers import RemoteError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Elsewhere"]

_also: Any = standard  # typeshed has a part of it


class Elsewhere:
    """Replaces the manager in a process that has a proxy and not its manager.

    Methods that return proxies need it: it knows the types of these proxies.
    """

    _state = None  # unknown here: a request shows whether the server runs

    def __init__(self, proxy: Any, type_of: Callable[[str], Any]) -> None:
        self._authkey = proxy._authkey
        self._registry = _Types(proxy, type_of)


class _Types:
    """The registry of a manager that this process does not have; it asks the server."""

    def __init__(self, proxy: Any, type_of: Callable[[str], Any]) -> None:
        self._type_of = type_of  # a common kind
        self._forked: Mapping[str, Any] | None = proxy._registry
        self._address = proxy._token.address
        self._authkey = proxy._authkey
        self._connect = proxy._Client
        self._answers: dict[str, Any] = {}

    def __getitem__(self, typeid: str) -> tuple[Any, ...]:
        """Return an entry whose last element is the proxy type, as in a manager's registry."""
        if self._forked is not None and typeid in self._forked:
            entry: tuple[Any, ...] = self._forked[typeid]
            return entry
        if typeid not in self._answers:
            self._answers[typeid] = self._ask(typeid)
        return None, None, None, self._answers[typeid]

    def __contains__(self, typeid: str) -> bool:
        return True

    def _ask(self, typeid: str) -> Any:
        try:
            with self._connect(self._address, authkey=self._authkey) as conn:
                return _also.dispatch(conn, None, "onecopy_proxy_type", (typeid,))
        except (RemoteError, AttributeError, ImportError):
            # A server of the standard library, or a type that no module defines.
            return self._type_of(typeid)
