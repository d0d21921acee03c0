"""An observer of a pool: it takes snapshots, and joins nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from onecopy import _native
from onecopy._core import paths
from onecopy.errors import PoolNotFound
from onecopy.observer.reading import Memory, read
from onecopy.pool import Pool

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from onecopy.observer.records import PoolSnapshot

__all__ = ["Observer", "observe"]


class Observer:
    """Looks at a pool without joining it. `observe` makes it.

    It takes no slot and no lock, changes nothing in the pool, and keeps nothing open between two
    snapshots. So it works on a pool whose processes are all stuck, stopped or dead, and a stale
    pool stays. Each snapshot visits every block of the pool.

    Examples
    --------
    >>> pool = oc.Pool("factory", size="16MiB")
    >>> pool.queue("jobs").put(1)
    >>> observer = oc.observe("factory")
    >>> [queue.name for queue in observer.snapshot().queues]
    ['jobs']
    >>> observer.close()
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._memory: Memory | None = Memory()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<onecopy.Observer of {self.path}>"

    @property
    def path(self) -> str:
        """The path of the pool's file."""
        return self._path

    def close(self) -> None:
        """Forget the last snapshot. `snapshot` cannot be called any more."""
        self._memory = None

    def snapshot(self) -> PoolSnapshot:
        """Look at the pool once.

        Returns
        -------
        PoolSnapshot
            What is in the pool. Rates are those since the last call.

        Raises
        ------
        PoolNotFound
            The pool's file is gone, or its memory is a memfd that no living process has.
        PoolVersionError, PoolCorrupted
            Another version of onecopy made the pool, or it is damaged so that it cannot be read. A
            pool that is only marked corrupt can be read.
        PermissionError
            The pool is another user's.
        ValueError
            The observer is closed.
        """
        if self._memory is None:
            raise ValueError("this observer is closed; call onecopy.observe again")
        directory, filename = os.path.split(self.path)
        seen: dict[str, Any] = _native.observe_pool(
            directory, filename, not paths.is_pool_directory(directory)
        )
        return read(seen, paths.pool_name(self.path), self.path, self._memory)


def observe(pool: str | os.PathLike[str] | Pool) -> Observer:
    """Observe a pool without joining it: its processes, what they wait for, queues, locks.

    Parameters
    ----------
    pool : str, path-like or Pool
        The pool's name or path, as for `Pool.open`, or a pool that this process has open.

    Returns
    -------
    Observer
        A context manager. Its method `snapshot` returns a `PoolSnapshot`.

    Raises
    ------
    PoolNotFound
        There is no such pool, or it has no name any more.
    ValueError
        No pool can have this name.

    Examples
    --------
    >>> import onecopy as oc
    >>> with oc.Pool.create("camera", size="4MiB") as pool, oc.observe("camera") as observer:
    ...     pool.queue("jobs").put(1)
    ...     [queue.depth for queue in observer.snapshot().queues]
    [1]
    """
    if isinstance(pool, Pool):
        path = pool.member.path
        if not path:
            raise PoolNotFound("the pool has no name, so an observer cannot find its file")
    else:
        path = "/".join(paths.locate(pool))
    observer = Observer(path)
    if not os.path.lexists(path):
        raise PoolNotFound(f"there is no pool {os.fspath(path)!r}")
    return observer
