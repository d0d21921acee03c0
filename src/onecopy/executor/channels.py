"""The two mailboxes between an executor and its workers.

Calls go out as ``(number, message)``. A worker answers with ``(number, True, result, leaves)``, or
``False`` and an exception; `leaves` is its pid if that was its last call. Where the result is
pickled, an `Address` stands first, so that a result that cannot be rebuilt fails its own call:
``(address, True, result)``. If calls are given out again after a death, ``(number, None, None,
None)`` returns a call that a dead worker had taken: its executor decides what to do with it.
"""

from __future__ import annotations

import pickle
import time
from collections import deque
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from queue import Full
from traceback import format_exception
from typing import TYPE_CHECKING, Any, cast

from onecopy._core import membership
from onecopy._native import is_plain
from onecopy._workers.copies import NotNowError
from onecopy._workers.mailbox import Mailbox, Reader
from onecopy._workers.packing import NEVER, Urgency, pack_result
from onecopy._workers.rebuilding import Address, cannot_send, describe, not_rebuilt, take_addressed
from onecopy._workers.remote import RemoteError
from onecopy.errors import Closed, NotRebuilt, OneCopyError, PoolFull, ShutDown

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._codec.copy_mode import CopyMode
    from onecopy._native import Member
    from onecopy._workers.packing import Message
    from onecopy._workers.pickling import Picklers
    from onecopy.queue import Message as QueueMessage
    from onecopy.queue import Queue

__all__ = ["NEEDS_ROOM", "NOT_BEGUN", "CallNotRebuilt", "Calls", "Results", "Task"]

_ROOM_WITHIN = 60.0  # seconds that a worker, or a call, waits for memory in the pool
# A worker keeps alive what its last results refer to, because the manager thread may not have taken
# these results yet. This is the number of results. The manager thread takes each answer as soon as
# it comes, so there are never so many answers that it has not taken.
_KEPT_RESULTS = 64

_ADDRESSED = 3  # parts of an answer that begins with an address

NEEDS_ROOM = -1, None, None, None  # in place of an answer: a worker has no room for one
NOT_BEGUN = -2  # in place of the number of a call: a worker's initializer has raised


class CallNotRebuilt(NotRebuilt, BrokenProcessPool):
    """A call's arguments or answer could not be rebuilt; the executor still works.

    The standard library breaks down then, so programs may expect its error.
    """


class Task:
    """A call in the executor's own process, until it is answered.

    Parameters
    ----------
    encode : callable
        Encodes the call; given how urgent that is.
    """

    __slots__ = ("_encode", "_error", "_message")

    def __init__(self, encode: Callable[[Urgency], Message]) -> None:
        self._encode: Callable[[Urgency], Message] | None = encode
        self._message: Message | None = None
        self._error: Exception | None = None

    def try_ahead(self) -> None:
        """Encode it, if there is room. Any other error is kept until it is handed out."""
        try:
            self._prepare(Urgency.AHEAD)
        except (NotNowError, PoolFull):
            pass  # when it is its turn
        except Exception as error:  # noqa: BLE001 - pickling runs code of any class
            self._error, self._encode = cast("Exception", _bare(error)), None

    @property
    def is_encoded(self) -> bool:
        """Whether handing it out needs no room for its arguments."""
        return self._encode is None

    def call(self, urgency: Urgency) -> bytes | int:
        """Give what is sent; raises what encoding raises."""
        if self._error is not None:
            raise self._error
        message = self._message or self._prepare(urgency)
        # The handle alone: this object keeps what it is for until the call is answered. A worker
        # that is given a call again, which was answered meanwhile, need not find it.
        return message.call if isinstance(message.call, bytes) else message.call.handle

    def _prepare(self, urgency: Urgency) -> Message:
        if self._encode is None:
            raise AssertionError("the call was given up")
        self._message = self._encode(urgency)
        self._encode = None
        return self._message

    def forget(self) -> None:
        """Drop what it holds, where it will not be needed."""
        self._message = self._encode = self._error = None


