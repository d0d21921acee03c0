"""The two queues between an executor and its workers, as the standard library's code uses them.

Calls go out as ``(number, message)``. A worker answers with ``(number, True, result, leaves)``, or
``False`` and an exception; `leaves` is its pid if that was its last call. Where the result is
pickled, an `Address` stands first, so that a result that cannot be rebuilt fails its own call:
``(address, True, result)``. If calls are given out again after a death, ``(number, None, None,
None)`` returns one that a dead worker had in hand: its executor decides what becomes of it.
"""

from __future__ import annotations

import pickle
import time
from collections import deque
from concurrent.futures.process import (
    BrokenProcessPool,
    _CallItem,
    _ExceptionWithTraceback,
    _ResultItem,
)
from contextlib import suppress
from functools import partial
from queue import Empty, Full
from traceback import format_exception
from typing import TYPE_CHECKING, Any, cast

from onecopy import coroutines
from onecopy._core import membership
from onecopy._native import is_plain
from onecopy._workers.parents import Parent
from onecopy._workers.rebuilding import Address, cannot_send, describe, not_rebuilt, take_addressed
from onecopy.errors import Closed, NotRebuilt, OneCopyError, PoolFull, ShutDown
from onecopy.executor.packing import NEVER, NotNowError, Urgency, pack_result

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._codec.copy_mode import CopyMode
    from onecopy._native import Member
    from onecopy.executor.packing import Message
    from onecopy.executor.pickling import Picklers
    from onecopy.queue import Message as QueueMessage
    from onecopy.queue import Queue

__all__ = ["NEEDS_ROOM", "NOT_BEGUN", "CallNotRebuilt", "Calls", "Results", "Task", "Wakeup"]

_LOOK_EVERY = 1.0  # second in which an idle worker looks whether its parent lives
_ROOM_WITHIN = 60.0  # seconds that a worker waits for memory for a result, and a call for its own
# Results for whose arrival a worker keeps what they refer to. The manager thread takes an answer as
# soon as it comes, so it never has that many before it.
_KEPT_RESULTS = 64

_ADDRESSED = 3  # parts of an answer that begins with an address

NEEDS_ROOM = -1, None, None, None  # in place of an answer: a worker has no room for one
NOT_BEGUN = -2  # in place of the number of a call: a worker's initializer has raised


