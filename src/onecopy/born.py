"""Ordinary results of numpy and pandas that are made inside a pool."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from onecopy import _native
from onecopy._core.sizes import format_size, parse_size
from onecopy.default import default_pool
from onecopy.errors import Untrusted
from onecopy.pool import Pool

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, SupportsIndex

__all__ = ["born_in_pool"]

SMALLEST = 64 << 10  # below it, a pool's table of blocks would fill with what nobody sends

_switches: list[born_in_pool] = []  # the last one is in effect
_lock = threading.RLock()  # recursive: a signal handler may come in between


class born_in_pool:  # noqa: N801 - a function to its users, as numpy.errstate
    """Have numpy take the memory of large arrays from a pool, in this whole process.

    Results of numpy and pandas then lie in the pool from the beginning. Handing them over, by a
    queue, a stream, `Pool.put` or an `Executor`, copies nothing. Like every array of a pool, such
    an array is read-only in its sender once it was handed over.

    It is in effect from the call on, in all threads, until `stop` is called or a ``with`` block
    ends. Of several, the last one that was not stopped is in effect.

    >>> with oc.born_in_pool("4MiB"):  # doctest: +SKIP
    ...     queue.put(frame.astype("float32") / 255)  # not copied

    Parameters
    ----------
    threshold : int or str, optional
        The smallest array that lies in the pool: bytes, or a size such as ``"4MiB"``. At least
        64 KiB.
    pool : Pool, optional
        Where the arrays lie. Default: the default pool.

    Raises
    ------
    ValueError, TypeError
        `threshold` is not a size, or is too small; `pool` is not a pool.
    PermissionError
        The pool is open for reading only.
    Untrusted
        Other users may write the pool, so they could change what this process computes with.
    Closed
        The pool is closed.

    Notes
    -----
    **Ordinary memory** is used instead if the pool has no room or is closed. That is no error;
    `counts` tells how often it happened. ``np.zeros``, and arrays of Python objects or of numpy's
    ``StringDType``, always have ordinary memory: `Pool.zeros` makes zeros in a pool. Arrays that
    code does not allocate through numpy, as pyarrow's, are not concerned.

    **Temporary arrays** lie in the pool, too, as long as they exist. The first use of a page of a
    pool costs more than that of ordinary memory, and later uses cost less, because the pool keeps
    its pages. So a loop that makes arrays of the same size becomes faster or stays as it is, and a
    single large computation may become slower. Measure it with your data.

    **Fork.** A forked child sees the same memory, so both processes see what one of them writes
    into such an array, as with every array of a pool. A child that was started in another way has
    to call `born_in_pool` itself, for example as the `initializer` of an `Executor`.

    **Threads.** Any thread may call this at any time.

    Examples
    --------
    >>> pool = oc.Pool("born", size="64MiB")
    >>> with oc.born_in_pool("1MiB", pool):
    ...     image = np.ones((480, 640)) / 255
    >>> pool.where(image) is not None
    True
    >>> switch = oc.born_in_pool("1MiB", pool)
    >>> switch.stop()
    >>> oc.born_in_pool.counts()["made"] > 0
    True
    """

    def __init__(self, threshold: SupportsIndex | str = "1MiB", pool: Pool | None = None) -> None:
        self._bytes = parse_size(threshold, "threshold")
        if self._bytes < SMALLEST:
            raise ValueError(
                f"threshold={threshold!r} is too small: at least {format_size(SMALLEST)}, because "
                "small arrays would fill the pool's table of blocks, and copying one costs less"
            )
        if pool is not None and not isinstance(pool, Pool):
            raise TypeError(f"pool must be a onecopy.Pool, not {type(pool).__name__}")
        self._pool = default_pool() if pool is None else pool
        member = self._pool.member
        if member.readonly:
            raise PermissionError(
                f"{self._pool!r} is open for reading only, so no array can be made in it; open it "
                "for writing, or give another pool: born_in_pool(pool=Pool.create())"
            )
        if member.others_may_write:
            raise Untrusted(
                f"{self._pool!r} may be written by other users, and they could change the arrays "
                "that this process computes with. Give another pool: "
                "born_in_pool(pool=Pool.create())"
            )
        with _lock:
            _switches.append(self)
            _apply()

    def stop(self) -> None:
        """Take ordinary memory for new arrays again. Arrays that are there stay where they are.

        Stopping twice does nothing.
        """
        with _lock:
            if self in _switches:
                _switches.remove(self)
                _apply()

    @property
    def active(self) -> bool:
        """Whether it was not stopped. Only the last of several active ones is in effect."""
        return self in _switches

    @property
    def threshold(self) -> int:
        """The smallest array that lies in the pool, in bytes."""
        return self._bytes

    @property
    def pool(self) -> Pool:
        """Where the arrays lie."""
        return self._pool

    @staticmethod
    def counts() -> dict[str, int]:
        """Tell what this process has made so far, in all pools.

        Returns
        -------
        dict
            ``made``: arrays that were made in pools. ``live``: those that numpy still owns; an
            array that was handed over is no longer among them. ``live_bytes``: their size.
            ``fell_back``: large arrays that got ordinary memory, because there was no room, or
            because a stopped process had the pool's lock. ``skipped``: those of them for which the
            pool was not asked, because that had been in vain less than 10 ms before.
        """
        return _native.born_counts()

    def __enter__(self) -> Self:
        """Return itself; it is in effect already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def __repr__(self) -> str:
        """Tell the threshold, the pool, and whether it is active."""
        state = "" if self.active else ", stopped"
        return f"<born_in_pool from {format_size(self._bytes)} in {self._pool!r}{state}>"


def _apply() -> None:
    while _switches and _switches[-1].pool.closed:
        _switches.pop()
    if _switches:
        _native.bear_in(_switches[-1].pool.member, _switches[-1].threshold)
    else:
        _native.bear_in(None, 0)


def _forked() -> None:
    # Another thread may have owned the lock at the fork.
    global _lock  # noqa: PLW0603 - it belongs to the process
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forked)