class Calls:
    """The calls that workers take.

    In the executor's process it is filled by the manager thread, which never waits here. A call for
    which the pool has no room waits until answers have made some. Until then no call is encoded
    ahead of its turn. Later calls are sent only if they are encoded already: they need no more
    room, and their answers free some.

    Parameters
    ----------
    mailbox : Mailbox
        Where they are.
    results : Results
        Where a worker puts answers.
    ahead : int
        Calls that lie ready beyond those that workers have.
    copy : CopyMode
        How workers have arrays.

    Attributes
    ----------
    refuse : callable
        Called with the number of a call that cannot be sent, and why.
    more_wait : callable
        Tells whether there are calls that were not handed out yet.
    hold_back : callable
        Called with whether some call waits for room.
    workers : callable
        Tells how many workers there are.
    """

    def __init__(
        self, mailbox: Mailbox, results: Results, ahead: int = 0, copy: CopyMode = None
    ) -> None:
        self._mailbox = mailbox
        self._results = results
        self._ahead = ahead
        self._copy: CopyMode = copy
        self._reader: Reader | None = None
        self._pools: list[Member] = []  # kept from call to call, or each would join again
        self._waiting: deque[tuple[int, Task]] = deque()
        self._out: set[int] = set()
        self._since: float | None = (
            None  # when no call was left that makes room for the first in line
        )
        self.forget_executor()

    def __reduce__(self) -> Any:
        return Calls, (self._mailbox, self._results, 0, self._copy)

    def forget_executor(self) -> None:
        """Drop the references to the executor's objects."""
        self.refuse: Callable[[int, BaseException], None] = _nobody
        self.more_wait: Callable[[], bool] = bool
        self.hold_back: Callable[[bool], object] = bool
        self.workers: Callable[[], int] = int

    # ------------------------------------------------------------------ in the executor's process

    @property
    def wait_for_room(self) -> bool:
        """Whether a call waits for room in the pool, and must be tried again from time to time."""
        return bool(self._waiting)

    def full(self) -> bool:
        """Return whether the manager thread should stop handing out calls for now."""
        self._try_again()
        if self._waiting:
            return bool(self._out)  # answers will come, and make room
        return self._mailbox.queue.qsize() >= self._ahead

    def hand_out(self, number: int, task: Task) -> None:
        """Hand out a call; a call that cannot be encoded fails here."""
        waits = bool(self._waiting) and not task.is_encoded
        if waits or self._send(number, task) is not None:
            self._waiting.append((number, task))
            self.hold_back(True)

    def _try_again(self) -> None:
        """Send the waiting calls in order; refuse a call for which no answer can make room."""
        while self._waiting:
            number, task = self._waiting[0]
            error = self._send(number, task)
            if error is not None and not self._is_hopeless(error):
                return
            self._waiting.popleft()
            self._since = None
            if error is not None:
                self.refuse(number, error)
            self.hold_back(bool(self._waiting))

    def _is_hopeless(self, error: BaseException) -> bool:
        """Return whether no answer will make room for the first waiting call."""
        if NEVER in getattr(error, "__notes__", ()):
            return True
        now = time.monotonic()
        if self._out or self.more_wait() or self._since is None:
            self._since = now  # answers will make some
        # Else only the program can make room, by dropping results.
        return now - self._since > _ROOM_WITHIN

    def _send(self, number: int, task: Task) -> BaseException | None:
        """Send a call, or refuse it; raises an error if there is no room."""
        urgency = Urgency.TURN if self._out else Urgency.ALONE
        self._out.add(number)  # before: the answer may be there when `put` returns
        try:
            self._mailbox.queue.put((number, task.call(urgency)), block=False)
        except (PoolFull, Full, NotNowError) as error:
            self._out.discard(number)
            return _bare(error)
        except BaseException as error:  # noqa: BLE001 - pickling runs code of any class
            self._out.discard(number)
            self.refuse(number, _bare(error))
        else:
            self._mailbox.wake(len(self._out), self.workers())
        return None

    def answered(self, number: int) -> None:
        """Note that a call was answered or returned."""
        self._out.discard(number)

    def are_out(self) -> bool:
        """Whether a call is on its way: in the queue, or taken by a worker."""
        return bool(self._out)

    def wake_workers(self) -> None:
        """Wake a worker, after one has died that may have been woken for a call."""
        self._mailbox.ring()

    def end(self) -> None:
        """Make all workers end when no call is left."""
        with suppress(Closed):
            self._mailbox.end()

    def join_thread(self) -> None:
        """Do nothing: there is no thread."""

    def close(self) -> None:
        """Close the mailbox here when all workers have ended, and forget the manager thread."""
        self._mailbox.close()
        self.forget_executor()
        self._waiting.clear()

    # ------------------------------------------------------------------------------- in a worker

    def get(self) -> tuple[int, Any, Any, Any] | None:
        """Take a call: its number, function, arguments and keyword arguments.

        Returns
        -------
        tuple or None
            None: there will be no more.
        """
        if self._reader is None:
            self._reader = Reader(self._mailbox, partial(setattr, self, "_pools", []))
        while True:
            try:
                message = self._reader.take()
            except (Closed, ShutDown, EOFError):
                self._mailbox.ring()  # others may sleep
                return None
            number, call = message.item
            message.item = None  # the arguments are not kept for as long as the call runs
            if message.redelivered:
                self._results.return_call(number)
                message.task_done()
                continue
            self._results.finishes(message)
            try:
                if type(call) is int:
                    ref = self._mailbox.queue.member.ref(call)
                    function, args, kwargs = ref.get(self._copy)
                else:
                    function, args, kwargs = pickle.loads(call)
            except BaseException as error:  # noqa: BLE001 - rebuilding runs code of any class
                # The worker can continue. An error that itself names what is missing or out of
                # reach is sent as it is.
                sent = (
                    error
                    if isinstance(error, OneCopyError | OSError)
                    else not_rebuilt(
                        "the arguments, or the function, of a call", error, CallNotRebuilt
                    )
                )
                self._results.failed(number, RemoteError(sent), None)
                continue
            self._pools = membership.current()
            return number, function, args, kwargs


