"""Several pools from outside, looked at again and again: those that are named, or all of a user."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onecopy._core import paths, stale
from onecopy._core.lines import error_text
from onecopy.errors import OneCopyError, PoolNotFound
from onecopy.observer.look import Observer, observe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from onecopy.observer.records import PoolSnapshot
    from onecopy.pool import Pool

__all__ = ["PoolLook", "Watch"]


@dataclass(frozen=True, slots=True)
class PoolLook:
    """What a look at one pool has found.

    Attributes
    ----------
    name, path : str
        The pool's name and file. No two looks of one moment have the same path.
    snapshot : PoolSnapshot or None
        None: the pool could not be read.
    problem : str
        Why it could not be read; "" if it could.
    gone : bool
        Whether there is no such pool, or no such pool any more.
    """

    name: str
    path: str
    snapshot: PoolSnapshot | None
    problem: str
    gone: bool = False


class Watch:
    """Looks at several pools again and again, and joins none of them.

    A pool that is damaged, of another version, of another user or gone is a look with a problem:
    the other pools are looked at all the same. A pool that was removed and made again is another
    pool: its first look has no rates.

    Parameters
    ----------
    pools : sequence of str, path-like or Pool, optional
        As for `observe`, but a pool may be missing. Left out: all pools in the pool directory.
    keep_gone : float, optional
        For how many seconds a pool that has vanished from the directory is shown as gone. Named
        pools are always shown.

    Raises
    ------
    ValueError
        No pool can have one of these names.
    """

    def __init__(
        self, pools: Sequence[str | os.PathLike[str] | Pool] | None = None, keep_gone: float = 30.0
    ) -> None:
        self._named = None if pools is None else [_name_of(pool) for pool in pools]
        self._keep_gone = keep_gone
        self._observers: dict[str, tuple[Observer, str]] = {}  # with the id of the pool
        self._last_seen: dict[str, tuple[str, float]] = {}  # names, and when they were there

    def look(self) -> list[PoolLook]:
        """Look at all pools once.

        Returns
        -------
        list of PoolLook
            In the order in which they were named, or by name.

        Raises
        ------
        PermissionError
            The pool directory can be changed by other users.
        """
        now = time.monotonic()
        looks = {path: self._look_at(name, path) for name, path in self._there()}
        for name, path in [(look.name, look.path) for look in looks.values()]:
            self._last_seen[path] = name, now
        for path, (name, when) in list(self._last_seen.items()):
            if path in looks:
                continue
            if now - when >= self._keep_gone:
                del self._last_seen[path]
            else:
                looks[path] = PoolLook(name, path, None, "the pool is gone", gone=True)
        self._observers = {path: kept for path, kept in self._observers.items() if path in looks}
        if self._named is not None:
            return list(looks.values())
        return sorted(looks.values(), key=lambda look: (look.name, look.path))

    def _there(self) -> Iterator[tuple[str, str]]:
        """Yield the names and paths of the pools that are to be looked at."""
        if self._named is not None:
            for name in self._named:
                path = "/".join(paths.locate(name))  # each time: a name may get another meaning
                yield paths.pool_name(path), path
            return
        directory = paths.pool_directory()
        by_path = not paths.is_pool_directory(directory)
        for filename, state in stale.sweep(directory, remove=False):
            if not filename.endswith(paths.SUFFIX):  # an unfinished file
                continue
            path = f"{directory}/{filename}"
            name = paths.pool_name(path)
            if state == "not_a_pool":
                try:
                    with paths.opened(directory, by_path=by_path) as folder:
                        path = paths.signpost_at(folder, filename) or path
                except OSError:
                    pass  # it has vanished meanwhile; `_look_at` says so
            yield name, path

    def _look_at(self, name: str, path: str) -> PoolLook:
        observer, known = self._observers.get(path, (None, ""))
        try:
            observer = observer or Observer(path)
            snapshot = observer.snapshot()
            if known and snapshot.id != known:  # another pool has the name now
                observer = Observer(path)
                snapshot = observer.snapshot()
        except PoolNotFound as error:
            self._observers.pop(path, None)
            return PoolLook(name, path, None, str(error), gone=True)
        except (OneCopyError, OSError) as error:
            return PoolLook(name, path, None, error_text(error))
        self._observers[path] = observer, snapshot.id
        return PoolLook(name, path, snapshot, "")


def _name_of(pool: str | os.PathLike[str] | Pool) -> str | os.PathLike[str]:
    if not isinstance(pool, str | os.PathLike):
        return observe(pool).path
    paths.locate(pool)  # it checks the name
    return pool
