"""The two queues of a pool of workers, and what a worker does with them."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import pool as standard
from queue import Empty
from typing import TYPE_CHECKING, Any

from onecopy import coroutines
from onecopy._native import is_plain
from onecopy._workers.parents import Parent
from onecopy._workers.rebuilding import Address, describe, not_rebuilt, take_addressed
from onecopy.errors import Closed, OneCopyError
from onecopy.multiprocessing._pool_errors import WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from onecopy.multiprocessing.queues import Queue
    from onecopy.queue import Message

__all__ = ["BEGAN", "ENDED", "FAILED", "Outstanding", "Results", "Tasks", "work"]

_ROOM_WITHIN = 60.0  # seconds that a worker waits for memory for a result
_LOOK_EVERY = 1.0  # second in which an idle worker looks whether its parent lives
# In place of the number of a job, in messages that are no results:
BEGAN = -1  # (BEGAN, pid, None): a worker is ready for tasks
ENDED = -2  # (ENDED, pid, exit code): the pool's own process has seen a worker end
FAILED = -3  # (FAILED, pid, (False, error)): an initializer has raised


def work(
    tasks: Tasks,
    results: Results,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    maxtasks: int | None,
    wrap_exception: bool,
) -> None:
    """Be a worker."""
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as error:
            results.initializer_failed(error)
            raise
    results.began()
    standard.worker(tasks, results, None, (), maxtasks, wrap_exception)  # type: ignore[attr-defined]  # undocumented


class Tasks:
    """The task queue, as the standard library's pool and its workers use it.

    In a worker each `get` but the first follows the `put` of a result; that is when the task before
    is finished.
    """

    def __init__(
        self, queue: Queue, results: Results, outstanding: Outstanding | None = None
    ) -> None:
        self._queue = queue
        self._results = results
        self._outstanding = outstanding
        self._parent: Parent | None = None

    def __reduce__(self) -> Any:
        return Tasks, (self._queue, self._results)

    def put(self, task: Any) -> None:
        """Hand a task out (None: tell a worker to end); wait while too many results are missing."""
        if self._outstanding is None:
            raise AssertionError("tasks are handed out by the process that has the pool")
        if task is None:
            with suppress(Closed):  # the pool has been joined, so no worker is left
                self._queue.put(None)
                self._outstanding.count()
            return
        self._outstanding.wait_for_room()
        # Before it is put: the answer may be there before `put` has returned.
        with self._outstanding.expecting(task[0], task[1]):
            self._queue.put(task)

    def get(self) -> Any:
        """Take a task; what a dead worker had in hand is answered for it.

        Raises
        ------
        EOFError
            The process that has the pool has ended.
        """
        if self._parent is None:
            self._parent = Parent()
        while True:
            try:
                message = coroutines.take(self._queue.get_message, _LOOK_EVERY)
            except Empty:
                self._parent.check()
                continue
            except BaseException as error:
                position = getattr(error, "position", None)
                if position is None or isinstance(error, KeyboardInterrupt):
                    raise
                self._refuse(position, error)
                continue
            self._parent.check()  # nobody wants the rest of what it has handed out
            task = message.item
            if task is None:
                message.task_done()
                return None
            self._results.finishes(message)
            if not message.redelivered:
                return task
            job, i, function = task[:3]
            died = WorkerDied(
                f"the worker that ran {_name_of(function)} was killed, or crashed, before it was "
                "done. It may have done a part of its work; it was not run again"
            )
            self._results.put((job, i, (False, died)))

    def _refuse(self, position: int, error: BaseException) -> None:
        """Answer a task that cannot be rebuilt here: the parent knows what was at that position."""
        if not isinstance(error, OneCopyError | OSError):  # which say what is gone
            error = not_rebuilt("the arguments, or the function, of a task", error)
        told = standard.ExceptionWithTraceback(error, error.__traceback__)  # type: ignore[attr-defined]  # undocumented
        self._results.put((None, position, (False, told)))
        self._queue._finish(position)

    def close(self) -> None:
        """Let go of the queue here."""
        self._queue.close()

    def drain_while(self, goes_on: Callable[[], bool]) -> None:
        """Take what there is, and hold nobody up who puts, as long as a condition holds."""
        if self._outstanding is not None:
            self._outstanding.stop()
        while goes_on():
            try:
                self._queue.get_message(timeout=0.01).task_done()
            except Empty:
                continue
            except Closed:
                return
            except Exception as error:
                position = getattr(error, "position", None)
                if position is None:
                    raise
                self._queue._finish(position)  # it cannot be rebuilt, and need not

    def stop_waiting(self) -> None:
        """Hold nobody up who puts any more."""
        if self._outstanding is not None:
            self._outstanding.stop()


class Results:
    """The result queue; in a worker it finishes the task whose result was put.

    A result is ``(job, i, outcome)``. One that runs code when it is rebuilt travels with an
    `Address` in front, so that it fails its own call if it cannot be.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._message: Message | None = None

    def __reduce__(self) -> Any:
        return Results, (self._queue,)

    # ------------------------------------------------------------------------------- in a worker

    def finishes(self, message: Message) -> None:
        """Remember what the next result belongs to."""
        message.item = None  # the arguments are not kept for as long as the task runs
        self._message = message

    def began(self) -> None:
        """Say that this worker is ready."""
        self._queue.put((BEGAN, os.getpid(), None), timeout=_ROOM_WITHIN)

    def initializer_failed(self, error: BaseException) -> None:
        """Say that this worker cannot begin, and why."""
        told = standard.ExceptionWithTraceback(error, error.__traceback__)  # type: ignore[attr-defined]  # undocumented
        self.put((FAILED, os.getpid(), (False, told)))

    def put(self, result: Any) -> None:
        """Send a result, then its task is finished; None: no more will come.

        A result that cannot be sent is replaced by a `MaybeEncodingError`.
        """
        if result is None:
            with suppress(Closed):  # the pool has been joined, so nobody waits
                self._queue.put(None)
            return
        job, i, (success, value) = result
        try:
            self._send(job, i, success, value)
        except (KeyboardInterrupt, Closed):
            raise
        except BaseException as error:  # noqa: BLE001 - pickling runs anybody's code
            self._send(job, i, False, _encoding_error(error, value))
        message, self._message = self._message, None
        if message is not None:
            message.task_done()

    def _send(self, job: int, i: int, success: bool, value: Any) -> None:
        if is_plain(value):
            self._queue.put((job, i, (success, value)), timeout=_ROOM_WITHIN)
            return
        what = describe(getattr(value, "exc", value) if not success else value, not success)
        self._queue.put((Address((job, i), what), success, value), timeout=_ROOM_WITHIN)

    # --------------------------------------------------------------- in the process with the pool

    def get(self) -> Any:
        """Take a result, or None, or one of the other messages."""
        got, numbers = take_addressed(partial(coroutines.take, self._queue.get, None))
        if numbers is not None:
            return *numbers, (False, got)
        if got is not None and type(got[0]) is tuple:
            (numbers, _), success, value = got
            return *numbers, (success, value)
        return got

    def tell_ended(self, pid: int, exitcode: int | None) -> None:
        """Say that a worker has ended: behind everything that it has put.

        Raises
        ------
        PoolFull
            There is no room to say so.
        """
        self._queue.put((ENDED, pid, exitcode), block=False)

    def close(self) -> None:
        """Let go of the queue here."""
        self._queue.close()


