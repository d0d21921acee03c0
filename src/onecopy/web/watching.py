"""Snapshots of pools for any number of browsers, at a limited cost.

A snapshot is taken when a browser asks, but only if the last one is old enough. The more processor
time a snapshot takes, the longer the next one has to wait.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from onecopy import inspect
from onecopy._core import paths, stale
from onecopy.errors import PoolNotFound
from onecopy.observer import observe
from onecopy.web.view import dump, listed, seen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from onecopy.observer import Observer

__all__ = ["Answer", "Paced", "Watch", "Watches", "key_of"]

SHARE = 0.005  # of a core, for one kind of snapshot
_EARLY = 0.1  # of the interval; so a browser whose clock is a little fast gets a new snapshot
_MOST = 64  # pools that are watched at the same time
_Made = TypeVar("_Made")


def key_of(text: str) -> str:
    """Return a short word that stands for a path or a name with any characters.

    Parameters
    ----------
    text : str
        A path or a name.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Answer(NamedTuple, Generic[_Made]):
    """Something that was made a moment ago.

    Attributes
    ----------
    value : object
        What was made.
    every : float
        Seconds from one to the next.
    """

    value: _Made
    every: float


class Paced(Generic[_Made]):
    """Makes something again if the last one is old enough.

    Parameters
    ----------
    make : callable
        Makes it.
    least : float
        Seconds between two calls of `make`, at least.
    share : float, optional
        The processor time of `make` may be this share of a core.
    """

    def __init__(self, make: Callable[[], _Made], least: float, share: float = SHARE) -> None:
        self._make = make
        self._least = least
        self._share = share
        self._lock = threading.Lock()
        self._last: Answer[_Made] | None = None
        self._due = 0.0

    def get(self) -> Answer[_Made]:
        """Return what was made last, or make it again.

        Returns
        -------
        Answer
        """
        with self._lock:
            if self._last is not None and time.monotonic() < self._due:
                return self._last
            self._last = None
            start = time.thread_time()
            value = self._make()
            every = max(self._least, (time.thread_time() - start) / self._share)
            self._due = time.monotonic() + every * (1 - _EARLY)
            self._last = Answer(value, every)
            return self._last


class Watch:
    """A pool, its observer, and its newest snapshot as JSON.

    Parameters
    ----------
    path : str
        The pool's file.
    least : float
        Seconds between two snapshots, at least.
    """

    def __init__(self, path: str, least: float) -> None:
        self.path = path
        self.key: str = key_of(path)
        self.asked: float = time.monotonic()
        self._observer: Observer | None = None
        self._paced: Paced[bytes] = Paced(self._snapshot, least)

    def snapshot(self) -> Answer[bytes]:
        """Return the newest snapshot.

        Returns
        -------
        Answer of bytes

        Raises
        ------
        OneCopyError, OSError
            The pool is gone or cannot be read.
        """
        self.asked = time.monotonic()
        return self._paced.get()

    def _snapshot(self) -> bytes:
        if self._observer is None:
            self._observer = observe(self.path)
        try:
            return dump(seen(self._observer.snapshot(), key_of))
        except BaseException:
            self._observer = None  # what it remembers is of a pool that may be gone
            raise


class Watches:
    """The pools that the page offers.

    Parameters
    ----------
    only : sequence of str
        Names or paths of pools. Empty: all pools in this user's pool directory.
    least : float
        Seconds between two snapshots of a pool, at least.
    """

    def __init__(self, only: Sequence[str], least: float) -> None:
        self._only = ["/".join(paths.locate(name)) for name in only]
        self._least = least
        self._lock = threading.Lock()
        self._watches: dict[str, Watch] = {}
        self._pools: Paced[list[inspect.PoolInfo]] = Paced(self._look, least)

    def pools(self) -> Answer[bytes]:
        """Return the list of pools as JSON.

        Returns
        -------
        Answer of bytes

        Raises
        ------
        OSError
            The pool directory cannot be read.
        """
        found, every = self._pools.get()
        return Answer(dump(listed(found, key_of)), every)

    def _look(self) -> list[inspect.PoolInfo]:
        if not self._only:
            return inspect.list_pools()
        return [_look_at(path) for path in self._only]

    def watch(self, key: str) -> Watch:
        """Return the watch of a pool that the list has.

        Parameters
        ----------
        key : str
            From the list.

        Returns
        -------
        Watch

        Raises
        ------
        PoolNotFound
            The list has no such pool.
        """
        with self._lock:
            watch = self._watches.get(key)
        if watch is not None:
            return watch
        for info in self._pools.get().value:
            if key_of(info.path) == key:
                return self._keep(Watch(info.path, self._least))
        raise PoolNotFound("there is no such pool any more")

    def _keep(self, watch: Watch) -> Watch:
        with self._lock:
            kept = self._watches.setdefault(watch.key, watch)
            while len(self._watches) > _MOST:
                oldest = min(self._watches.values(), key=lambda each: each.asked)
                del self._watches[oldest.key]
            return kept


def _look_at(path: str) -> inspect.PoolInfo:
    name = paths.pool_name(path)
    if not os.path.lexists(path):
        return inspect.PoolInfo(name, path, "failed", None, "there is no such pool any more")
    return inspect.PoolInfo(name, path, stale.state_of(path), None, None)