class Results:
    """The answers of workers.

    Parameters
    ----------
    mailbox : Mailbox
        Where they are.
    picklers : type
        What pickles results.
    copy : CopyMode
        How the executor's process has arrays.
    """

    def __init__(self, mailbox: Mailbox, picklers: Picklers, copy: CopyMode = None) -> None:
        self._mailbox = mailbox
        self._queue: Queue = mailbox.queue
        self._get = partial(self._queue.get, copy=copy)
        self._picklers = picklers
        self._message: QueueMessage | None = None
        self._sent: deque[list[Any]] = deque(maxlen=_KEPT_RESULTS)

    def __reduce__(self) -> Any:
        return Results, (self._mailbox, self._picklers)

    # ------------------------------------------------------------------------------- in a worker

    def finishes(self, message: QueueMessage) -> None:
        """Remember which call the next answer is to."""
        self._message = message

    def return_call(self, number: int) -> None:
        """Give back a call that a dead worker had taken."""
        self._queue.put((number, None, None, None), timeout=_ROOM_WITHIN)
        self._mailbox.wake()

    def initializer_failed(self, error: BaseException) -> None:
        """Report why this worker cannot begin; without effect if there is no memory for it."""
        text = "".join(format_exception(error))
        with suppress(Closed, Full, PoolFull):
            self._queue.put((NOT_BEGUN, None, text, None), block=False)

    def returned(self, number: int, result: Any, leaves: int | None) -> None:
        """Send the result of a call, or the error that it cannot be sent; then it is finished."""
        try:
            self._answer(number, True, result, leaves)
        except BaseException as error:  # noqa: BLE001 - pickling runs code of any class
            self.failed(number, RemoteError(error), leaves)

    def failed(self, number: int, error: RemoteError, leaves: int | None) -> None:
        """Send the error of a call; then it is finished."""
        try:
            self._answer(number, False, error, leaves)
        except BaseException as reason:  # noqa: BLE001 - pickling runs code of any class
            sent = (
                RemoteError(reason) if isinstance(reason, OneCopyError) else _instead(error, reason)
            )
            self._answer(number, False, sent, leaves)

    def _answer(self, number: int, done: bool, value: Any, leaves: int | None) -> None:
        packed, kept = pack_result(value, self._queue.member, self._picklers)
        answer: tuple[Any, ...]
        if is_plain(value):
            answer = number, True, packed, leaves
        else:
            what = describe(value if done else value.error, not done)
            answer = Address((number, leaves), what), done, packed
        try:
            self._queue.put(answer, block=False)
        except (Full, PoolFull):
            self._wait_for_room(answer)
        self._mailbox.wake()
        if kept:
            self._sent.append(kept)
        message, self._message = self._message, None
        if message is not None:
            message.task_done()

    def _wait_for_room(self, answer: tuple[Any, ...]) -> None:
        with suppress(Full, PoolFull):
            self._queue.put(NEEDS_ROOM, block=False)
            self._mailbox.wake()
        try:
            self._queue.put(answer, timeout=_ROOM_WITHIN)
        except Full:
            raise PoolFull(
                f"a result found no room in the pool for {_ROOM_WITHIN:.0f} s: results and "
                "arguments that are still referred to fill it. Drop results that are done with, "
                "submit less at a time (map has buffersize), or give the executor a larger pool"
            ) from None

    # ------------------------------------------------------------------ in the executor's process

    def take(self, expected: bool = False) -> Any:
        """Take an answer, as the manager thread does; None: there is none.

        If one is `expected`, the thread looks for it for a moment.
        """
        take = partial(self._mailbox.take, self._get, expected)
        answer, numbers = take_addressed(take, CallNotRebuilt)
        if answer is None:
            return None
        if numbers is not None:
            number, leaves = numbers
            return number, False, answer, leaves
        if len(answer) == _ADDRESSED:
            ((number, leaves), _), done, value = answer
            return number, done, value, leaves
        return answer

    def wait(self, wait: Callable[[], Any]) -> Any:
        """Call `wait`, which returns when an answer comes, unless there is an answer already."""
        return self._mailbox.sleep(wait, [])

    def close(self) -> None:
        """Close the mailbox here, and drop the answers that are still in it."""
        self._mailbox.close()


def _instead(error: RemoteError, reason: BaseException) -> RemoteError:
    """Replace an error that cannot be sent; keep the text of its traceback."""
    error.error = cannot_send(error.error, reason)
    return error


def _bare(error: BaseException) -> BaseException:
    """Remove the traceback: its frames hold arguments, and their memory in the pool."""
    error.__context__ = None
    return error.with_traceback(None)


def _nobody(number: int, error: BaseException) -> None:
    raise AssertionError(f"no manager thread has handed out call {number}") from error
