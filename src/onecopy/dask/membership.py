"""The pool of this process, for all its comms. It is joined at the first handshake."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from onecopy._codec.places import identity_of
from onecopy._core.sizes import parse_size
from onecopy.dask.settings import Settings, settings
from onecopy.errors import OneCopyError
from onecopy.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Membership", "membership"]

_logger: logging.Logger = logging.getLogger("onecopy.dask")


class Membership:
    """The pool of this process, its identity, and the settings; or that there is none.

    Attributes
    ----------
    threshold : int
        Bytes from which on a frame travels by place.
    settings : Settings
        The settings with which it was joined.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pool: Pool | None = None
        self._identity = b""
        self._failed = False
        self.settings: Settings = Settings()
        self.threshold: int = parse_size(self.settings.threshold)

    def open(self) -> Pool:
        """Join the pool, or make it.

        Raises
        ------
        OneCopyError, OSError, ValueError, TypeError
            As `Pool`.
        """
        with self._lock:
            if self._pool is None:
                wanted = settings()
                pool = Pool(wanted.pool, wanted.size)
                self.settings, self.threshold = wanted, parse_size(wanted.threshold)
                if pool.can_see(pool.id):  # no other user may write it
                    self._identity = identity_of(pool.member)
                self._pool = pool
                self._failed = False
            return self._pool

    def join(self) -> Pool | None:
        """Join the pool. None: it is not possible, which is logged once. Dask sends bytes then."""
        if self._pool is None and not self._failed:
            try:
                self.open()
            except (OneCopyError, OSError, ValueError, TypeError, MemoryError) as error:
                self._failed = True
                _logger.warning("Dask sends bytes: this process cannot join the pool: %s", error)
        return self.pool

    @property
    def pool(self) -> Pool | None:
        """The pool, if this process has joined it."""
        pool = self._pool
        return None if pool is None or pool.closed else pool

    @property
    def identity(self) -> bytes:
        """What a peer must have, too, to get places. Empty: this process exchanges none."""
        return self._identity if self.pool is not None else b""

    def leave(self) -> None:
        """Release the pool. Data that was received stays valid."""
        with self._lock:
            pool, self._pool, self._identity, self._failed = self._pool, None, b"", False
        if pool is not None:
            pool.close()

    def forked(self) -> None:
        """Have a new lock: another thread may have owned it at the fork."""
        self._lock = threading.RLock()


membership: Membership = Membership()
_after_fork: Callable[[], None] = membership.forked
os.register_at_fork(after_in_child=_after_fork)
