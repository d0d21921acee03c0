"""The results of calls of a pool of workers, with the interface of the standard library's.

They differ from the standard library's in three ways:

* An exception of a callback is reported as an uncaught exception of a thread
  (`threading.excepthook`). The call still gets its result, and the pool continues.
* If a pool is terminated or broken, its calls fail. In the standard library they wait for ever.
* A thread that waits for a result holds no lock. A signal handler may interrupt such a thread,
  terminate the pool, and join it: the threads of the pool can always deliver results.
"""

from __future__ import annotations

import copy
import itertools
import queue
import sys
import threading
from collections import deque
from contextlib import suppress
from multiprocessing import TimeoutError as TimedOut
from multiprocessing.pool import AsyncResult
from typing import TYPE_CHECKING, Any
from weakref import finalize

from onecopy._workers.signals import with_users_mask

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

__all__ = ["ApplyResult", "Feed", "IMapIterator", "IMapUnorderedIterator", "MapResult", "copy_of"]


_jobs = itertools.count()


class Latch:
    """An event that is set once; each waiter has a lock of its own."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: deque[Any] = deque()

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake all waiters."""
        self._is_set = True
        with suppress(IndexError):
            while True:
                self._waiters.popleft().release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds."""
        if self._is_set:
            return True
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        try:
            if not self._is_set:  # else `set` may not have seen this waiter
                waiter.acquire(timeout=-1 if timeout is None else _limited(timeout))
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)
        return self._is_set


def _limited(timeout: float) -> float:
    return min(max(0.0, timeout), threading.TIMEOUT_MAX)


def _call(callback: Callable[[Any], object] | None, value: Any) -> None:
    """Call a callback of the user, and report the exception that it raises."""
    if callback is None:
        return
    try:
        with with_users_mask():
            callback(value)
    except BaseException:  # noqa: BLE001 - must not end the thread that delivers all results
        threading.excepthook(
            threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
        )


def copy_of(error: BaseException) -> BaseException:
    """Return a copy of an error: one object raised several times collects all tracebacks."""
    try:
        other = copy.copy(error)
    except Exception:  # noqa: BLE001 - the code of any class
        return error
    if type(other) is not type(error):
        return error
    other.__cause__ = error.__cause__
    return other


class ApplyResult(AsyncResult[Any]):
    """The result of `Pool.apply_async`; as `multiprocessing.pool.AsyncResult`.

    It inherits no method of that class: all methods are defined here.
    """

    _success: bool
    _value: Any

    def __init__(
        self,
        pool: Any,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[Any], object] | None,
    ) -> None:
        self._pool = pool
        self._event: Any = Latch()
        self._job: int = next(_jobs)
        self._cache: Any = pool._cache
        self._callback = callback
        self._error_callback = error_callback
        self._cache[self._job] = self

    def ready(self) -> bool:
        """Return whether the call is done."""
        return bool(self._event.is_set())

    def successful(self) -> bool:
        """Return whether the call is done without an exception.

        Raises
        ------
        ValueError
            It is not done.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call is done, at most `timeout` seconds."""
        self._event.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return the function's result, or raise its exception.

        Raises
        ------
        multiprocessing.TimeoutError
            The call is not done within `timeout` seconds.
        """
        self.wait(timeout)
        if not self.ready():
            raise TimedOut
        if self._success:
            return self._value
        raise self._value

    def _set(self, i: int, outcome: tuple[bool, Any]) -> None:
        self._deliver(*outcome)

    def _deliver(self, success: bool, value: Any, *, call: bool = True) -> None:
        """Store the result; only the first one counts."""
        if self._cache.pop(self._job, None) is None:
            return
        self._success, self._value = success, value
        if call:
            _call(self._callback if success else self._error_callback, value)
        self._event.set()
        self._cache.tell_if_empty()
        self._pool = None

    def _fail(self, error: BaseException, *, call: bool = True) -> None:
        """Fail, because no worker will answer."""
        self._deliver(False, copy_of(error), call=call)


