"""The two queues between an executor and its workers, as the standard library's code uses them.

Calls go out as ``(number, message)``. A worker answers with ``(number, True, result, leaves)``, or
``False`` and an exception; `leaves` is its pid if that was its last call. If calls are given out
again after a death, ``(number, None, None, None)`` returns one that a dead worker had in hand: its
executor decides what becomes of it.
"""

from __future__ import annotations

import pickle
from concurrent.futures.process import _CallItem, _ResultItem
from contextlib import suppress
from queue import Empty, Full
from typing import TYPE_CHECKING, Any

from onecopy.errors import Closed, PoolFull, ShutDown
from onecopy.executor.packing import pack_result
from onecopy.parents import Parent

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._native import Ref
    from onecopy.executor.packing import Picklers
    from onecopy.queue import Message, Queue

__all__ = ["Calls", "Results", "Task", "Wakeup"]

_LOOK_EVERY = 1.0  # second in which an idle worker looks whether its parent lives
_ROOM_WITHIN = 60.0  # seconds that a worker waits for memory for a result


class Task:
    """A call in the executor's own process, until it is answered."""

    __slots__ = ("_prepare", "message", "used")

    def __init__(self, prepare: Callable[[], tuple[bytes | Ref, list[Any]]]) -> None:
        self._prepare: Callable[[], tuple[bytes | Ref, list[Any]]] | None = prepare
        self.message: bytes | Ref | None = None
        self.used: list[Any] = []

    def prepare(self) -> bytes | Ref:
        """Encode it, once; raises what encoding raises."""
        if self._prepare is not None:
            self.message, self.used = self._prepare()
            self._prepare = None
        assert self.message is not None  # noqa: S101 - for the type checker
        return self.message

    def forget(self) -> None:
        """Let go of what it holds, in a process that will not need it."""
        self.message = self._prepare = None
        self.used = []


class Calls:
    """The call queue.

    In the executor's process it is filled by the manager thread, which never waits here: a call for
    which the pool has no room stays in hand until an answer makes some.
    """

    def __init__(self, queue: Queue, results: Results, ahead: int = 0) -> None:
        self._queue = queue
        self._results = results
        self._ahead = ahead
        self._parent: Parent | None = None
        self._in_hand: tuple[int, Task] | None = None
        self._out: set[int] = set()
        self.refuse: Callable[[int, BaseException], None] = _nobody
        self._reader = self  # which the standard library closes when workers have died

    def __reduce__(self) -> Any:
        return Calls, (self._queue, self._results)

    # ------------------------------------------------------------------ in the executor's process

    def full(self) -> bool:
        """Tell whether the manager thread should hand out no more for now."""
        if self._in_hand is not None:
            number, task = self._in_hand
            self._in_hand = None
            self._hand_out(number, task)
        waits: object = self._in_hand
        return waits is not None or self._queue.qsize() >= self._ahead

    def put(self, item: Any, block: bool = True) -> None:  # noqa: ARG002 - as the caller has it
        """Hand out a call; one that cannot be encoded is answered here."""
        self._hand_out(item.work_id, item.fn)

    def again(self, number: int, task: Task) -> None:
        """Hand out a call once more."""
        self._hand_out(number, task)

    def put_nowait(self, item: None) -> None:
        """Tell a worker to end."""
        with suppress(Closed):
            self._queue.put(item)

    def _hand_out(self, number: int, task: Task) -> None:
        self._out.add(number)
        try:
            message = task.prepare()
            # The handle alone: the call keeps what it is for until it is answered, and a worker
            # that is given a call again, which was answered meanwhile, need not find it.
            call = message if isinstance(message, bytes) else message.handle
            self._queue.put((number, call), block=False)
        except (PoolFull, Full) as error:
            if len(self._out) > 1:  # answers will come, and make room
                self._in_hand = number, task
                return
            self._out.discard(number)
            self.refuse(number, error)
        except Exception as error:  # noqa: BLE001 - pickling runs anybody's code
            self._out.discard(number)
            self.refuse(number, error)

    def answered(self, number: int) -> None:
        """Know that a call is not on its way any more."""
        self._out.discard(number)

    def close(self) -> None:
        """Let go of the queue here."""
        self._queue.close()
        self.refuse = _nobody
        self._in_hand = None

    def join_thread(self) -> None:
        """Do nothing: there is no thread."""

    def _terminate_broken(self) -> None:
        self.close()

    # ------------------------------------------------------------------------------- in a worker

    def get(self, block: bool = True) -> Any:  # noqa: ARG002 - as the caller has it
        """Take a call; None: there will be no more."""
        if self._parent is None:
            self._parent = Parent()
        while True:
            try:
                message = self._queue.get_message(timeout=_LOOK_EVERY)
            except Empty:
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
            if type(call) is int:
                function, args, kwargs = self._queue.member.ref(call).get()
            else:
                function, args, kwargs = pickle.loads(call)
            return _CallItem(number, function, args, kwargs)


class Results:
    """The result queue."""

    def __init__(self, queue: Queue, picklers: Picklers) -> None:
        self._queue = queue
        self._picklers = picklers
        self._message: Message | None = None

    def __reduce__(self) -> Any:
        return Results, (self._queue, self._picklers)

    def finishes(self, message: Message) -> None:
        """Remember which call the next answer is to."""
        self._message = message

    def return_call(self, number: int) -> None:
        """Give back a call that a dead worker had in hand."""
        self._queue.put((number, None, None, None), timeout=_ROOM_WITHIN)

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
            self._queue.put(item)
            return
        failed = item.exception is not None
        value = item.exception if failed else item.result
        value = pack_result(value, self._queue.member, self._picklers)
        try:
            answer = item.work_id, not failed, value, item.exit_pid
            self._queue.put(answer, timeout=_ROOM_WITHIN)
        except Full:
            raise PoolFull(
                f"a result found no room in the pool for {_ROOM_WITHIN:.0f} s: results and "
                "arguments that are still referred to fill it. Drop results that are done with, "
                "submit less at a time (map has buffersize), or give the executor a larger pool"
            ) from None
        message, self._message = self._message, None
        if message is not None:
            message.task_done()

    def get(self, block: bool, timeout: float) -> Any:
        """Take an answer, or a wake-up (None), as the manager thread does."""
        return self._queue.get(block, timeout)

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


def _nobody(number: int, error: BaseException) -> None:
    raise AssertionError(f"call {number} was handed out by nobody") from error
