"""The two mailboxes of a pool of workers, and what a worker does with them."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]  # not in the stub
from queue import Empty
from typing import TYPE_CHECKING, Any

from onecopy._native import is_plain
from onecopy._workers.mailbox import Reader
from onecopy._workers.rebuilding import Address, describe, not_rebuilt, take_addressed
from onecopy._workers.remote import RemoteError
from onecopy.errors import Closed, OneCopyError, ShutDown
from onecopy.multiprocessing._pool_errors import WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from onecopy._workers.bells import Bell
    from onecopy._workers.mailbox import Mailbox
    from onecopy.queue import Message

__all__ = [
    "BEGAN",
    "FAILED",
    "Outstanding",
    "Results",
    "Tasks",
    "mapstar",
    "starmapstar",
    "work",
]

_ROOM_WITHIN = 60.0  # seconds that a worker waits for memory for a result
# In place of the number of a job, in messages that are no results:
BEGAN = -1  # (BEGAN, pid, None): a worker is ready for tasks
FAILED = -2  # (FAILED, pid, (False, error)): an initializer has raised


def mapstar(args: Any) -> list[Any]:
    """Run the calls of a batch: what `Pool.map` has workers do."""
    return list(map(*args))


def starmapstar(args: Any) -> list[Any]:
    """Run the calls of a batch, each with several arguments: `Pool.starmap`."""
    function, calls = args
    return [function(*each) for each in calls]


def work(
    tasks: Tasks,
    results: Results,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    most: int | None,
) -> None:
    """Be a worker: run tasks until there are no more, or `most` of them."""
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as error:
            results.initializer_failed(error)
            raise
    results.began()
    done = 0
    while most is None or done < most:
        try:
            task = tasks.get()
        except (EOFError, OSError):
            break
        if task is None:
            break
        job, i, function, args, kwargs = task
        del task
        try:
            outcome = True, function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - it is the task's
            outcome = False, RemoteError(error)
        results.put(job, i, *outcome)
        del function, args, kwargs, outcome  # what they hold is not kept while the worker waits
        done += 1


class Tasks:
    """The tasks that workers take.

    In a worker each `get` but the first follows the `put` of a result; that is when the task before
    is finished.

    Parameters
    ----------
    mailbox : Mailbox
        Where they are. Its queue redelivers.
    results : Results
        Where a worker puts answers.
    outstanding : Outstanding, optional
        What has been handed out, in the process that has the pool.
    workers : list, optional
        The workers, there.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        results: Results,
        outstanding: Outstanding | None = None,
        workers: list[Any] | None = None,
    ) -> None:
        self._mailbox = mailbox
        self._results = results
        self._outstanding = outstanding
        self._workers = [] if workers is None else workers
        self._reader: Reader | None = None

    def __reduce__(self) -> Any:
        return Tasks, (self._mailbox, self._results)

    # --------------------------------------------------------------- in the process with the pool

    def put(self, task: Any) -> None:
        """Hand a task out; wait while too many results are missing."""
        outstanding = self._outstanding
        if outstanding is None:
            raise AssertionError("tasks are handed out by the process that has the pool")
        outstanding.wait_for_room()
        # Before it is put: the answer may be there before `put` has returned.
        with outstanding.expecting(task[0], task[1]):
            self._mailbox.queue.put(task)
        self._mailbox.wake(len(outstanding), len(self._workers))

    def end(self) -> None:
        """Have all workers end, once there are no tasks."""
        with suppress(Closed):  # the pool has been joined, so no worker is left
            self._mailbox.end()

    def take_back(self) -> None:
        """Give out again the tasks that ended workers had taken."""
        queue = self._mailbox.queue
        with suppress(OneCopyError):  # closed, or damaged: then no task is left
            queue.member.collect()
            self._mailbox.ring()

    def drain_while(self, goes_on: Callable[[], bool]) -> None:
        """Take what there is, and block no `put`, as long as a condition holds."""
        self.stop_waiting()
        while goes_on():
            try:
                self._mailbox.queue.get_message(timeout=0.01).task_done()
            except Empty:
                continue
            except (Closed, ShutDown):
                return
            except Exception as error:
                position = getattr(error, "position", None)
                if position is None:
                    raise
                self._mailbox.queue._finish(position)  # it cannot be rebuilt, and need not

    def stop_waiting(self) -> None:
        """Block no `put` any more."""
        if self._outstanding is not None:
            self._outstanding.stop()

    # ------------------------------------------------------------------------------- in a worker

    def get(self) -> Any:
        """Take a task; a task that a dead worker had taken is answered for it.

        Returns
        -------
        tuple or None
            None: there will be no more.

        Raises
        ------
        EOFError
            The process that has the pool has ended.
        """
        if self._reader is None:
            self._reader = Reader(self._mailbox)
        while True:
            try:
                message = self._reader.take()
            except (Closed, ShutDown):
                self._mailbox.ring()  # others may sleep
                return None
            except BaseException as error:
                position = getattr(error, "position", None)
                if position is None or isinstance(error, KeyboardInterrupt):
                    raise
                self._refuse(position, error)
                continue
            task = message.item
            self._results.finishes(message)
            if not message.redelivered:
                return task
            job, i, function = task[:3]
            died = WorkerDied(
                f"the worker that ran {_name_of(function)} was killed, or crashed, before it was "
                "done. It may have done a part of its work; it was not run again"
            )
            self._results.put(job, i, False, died)

    def _refuse(self, position: int, error: BaseException) -> None:
        """Answer a task that cannot be rebuilt here: the parent knows what was at that position."""
        if not isinstance(error, OneCopyError | OSError):  # which say what is gone
            error = not_rebuilt("the arguments, or the function, of a task", error)
        self._results.put(None, position, False, RemoteError(error))
        self._mailbox.queue._finish(position)

    def close(self) -> None:
        """Close the mailbox here."""
        self._mailbox.close()


