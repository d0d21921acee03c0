"""The two mailboxes of a pool of workers, and the loop of a worker."""

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
# Replace the number of a job in messages that are not results:
BEGAN = -1  # (BEGAN, pid, None): a worker is ready for tasks
FAILED = -2  # (FAILED, pid, (False, error)): an initializer has raised


def mapstar(args: Any) -> list[Any]:
    """Run the calls of a batch, for `Pool.map`."""
    return list(map(*args))


def starmapstar(args: Any) -> list[Any]:
    """Run the calls of a batch, each with several arguments, for `Pool.starmap`."""
    function, calls = args
    return [function(*each) for each in calls]


def work(
    tasks: Tasks,
    results: Results,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    most: int | None,
) -> None:
    """Run tasks in a worker until there are no more, or until `most` tasks were run."""
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
        except Exception as error:  # noqa: BLE001 - the task's error is its result
            outcome = False, RemoteError(error)
        results.put(job, i, *outcome)
        del function, args, kwargs, outcome  # so that they are freed while the worker waits
        done += 1


class Tasks:
    """The tasks that workers take.

    In a worker, each `get` except the first one follows the `put` of a result. That `put` finishes
    the previous task.

    Parameters
    ----------
    mailbox : Mailbox
        The mailbox of the tasks. Its queue redelivers.
    results : Results
        The mailbox into which a worker puts answers.
    outstanding : Outstanding, optional
        The tasks that were handed out; only in the process that has the pool.
    workers : list, optional
        The workers; only in the process that has the pool.
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
        """Hand out a task; wait while too many results are missing."""
        outstanding = self._outstanding
        if outstanding is None:
            raise AssertionError("tasks are handed out by the process that has the pool")
        outstanding.wait_for_room()
        # Before `put`: the answer may arrive before `put` returns.
        with outstanding.expecting(task[0], task[1]):
            self._mailbox.queue.put(task)
        self._mailbox.wake(len(outstanding), len(self._workers))

    def end(self) -> None:
        """Make all workers end when no task is left."""
        with suppress(Closed):  # the pool has been joined, so no worker is left
            self._mailbox.end()

    def take_back(self) -> None:
        """Redeliver the tasks that dead workers had taken."""
        queue = self._mailbox.queue
        with suppress(OneCopyError):  # closed, or damaged: then no task is left
            queue.member.collect()
            self._mailbox.ring()

    def drain_while(self, condition: Callable[[], bool]) -> None:
        """Take and drop all tasks, and block no `put`, while a condition holds."""
        self.stop_waiting()
        while condition():
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
                self._mailbox.queue._finish(position)  # it cannot be rebuilt, and is not needed

    def stop_waiting(self) -> None:
        """Block no further `put`."""
        if self._outstanding is not None:
            self._outstanding.stop()

    # ------------------------------------------------------------------------------- in a worker

    def get(self) -> Any:
        """Take a task; answer, with `WorkerDied`, tasks that a dead worker had taken.

        Returns
        -------
        tuple or None
            None: no more tasks will come.

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
        """Answer a task that cannot be rebuilt here: the parent knows the task by its position."""
        if not isinstance(error, OneCopyError | OSError):  # these say what is missing
            error = not_rebuilt("the arguments, or the function, of a task", error)
        self._results.put(None, position, False, RemoteError(error))
        self._mailbox.queue._finish(position)

    def close(self) -> None:
        """Close the mailbox in this process."""
        self._mailbox.close()


class Results:
    """The queue of results. In a worker, it finishes the task whose result was put.

    A result is ``(job, i, outcome)``. A result whose rebuilding runs code is sent with an `Address`
    before it. So if it cannot be rebuilt, only its own call fails.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._queue: Any = mailbox.queue
        self._message: Message | None = None

    @property
    def bell(self) -> Bell:
        """The eventfd that wakes the reader when a message was put while it slept."""
        return self._mailbox.bell

    def __reduce__(self) -> Any:
        return Results, (self._mailbox,)

    # ------------------------------------------------------------------------------- in a worker

    def finishes(self, message: Message) -> None:
        """Remember the message of the task that the next result belongs to."""
        message.item = None  # so that the task's arguments are not kept until it ends
        self._message = message

    def began(self) -> None:
        """Report that this worker is ready."""
        self._queue.put((BEGAN, os.getpid(), None), timeout=_ROOM_WITHIN)
        self._mailbox.wake()

    def initializer_failed(self, error: BaseException) -> None:
        """Report that this worker cannot begin, and the reason."""
        self.put(FAILED, os.getpid(), False, RemoteError(error))

    def put(self, job: int | None, i: int, success: bool, value: Any) -> None:
        """Send a result, and finish its task.

        A result that cannot be sent is replaced by a `MaybeEncodingError`.
        """
        try:
            self._send(job, i, success, value)
        except (KeyboardInterrupt, Closed):
            raise
        except BaseException as error:  # noqa: BLE001 - pickling runs code of any class
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
        """Take a result, or a message of another kind; None: there is no message."""
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
        """Call `wait`, which returns when a message comes, unless the queue has a message."""
        self._mailbox.sleep(wait, None)

    def close(self) -> None:
        """Close the mailbox in this process."""
        self._mailbox.close()


class _Unsendable:
    """Replaces, in a `MaybeEncodingError`, the object that cannot be sent."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _encoding_error(error: BaseException, value: Any) -> Exception:
    what = _error_of(value)
    made: Exception = MaybeEncodingError(_Unsendable(_text_of(error)), _Unsendable(_text_of(what)))
    return made


def _error_of(value: Any) -> Any:
    """Return an error without the wrapper that has its traceback."""
    return value.error if isinstance(value, RemoteError) else value


def _text_of(obj: Any) -> str:
    try:
        return repr(obj)
    except Exception:  # noqa: BLE001 - the code of any class
        return f"<{type(obj).__module__}.{type(obj).__qualname__}, whose __repr__ raises>"


class Outstanding:
    """The tasks that were handed out and are not answered, in the process that has the pool.

    If a worker dies after it has put a result and before it has finished the task, the task is
    answered twice. The second answer is ignored. A worker that cannot rebuild a task knows only the
    position of the task: how many messages were put before it.
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
        """Block no further `wait_for_room`."""
        self._stopped = True
        self._room.release()

    def __len__(self) -> int:
        """Count the tasks that are not answered."""
        return len(self._task)

    @contextmanager
    def expecting(self, job: int, i: int) -> Iterator[None]:
        """Expect an answer to the task that the block puts, unless the block raises."""
        with self._lock:
            self._position[job, i] = self._put
            self._task[self._put] = job, i
        try:
            yield
        except BaseException:  # the thread that hands out makes the call fail
            self.arrived(job, i)
            raise
        self._put += 1

    def arrived(self, job: int, i: int) -> bool:
        """Note an answer; return whether it is the first one to its task."""
        with self._lock:
            position = self._position.pop((job, i), None)
            if position is None:
                return False
            del self._task[position]
        self._room.release()
        return True

    def task_at(self, position: int) -> tuple[int, int]:
        """Return the task that was put at a position; (-1, -1) if it was answered."""
        return self._task.get(position, (-1, -1))


def _name_of(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
