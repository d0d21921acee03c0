"""`SharedMemoryManager`: unlinks the segments that it made, as in `multiprocessing.managers`."""

from __future__ import annotations

import contextlib
import os
from multiprocessing import ProcessError
from typing import TYPE_CHECKING, Any, Literal, NoReturn
from weakref import finalize

from onecopy.errors import OneCopyError
from onecopy.multiprocessing import shared_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

__all__ = ["SharedMemoryManager"]


class ManagerNotStarted(OneCopyError, ValueError):
    """The manager has not been started yet."""


class ManagerHasShutDown(OneCopyError, FileNotFoundError):
    """The manager has been shut down."""


class SharedMemoryManager:
    """Makes segments, and unlinks them all when it is shut down.

    There is no server process, because segments need none. If the process of the manager is
    killed, each of its segments is removed as soon as no other process has it. That does not depend
    on the program to which the process belonged.

    Parameters
    ----------
    address, authkey, serializer, ctx, shutdown_timeout
        Accepted and not used, because there is no server. `address` returns its argument.

    Raises
    ------
    ProcessError
        It is started twice, or after it was shut down.

    Notes
    -----
    A manager belongs to the process that made it. A forked child may make segments with it, but the
    end of the child unlinks no segment of the parent. A manager cannot be pickled; its segments
    can. `start` runs no initializer, and `get_server` and `connect` raise an error, because there
    is no server.
    """

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        *,
        shutdown_timeout: float = 1.0,
    ) -> None:
        self._address = address
        self._state: Literal["initial", "started", "shut down"] = "initial"
        # The manager keeps them, so that they stay until the shutdown.
        self._segments: list[shared_memory.SharedMemory] = []
        self._finalizer = finalize(self, _unlink_all, self._segments, os.getpid())

    @property
    def address(self) -> Any:
        """The address that it was made with; no server listens there."""
        return self._address

    def start(
        self,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        """Allow the manager to make segments.

        Parameters
        ----------
        initializer, initargs
            Not called: there is no server process.
        """
        self._require_initial()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._state = "started"

    def shutdown(self) -> None:
        """Unlink all its segments. Existing mappings stay valid. Idempotent."""
        if self._state == "started":
            self._state = "shut down"
        self._finalizer()

    def join(self, timeout: float | None = None) -> None:
        """Return: there is no process to wait for."""

    def SharedMemory(self, size: int) -> shared_memory.SharedMemory:
        """Make a segment that is unlinked with the manager.

        Parameters
        ----------
        size : int
            In bytes.

        Returns
        -------
        SharedMemory

        Raises
        ------
        ValueError
            The manager has not been started, or the size is not positive.
        FileNotFoundError
            It has been shut down.
        PoolFull
            /dev/shm has no room for it.
        """
        self._require_started()
        return self._have(shared_memory.SharedMemory(create=True, size=size))

    def ShareableList(self, sequence: Iterable[Any]) -> shared_memory.ShareableList:
        """Make a list that is unlinked with the manager.

        Parameters
        ----------
        sequence : iterable
            Its items.

        Returns
        -------
        ShareableList

        Raises
        ------
        ValueError, FileNotFoundError, PoolFull
            As `SharedMemory`.
        """
        self._require_started()
        made = shared_memory.ShareableList(sequence)
        self._have(made.shm)
        return made

    def get_server(self) -> NoReturn:
        """Raise: there is no server."""
        self._require_initial()
        raise NotImplementedError("a SharedMemoryManager of onecopy has no server, and needs none")

    def connect(self) -> NoReturn:
        """Raise: there is no server."""
        raise NotImplementedError(
            "a SharedMemoryManager of onecopy has no server to connect to: send the segments, "
            "or their names"
        )

    def __enter__(self) -> Self:
        if self._state == "initial":
            self.start()
        if self._state != "started":
            raise ProcessError("the SharedMemoryManager has shut down; make a new one")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a SharedMemoryManager belongs to its process; send the segments that it made instead"
        )

    def _have(self, shm: shared_memory.SharedMemory) -> shared_memory.SharedMemory:
        if shm._segment is not None:  # it was just made
            shm._segment.keep_here()
        self._segments.append(shm)
        return shm

    def _require_initial(self) -> None:
        if self._state == "started":
            raise ProcessError("the SharedMemoryManager has been started already")
        if self._state == "shut down":
            raise ProcessError("the SharedMemoryManager has shut down; make a new one")

    def _require_started(self) -> None:
        if self._state == "initial":
            raise ManagerNotStarted(
                "the SharedMemoryManager has not been started: call start(), or use it in `with`"
            )
        if self._state == "shut down":
            raise ManagerHasShutDown("the SharedMemoryManager has shut down; make a new one")


def _unlink_all(made: list[shared_memory.SharedMemory], owner: int) -> None:
    if os.getpid() != owner:
        return  # the copy of a forked child
    while made:
        shm = made.pop()
        with contextlib.suppress(FileNotFoundError):  # it was unlinked already, which is allowed
            shm.unlink()