class CallNotRebuilt(NotRebuilt, BrokenProcessPool):
    """A call's arguments or answer could not be rebuilt; the executor goes on.

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
        """Encode it, if there is room. Whatever else goes wrong is told when it is handed out."""
        try:
            self._prepare(Urgency.AHEAD)
        except (NotNowError, PoolFull):
            pass  # when it is its turn
        except Exception as error:  # noqa: BLE001 - pickling runs anybody's code
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
        """Let go of what it holds, where it will not be needed."""
        self._message = self._encode = self._error = None


class Calls:
    """The call queue.

    In the executor's process it is filled by the manager thread, which never waits here. A call for
    which the pool has no room waits until answers have made some. Until then none is encoded ahead
    of its turn, and of those behind it only such go out as are encoded: they take no room, and
    their answers make some.

    Attributes
    ----------
    refuse : callable
        Called with the number of a call that cannot be sent, and why.
    more_wait : callable
        Tells whether there are calls that were not given to `put` yet.
    hold_back : callable
        Called with whether some call waits for room.
    """

    def __init__(
        self, queue: Queue, results: Results, ahead: int = 0, copy: CopyMode = None
    ) -> None:
        self._queue = queue
        self._results = results
        self._ahead = ahead
        self._copy: CopyMode = copy
        self._parent: Parent | None = None
        self._pools: list[Member] = []  # kept from call to call, or each would join anew
        self._waiting: deque[tuple[int, Task]] = deque()
        self._out: set[int] = set()
        self._since: float | None = None  # when nobody was left to make room for who waits
        self.refuse: Callable[[int, BaseException], None] = _nobody
        self.more_wait: Callable[[], bool] = bool
        self.hold_back: Callable[[bool], object] = bool
        self._reader = self  # which the standard library closes when workers have died

    def __reduce__(self) -> Any:
        return Calls, (self._queue, self._results, 0, self._copy)

    # ------------------------------------------------------------------ in the executor's process

    def full(self) -> bool:
        """Tell whether the manager thread should hand out no more for now."""
        self._try_again()
        if self._waiting:
            return bool(self._out)  # answers will come, and make room
        return self._queue.qsize() >= self._ahead

    def put(self, item: Any, block: bool = True) -> None:  # noqa: ARG002 - as the caller has it
        """Hand out a call; one that cannot be encoded is answered here."""
        self._hand_out(item.work_id, item.fn)

    def again(self, number: int, task: Task) -> None:
        """Hand out a call once more."""
        self._hand_out(number, task)

    def put_nowait(self, item: None) -> None:
        """Tell a worker to end; all of them, if there is no room to tell one."""
        with suppress(Closed):
            try:
                self._queue.put(item, block=False)
            except (Full, PoolFull):
                self._queue.shutdown()

    def _hand_out(self, number: int, task: Task) -> None:
        waits = bool(self._waiting) and not task.is_encoded
        if waits or self._send(number, task) is not None:
            self._waiting.append((number, task))
            self.hold_back(True)

    def _try_again(self) -> None:
        """Send what waits, in order; refuse what no answer can make room for."""
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
        """Tell whether there will be no room for the first call that waits."""
        if NEVER in getattr(error, "__notes__", ()):
            return True
        now = time.monotonic()
        if self._out or self.more_wait() or self._since is None:
            self._since = now  # answers will make some
        # Else it is up to the user, who may be about to let go of results.
        return now - self._since > _ROOM_WITHIN

    def _send(self, number: int, task: Task) -> BaseException | None:
        """Send a call, or refuse it; an error is that there is no room."""
        urgency = Urgency.TURN if self._out else Urgency.ALONE
        self._out.add(number)  # before: the answer may be there when `put` returns
        try:
            self._queue.put((number, task.call(urgency)), block=False)
        except (PoolFull, Full, NotNowError) as error:
            self._out.discard(number)
            return _bare(error)
        except BaseException as error:  # noqa: BLE001 - pickling runs anybody's code
            self._out.discard(number)
            self.refuse(number, _bare(error))
        return None

    def answered(self, number: int) -> None:
        """Know that a call is not on its way any more."""
        self._out.discard(number)

    def close(self) -> None:
        """Do nothing yet: a worker that is being started has still to find the queue."""

    def join_thread(self) -> None:
        """Do nothing: there is no thread."""

    def _terminate_broken(self) -> None:
        self.close()

    def let_go(self) -> None:
        """Let go of the queue here, and of the manager thread, when all workers have ended."""
        self._queue.close()
        self.refuse, self.more_wait, self.hold_back = _nobody, bool, bool
        self._waiting.clear()

    # ------------------------------------------------------------------------------- in a worker

    def get(self, block: bool = True) -> Any:  # noqa: ARG002 - as the caller has it
        """Take a call; None: there will be no more."""
        if self._parent is None:
            self._parent = Parent()
        while True:
            try:
                message = coroutines.take(self._queue.get_message, _LOOK_EVERY)
            except Empty:
                self._pools = []
                if self._parent.ended:
                    return None
                continue
            except (Closed, ShutDown):
                return None
            if message.item is None or self._parent.ended:
                message.task_done()
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
                    function, args, kwargs = self._queue.member.ref(call).get(self._copy)
                else:
                    function, args, kwargs = pickle.loads(call)
            except BaseException as error:  # noqa: BLE001 - rebuilding runs anybody's code
                # The worker is as good as new. What says itself that something is gone, or cannot
                # be had, is told as it is.
                told = (
                    error
                    if isinstance(error, OneCopyError | OSError)
                    else not_rebuilt(
                        "the arguments, or the function, of a call", error, CallNotRebuilt
                    )
                )
                failed: Any = _ExceptionWithTraceback(told, cast("Any", told.__traceback__))
                self._results.put(_ResultItem(number, exception=failed))
                continue
            self._pools = membership.current()
            return _CallItem(number, function, args, kwargs)


class Results:
    """The result queue."""

    def __init__(self, queue: Queue, picklers: Picklers, copy: CopyMode = None) -> None:
        self._queue = queue
        self._get = partial(queue.get, copy=copy)
        self._picklers = picklers
        self._message: QueueMessage | None = None
        self._sent: deque[list[Any]] = deque(maxlen=_KEPT_RESULTS)

    def __reduce__(self) -> Any:
        return Results, (self._queue, self._picklers)

    def finishes(self, message: QueueMessage) -> None:
        """Remember which call the next answer is to."""
        self._message = message

    def return_call(self, number: int) -> None:
        """Give back a call that a dead worker had in hand."""
        self._queue.put((number, None, None, None), timeout=_ROOM_WITHIN)

    def initializer_failed(self, error: BaseException) -> None:
        """Say why this worker cannot begin; without effect when there is no memory for it."""
        text = "".join(format_exception(error))
        with suppress(Closed, Full, PoolFull):
            self._queue.put((NOT_BEGUN, None, text, None), block=False)

    def put(self, item: Any) -> None:
        """Answer; then the call is finished. A pid: the worker leaves.

        Raises
        ------
        PoolFull
            There is no room for the result, and there was none for a minute.
        Exception
            The result cannot be pickled. The worker sends that as its answer.
        """
        if not isinstance(item, _ResultItem):
            with suppress(Full, PoolFull):  # nobody waits for it: its end is seen all the same
                self._queue.put(item, block=False)
            return
        failed = item.exception is not None
        value: Any = item.exception if failed else item.result
        try:
            packed, kept = pack_result(value, self._queue.member, self._picklers)
        except BaseException as error:
            if not failed or isinstance(error, OneCopyError):
                raise
            value.exc = cannot_send(value.exc, error)
            packed, kept = pack_result(value, self._queue.member, self._picklers)
        answer: tuple[Any, ...]
        if is_plain(value):
            answer = item.work_id, True, packed, item.exit_pid
        else:
            what = describe(value.exc if failed else value, failed)
            answer = Address((item.work_id, item.exit_pid), what), not failed, packed
        try:
            self._queue.put(answer, block=False)
        except (Full, PoolFull):
            self._wait_for_room(answer)
        if kept:
            self._sent.append(kept)
        if failed:
            wrapped: Any = item.exception
            wrapped.exc = None  # the caller keeps it, and with it its frames' arguments
        message, self._message = self._message, None
        if message is not None:
            message.task_done()

    def _wait_for_room(self, answer: tuple[Any, ...]) -> None:
        with suppress(Full, PoolFull):
            self._queue.put(NEEDS_ROOM, block=False)
        try:
            self._queue.put(answer, timeout=_ROOM_WITHIN)
        except Full:
            raise PoolFull(
                f"a result found no room in the pool for {_ROOM_WITHIN:.0f} s: results and "
                "arguments that are still referred to fill it. Drop results that are done with, "
                "submit less at a time (map has buffersize), or give the executor a larger pool"
            ) from None

    def get(self, block: bool, timeout: float) -> Any:
        """Take an answer, or a wake-up (None), as the manager thread does."""
        answer, numbers = take_addressed(
            partial(coroutines.take, self._get, timeout) if block else partial(self._get, False),
            CallNotRebuilt,
        )
        if numbers is not None:
            number, leaves = numbers
            return number, False, answer, leaves
        if type(answer) is tuple and len(answer) == _ADDRESSED:
            ((number, leaves), _), done, value = answer
            return number, done, value, leaves
        return answer

    def wake(self) -> None:
        """Wake the manager thread; without effect when there is no memory for it."""
        with suppress(Closed, Full, PoolFull):
            self._queue.put(None, block=False)

    def close(self) -> None:
        """Let go of the queue here, and of the answers in it that nobody took."""
        self._queue.close()


class Wakeup:
    """What other threads wake the manager thread with: a message on the queue that it waits at."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._rung = False
        self._closed = False

    def wakeup(self) -> None:
        """Wake it, unless it is about to wake."""
        if not self._closed and not self._rung:
            self._rung = True
            self._results.wake()

    def clear(self) -> None:
        """Forget the call; the manager thread looks at what there is to do after this."""
        self._rung = False

    def close(self) -> None:
        """Wake nobody any more."""
        self._closed = True


def _bare(error: BaseException) -> BaseException:
    """Take the traceback away: its frames hold arguments, and what they have in the pool."""
    error.__context__ = None
    return error.with_traceback(None)


def _nobody(number: int, error: BaseException) -> None:
    raise AssertionError(f"call {number} was handed out by nobody") from error