class MapResult(ApplyResult):
    """The result of `Pool.map_async` and `starmap_async`; as the standard library's."""

    def __init__(
        self,
        pool: Any,
        chunksize: int,
        length: int,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[Any], object] | None,
    ) -> None:
        super().__init__(pool, callback, error_callback)
        self._success = True
        self._value = [None] * length
        self._chunksize = chunksize
        if chunksize <= 0:
            self._number_left = 0
            self._event.set()
            del self._cache[self._job]
        else:
            self._number_left = -(-length // chunksize)

    def _set(self, i: int, outcome: tuple[bool, Any]) -> None:
        self._number_left -= 1
        success, value = outcome
        if success and self._success:
            self._value[i * self._chunksize : (i + 1) * self._chunksize] = value
        elif not success and self._success:  # only the first error counts
            self._success, self._value = False, value
        if self._number_left == 0:
            self._deliver(self._success, self._value)


class Feed:
    """The tasks of one `imap`: how far they are read ahead, and the results that are missing.

    The pool limits how many results may be missing or not taken yet. Reading stops at that limit
    and resumes when results are taken. Tasks of other calls are handed out in the meantime. There
    is no limit any more after the iterator was dropped, or after the pool was closed.

    Parameters
    ----------
    pool : Pool
        The pool; it is kept alive while results are missing.
    in_order : bool
        Whether results are given in the order of their tasks.
    """

    def __init__(self, pool: Any, in_order: bool) -> None:
        self.job = next(_jobs)
        self.ready: Any = queue.SimpleQueue()  # (success, value); None: no more will come
        self._pool = pool
        self._cache: Any = pool._cache
        self._taskqueue = pool._taskqueue
        self._most: int = pool._ahead
        self._in_order = in_order
        self._read = 0
        self._index = 0  # results that are ready, or were taken
        self._unsorted: dict[int, Any] = {}
        self._length: int | None = None
        self._error: BaseException | None = None  # of the iterable: given after the last result
        self._parked: deque[Any] = deque()
        # Only the pool's threads take it: a thread that waits for a result never has it.
        self._lock = threading.Lock()
        self._cache[self.job] = self

    def may_read(self, rest: Any) -> bool:
        """Return whether to read a task; if not, `rest` is put into the pool's queue later."""
        if self._is_open():
            self._read += 1
            return True
        self._parked.append(rest)
        if self._is_open():  # another thread may have opened it before `append`
            self.resume()
        return False

    def _is_open(self) -> bool:
        return self._ahead() < self._most

    def _ahead(self) -> int:
        """Count the tasks that were read and whose results were not taken."""
        waiting: int = self.ready.qsize()
        return self._read - self._index + waiting

    def resume(self) -> None:
        """Resume reading."""
        with suppress(IndexError):
            self._taskqueue.put(self._parked.popleft())

    def resume_if_taken(self) -> None:
        """Resume reading if half of what was read ahead has been taken."""
        if self._parked and 2 * self._ahead() <= self._most:
            self.resume()

    def open_wide(self) -> None:
        """Read ahead without a limit from now on."""
        self._most = sys.maxsize
        self.resume()

    def _set(self, i: int, outcome: tuple[bool, Any]) -> None:
        with self._lock:
            if not self._in_order:
                self._give(outcome)
            elif i == self._index:
                self._give(outcome)
                while self._index in self._unsorted:
                    self._give(self._unsorted.pop(self._index))
            else:
                self._unsorted[i] = outcome
            self._end_if_complete()

    def _give(self, outcome: tuple[bool, Any]) -> None:
        self.ready.put(outcome)  # first: `_ahead` never misses it
        self._index += 1

    def set_length(self, length: int, error: BaseException | None = None) -> None:
        """Set how many tasks there are, and the error that ended the iterable."""
        with self._lock:
            self._length, self._error = length, error
            self._end_if_complete()

    def _end_if_complete(self) -> None:
        if self._index == self._length and self._error is not None:
            error, self._error = self._error, None
            self.ready.put((False, error))
        if self._index == self._length and self._cache.pop(self.job, None) is not None:
            self._end()

    def _end(self) -> None:
        self.ready.put(None)
        self._parked.clear()
        self._cache.tell_if_empty()
        self._pool = None

    def _fail(self, error: BaseException, *, call: bool = True) -> None:
        """Give an error and end, because no worker will answer."""
        if self._cache.pop(self.job, None) is not None:
            self.ready.put((False, copy_of(error)))
            self._end()


class IMapIterator:
    """The result of `Pool.imap`; as the standard library's."""

    _in_order = True

    def __init__(self, pool: Any) -> None:
        self._feed = Feed(pool, self._in_order)
        finalize(self, self._feed.open_wide).atexit = False

    def __iter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result; wait at most `timeout` seconds.

        Raises
        ------
        StopIteration
            There are no more results.
        multiprocessing.TimeoutError
            There is no result within that time.
        Exception
            The exception of the task.
        """
        ready = self._feed.ready
        try:
            outcome = ready.get(timeout=None if timeout is None else _limited(timeout))
        except queue.Empty:
            raise TimedOut from None
        if outcome is None:
            ready.put(None)  # for the next call
            raise StopIteration
        self._feed.resume_if_taken()
        success, value = outcome
        if not success:
            raise value
        return value

    def __next__(self, timeout: float | None = None) -> Any:
        """Return the next result; as `next`."""
        return self.next(timeout)


class IMapUnorderedIterator(IMapIterator):
    """The result of `Pool.imap_unordered`; as the standard library's."""

    _in_order = False