class Results:
    """The result queue; in a worker it finishes the task whose result was put.

    A result is ``(job, i, outcome)``. One that runs code when it is rebuilt travels with an
    `Address` in front, so that it fails its own call if it cannot be.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._queue: Any = mailbox.queue
        self._message: Message | None = None

    @property
    def bell(self) -> Bell:
        """What is rung when something was put while the reader sleeps."""
        return self._mailbox.bell

    def __reduce__(self) -> Any:
        return Results, (self._mailbox,)

    # ------------------------------------------------------------------------------- in a worker

    def finishes(self, message: Message) -> None:
        """Remember what the next result belongs to."""
        message.item = None  # the arguments are not kept for as long as the task runs
        self._message = message

    def began(self) -> None:
        """Say that this worker is ready."""
        self._queue.put((BEGAN, os.getpid(), None), timeout=_ROOM_WITHIN)
        self._mailbox.wake()

    def initializer_failed(self, error: BaseException) -> None:
        """Say that this worker cannot begin, and why."""
        self.put(FAILED, os.getpid(), False, RemoteError(error))

    def put(self, job: int | None, i: int, success: bool, value: Any) -> None:
        """Send a result; then its task is finished.

        A result that cannot be sent is replaced by a `MaybeEncodingError`.
        """
        try:
            self._send(job, i, success, value)
        except (KeyboardInterrupt, Closed):
            raise
        except BaseException as error:  # noqa: BLE001 - pickling runs anybody's code
            self._send(job, i, False, _encoding_error(error, value))
        message, self._message = self._message, None
        if message is not None:
            message.task_done()

    def _send(self, job: int | None, i: int, success: bool, value: Any) -> None:
        if is_plain(value):
            self._queue.put((job, i, (success, value)), timeout=_ROOM_WITHIN)
        else:
            what = describe(_error_of(value) if not success else value, not success)
            self._queue.put((Address((job, i), what), success, value), timeout=_ROOM_WITHIN)
        self._mailbox.wake()

    # --------------------------------------------------------------- in the process with the pool

    def take(self) -> Any:
        """Take a result, or one of the other messages; None: there is none."""
        got, numbers = take_addressed(partial(self._mailbox.take, self._queue.get))
        if got is None:
            return None
        if numbers is not None:
            return *numbers, (False, got)
        if type(got[0]) is tuple:
            (numbers, _), success, value = got
            return *numbers, (success, value)
        return got

    def wait(self, wait: Callable[[], object]) -> None:
        """Have `wait` called, which returns when a message comes, unless there is one."""
        self._mailbox.sleep(wait, None)

    def close(self) -> None:
        """Close the mailbox here."""
        self._mailbox.close()


class _Unsendable:
    """Stands in a `MaybeEncodingError` for what it is about."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _encoding_error(error: BaseException, value: Any) -> Exception:
    what = _error_of(value)
    made: Exception = MaybeEncodingError(_Unsendable(_text_of(error)), _Unsendable(_text_of(what)))
    return made


def _error_of(value: Any) -> Any:
    """Give an error without the wrapper that has its traceback."""
    return value.error if isinstance(value, RemoteError) else value


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
        """Block no `wait_for_room` any more."""
        self._stopped = True
        self._room.release()

    def __len__(self) -> int:
        """Count the tasks that are not answered."""
        return len(self._task)

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