class _Unsendable:
    """Stands in a `MaybeEncodingError` for what it is about."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _encoding_error(error: BaseException, value: Any) -> Exception:
    what = getattr(value, "exc", value)  # not the wrapper that has its traceback
    error_class = standard.MaybeEncodingError  # type: ignore[attr-defined]  # undocumented
    told: Exception = error_class(_Unsendable(_text_of(error)), _Unsendable(_text_of(what)))
    return told


def _text_of(obj: Any) -> str:
    try:
        return repr(obj)
    except Exception:  # noqa: BLE001 - the class is anybody's
        return f"<{type(obj).__module__}.{type(obj).__qualname__}, whose __repr__ raises>"


class Outstanding:
    """What has been handed out and not come back, in the process that has the pool.

    A worker that dies after it has put a result and before it has finished the task leaves a task
    that is answered twice; the second answer is not expected any more. A worker that cannot rebuild
    a task knows but its position: how many messages were put before it.
    """

    def __init__(self, ahead: int) -> None:
        self._room = threading.Semaphore(ahead)
        self._stopped = False
        self._put = 0
        self._lock = threading.Lock()
        self._position: dict[tuple[int, int], int] = {}
        self._task: dict[int, tuple[int, int]] = {}

    def wait_for_room(self) -> None:
        """Wait until fewer results are missing."""
        if not self._stopped:
            self._room.acquire()

    def stop(self) -> None:
        """Hold nobody up any more."""
        self._stopped = True
        self._room.release()

    def count(self) -> None:
        """Count a message that is no task."""
        self._put += 1

    @contextmanager
    def expecting(self, job: int, i: int) -> Iterator[None]:
        """Expect an answer to the task that is put within, unless that fails."""
        with self._lock:
            self._position[job, i] = self._put
            self._task[self._put] = job, i
        try:
            yield
        except BaseException:  # the thread that hands out makes a failed result of it
            self.arrived(job, i)
            raise
        self._put += 1

    def arrived(self, job: int, i: int) -> bool:
        """Tell whether an answer is the first one to its task."""
        with self._lock:
            position = self._position.pop((job, i), None)
            if position is None:
                return False
            del self._task[position]
        self._room.release()
        return True

    def task_at(self, position: int) -> tuple[int, int]:
        """Tell which task was put there."""
        return self._task.get(position, (-1, -1))


def _name_of(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
