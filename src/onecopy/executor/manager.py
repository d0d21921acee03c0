"""The thread that hands out an executor's calls and takes the answers."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter, deque
from concurrent.futures import Future, InvalidStateError
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing import util
from traceback import format_exception
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakSet, ref

from onecopy._workers.remote import RemoteTraceback
from onecopy._workers.signals import start_without_signals, with_users_mask
from onecopy.errors import OneCopyError
from onecopy.executor.channels import NEEDS_ROOM, NOT_BEGUN

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from onecopy._workers.copies import Copies
    from onecopy._workers.processes import Processes
    from onecopy.executor.channels import Calls, Results, Task
    from onecopy.pool import Pool

    class Owner(Protocol):
        """What the thread uses of an `Executor`."""

        _shutdown_lock: threading.RLock
        _shutdown_thread: bool
        _cancel_pending_futures: bool
        _starts_on_demand: bool
        _broken: Any
        _idle: threading.Semaphore
        _pending_work_items: dict[int, Item]
        _work_ids: deque[int]
        _pool: Pool
        _copies: Copies
        _max_workers: int

        def _adjust_process_count(self) -> None: ...


__all__ = ["CallFuture", "Item", "Manager", "is_exiting"]

_T = TypeVar("_T")

_TRY_AGAIN = 0.5  # second after which a call that waits for room in the pool is tried again
_END_WITHIN = 5.0  # seconds that a worker has to end after SIGTERM
_TRIES = 3  # of a call whose workers died
_DEATHS = 10  # and three per worker, in a row, without one answer: then workers cannot live here

# In the standard library's words.
_NOT_USABLE = "A child process terminated abruptly, the process pool is not usable anymore"
_ABRUPTLY = (
    "A process in the process pool was terminated abruptly while the future was running or pending."
)

_FORCED = (
    "terminate_workers() or kill_workers() has forcefully shut down the executor before a worker "
    "took this call."
)


class CallFuture(Future[_T]):
    """The future of a call. Its callbacks cannot end the thread that takes the answers.

    A task of an event loop can await it: ``result = await executor.submit(fn)``.
    """

    def __await__(self) -> Generator[Any, Any, _T]:
        """Wait for the result, in a task of asyncio, uvloop or trio."""
        from onecopy._aio.futures import result_of

        return result_of(self).__await__()

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call a function with the future when the future is done.

        What it raises is reported and has no other effect, in the thread that takes the answers
        also `SystemExit` and `KeyboardInterrupt`.

        Raises
        ------
        TypeError
            `asyncio.wait` calls it, which takes only futures and tasks of asyncio.
        """
        # It would wait for ever: the function sets a future of asyncio in the thread that takes the
        # answers, and nothing wakes the loop. The standard library does not notice that.
        if getattr(fn, "__module__", None) == "asyncio.tasks":
            raise TypeError(
                "asyncio.wait() takes futures and tasks of asyncio, and this is a future of an "
                "executor. Write asyncio.wait([asyncio.wrap_future(future)]); or await the future, "
                "or pass it to asyncio.gather() or asyncio.as_completed()"
            )
        super().add_done_callback(partial(_call_back, fn))


def _call_back(function: Callable[[Future[Any]], object], future: Future[Any]) -> None:
    try:
        with with_users_mask():
            function(future)
    except Exception:
        raise  # which the future reports
    except BaseException:
        if not isinstance(threading.current_thread(), Manager):
            raise
        threading.excepthook(
            threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
        )


class Item:
    """A call that is not answered: its future, and what is sent."""

    __slots__ = ("future", "task")

    def __init__(self, future: Future[Any], task: Task) -> None:
        self.future: Future[Any] = future
        self.task: Task = task


class Manager(threading.Thread):
    """The thread of an executor. It alone hands out calls, takes answers, and looks after workers.

    It may replace workers that die, and hand out again the calls that these had taken. It does not
    keep the executor: when that is collected, it ends after the last call.

    Parameters
    ----------
    executor : Executor
        Whose calls they are.
    calls, results
        The mailboxes.
    workers : Processes
        The workers; `ring` wakes the thread.
    restart : bool
        Whether a worker that dies is replaced.
    """

    def __init__(
        self, executor: Owner, calls: Calls, results: Results, workers: Processes, restart: bool
    ) -> None:
        super().__init__(name="onecopy-executor", daemon=True)
        self._rung = False
        self._workers = workers
        self._executor = ref(executor, lambda _: self.wake())
        self._lock = executor._shutdown_lock
        self._calls = calls
        self._results = results
        self._pending: dict[int, Item] = executor._pending_work_items
        self._numbers: deque[int] = executor._work_ids
        self._pool = executor._pool
        self._copies = executor._copies
        self._restart = restart
        self._may_start = True  # workers
        self._most_workers = executor._max_workers
        self._deaths = 0  # in a row
        self._one_has_died = False
        self._tries: Counter[int] = Counter()
        self._not_begun: str | None = None  # what an initializer raised, last
        calls.refuse = self._refuse
        calls.more_wait = lambda: bool(self._numbers)
        calls.hold_back = partial(setattr, self._copies, "hold_back")
        calls.workers = lambda: len(workers.running)

    def begin(self) -> None:
        """Start the thread, with all signals blocked."""
        _at_exit.include(self)
        start_without_signals(self)

    def wake(self) -> None:
        """Wake the thread to check for work. Signal handlers and finalizers may call this."""
        if not self._rung:
            self._rung = True
            self._workers.ring()

    def run(self) -> None:
        """Work until the executor is shut down, or gone, and all calls are answered."""
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - it would be lost
            self._give_up(error)
        finally:
            self._calls.close()  # which forgets this thread, and with it the processes
            self._results.close()
            if self._one_has_died:
                with suppress(OneCopyError):  # closed meanwhile
                    self._pool.member.collect()
            self._workers.disband()

    def _work(self) -> None:
        while True:
            self._replace_those_that_left()
            self._hand_out()
            if not self._take_answer():
                if self._pending and not (self._may_start or self._workers.running):
                    self._break_down([], _FORCED)
                    return
                why = self._see_to(self._wait())
                if why is not None:
                    self._break_down(why)
                    return
            if self._is_shutting_down():
                self._cancel_if_asked()
                self._hand_out()  # which drops those that were cancelled
                if not self._pending:
                    self._end_workers()
                    return

    def _wait(self) -> list[Any]:
        """Sleep until there is something to do; return the workers that have ended."""
        timeout = _TRY_AGAIN if self._calls.wait_for_room else None
        ended: list[Any] = self._results.wait(partial(self._workers.wait, timeout))
        self._rung = False  # before anything is looked at
        return ended

    def _is_shutting_down(self) -> bool:
        executor = self._executor()
        return is_exiting() or executor is None or executor._shutdown_thread

    # -------------------------------------------------------------------------------------- calls

    def _hand_out(self) -> None:
        """Hand out calls, as many as should lie ready."""
        while not self._calls.full():
            try:
                number = self._numbers.popleft()
            except IndexError:
                return
            item = self._pending.get(number)
            if item is None:
                continue
            if item.future.set_running_or_notify_cancel():
                self._calls.hand_out(number, item.task)
            else:
                del self._pending[number]

    def _cancel_if_asked(self) -> None:
        """Cancel calls, if `shutdown` was asked to, and drop what they had in the pool."""
        executor = self._executor()
        if executor is None or not executor._cancel_pending_futures:
            return
        executor._cancel_pending_futures = False
        del executor
        self._numbers.clear()
        for number, item in list(self._pending.items()):
            if item.future.cancel():
                self._pending.pop(number, None)
                item.task.forget()

    def _take_answer(self) -> bool:
        """Take an answer; False: there is none."""
        answer = self._results.take(expected=self._calls.are_out())
        if answer is None:
            return False
        number, done, value, leaves = answer
        if number == NEEDS_ROOM[0]:
            self._copies.clear()
        elif number == NOT_BEGUN:
            self._not_begun = value
        else:
            self._calls.answered(number)
            if done is None:
                self._again(number)
            else:
                self._deaths, self._not_begun = 0, None
                self._tries.pop(number, None)
                self.process_result_item(number, done, value)
                self._one_is_free(leaves)
        return True

    def process_result_item(self, number: int, done: bool, value: Any) -> None:
        """Give a call's future its result, or its error."""
        item = self._pending.pop(number, None)
        if item is None:  # answered before, by a worker that died then
            return
        if done:
            item.future.set_result(value)
        else:
            item.future.set_exception(value)

    def _again(self, number: int) -> None:
        """Hand out again a call that a dead worker had taken, unless it has killed several."""
        item = self._pending.get(number)
        if item is None:  # it was answered before the worker died
            return
        self._tries[number] += 1
        if self._tries[number] < _TRIES:
            self._calls.hand_out(number, item.task)
            return
        self._deaths = 0  # it was this call, not the workers
        self._refuse(
            number,
            BrokenProcessPool(
                f"{_TRIES} workers died in this call, one after the other; it is not tried again"
            ),
        )

    def _refuse(self, number: int, error: BaseException) -> None:
        """Answer a call that no worker will answer."""
        self._tries.pop(number, None)
        item = self._pending.pop(number, None)
        if item is not None:
            item.future.set_exception(error)

    # ------------------------------------------------------------------------------------ workers

    def _one_is_free(self, leaves: int | None) -> None:
        """Handle a worker that has answered: it waits for a call, or has run its share of calls."""
        if leaves is not None:
            process = self._workers.running.pop(leaves, None)
            if process is not None:
                process.join()
        executor = self._executor()
        if executor is None:
            return
        if leaves is not None:
            with self._lock:
                if self._may_start:
                    executor._adjust_process_count()
        elif executor._starts_on_demand:
            executor._idle.release()

    def _replace_those_that_left(self) -> None:
        """Start workers in place of those that had their share of calls, if nothing else does.

        As long as the executor is there and takes calls, `submit` and the end of each worker start
        those that are missing.
        """
        executor = self._executor()
        on_its_own = executor is None or executor._shutdown_thread
        del executor
        waiting = len(self._pending)
        wanted = min(self._most_workers if on_its_own else 1, waiting)
        self._start_up_to(wanted)

    def _start_up_to(self, wanted: int) -> None:
        """Start workers until there are as many. `submit` may start some at the same time."""
        while len(self._workers.running) < wanted:
            with self._lock:
                if not self._may_start:
                    return
                if len(self._workers.running) < wanted:
                    self._workers.start_one()

    def stop_starting(self) -> None:
        """Start no worker any more, and treat the next death of one as the requested end.

        The caller has the lock.
        """
        self._restart = self._may_start = False

    def _see_to(self, ended: list[Any]) -> list[str] | None:
        """Handle workers that have ended; the returned list says why all workers must end."""
        # A worker's answers come before its death: they are in the queue now.
        while ended and self._take_answer():
            pass
        for process in ended:
            why = self._process_ended(process)
            if why is not None:
                return why
        return None

    def _process_ended(self, process: Any) -> list[str] | None:
        if process not in self._workers.running.values():
            return None  # it left in order
        self._one_has_died = True
        if not self._restart:
            process.join()
            code = process.exitcode
            return [f"Process {process.pid} terminated abruptly with exit code {code}"]
        wanted = len(self._workers.running)
        del self._workers.running[process.pid]
        process.join()
        self._deaths += 1
        if self._deaths > _DEATHS + 3 * self._most_workers:
            why = (
                f"{self._deaths} workers died one after the other, and none of them finished a "
                f"call (the last one: exit code {process.exitcode}): look at what the calls and "
                "the initializer do, and at the machine's memory"
            )
            return [why]
        self._pool.member.collect()  # which gives back the call that it had taken
        try:
            self._start_up_to(wanted)
        except Exception as error:  # noqa: BLE001 - no memory, no process number, no descriptor
            return ["a worker died and cannot be replaced: ", *format_exception(error)]
        self._calls.wake_workers()
        return None

    # ------------------------------------------------------------------------------------ the end

    def _end_workers(self) -> None:
        """End the workers, which have no work left, and wait for them."""
        self._calls.end()
        for process in list(self._workers.running.values()):
            process.join()

    def _break_down(self, cause: list[str], text: str = _ABRUPTLY) -> None:
        """Make all calls fail, each with an error of its own, and end all workers."""
        if self._is_shutting_down():
            self._cancel_if_asked()  # what is to be cancelled is cancelled, not broken
        self._mark_broken(_NOT_USABLE)
        if self._not_begun is not None:
            text = f"the initializer of a worker raised {self._not_begun.splitlines()[-1]}"
            cause = [self._not_begun, *cause]
        self._fail_all(text, "".join(cause))
        for process in list(self._workers.running.values()):
            process.terminate()
        self._end_workers()

    def _give_up(self, error: BaseException) -> None:
        """End all of it after an unexpected error: no call may wait for ever."""
        why = f"the executor broke down: {error!r}"
        self._mark_broken(why)
        self._fail_all(why, error)
        for process in list(self._workers.running.values()):
            process.terminate()
        for process in list(self._workers.running.values()):
            process.join(_END_WITHIN)
            if process.is_alive():  # it ignores SIGTERM
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                process.join()

    def _mark_broken(self, why: str) -> None:
        executor = self._executor()
        if executor is not None:
            executor._broken = why
            executor._shutdown_thread = True

    def _fail_all(self, text: str, cause: str | BaseException) -> None:
        """Fail each call that is left.

        One error for all would gather the tracebacks of all threads that ask for a result, and
        keep what their frames hold. No lock is held: callbacks of futures may use the executor.
        """
        items = list(self._pending.values())
        self._pending.clear()
        for item in items:
            why = BrokenProcessPool(text)
            if isinstance(cause, str):
                if cause:
                    why.__cause__ = RemoteTraceback(f"\n'''\n{cause}'''")
            else:
                why.__cause__ = cause
            with suppress(InvalidStateError):  # cancelled, or done
                item.future.set_exception(why)


class _AtExit:
    """Ends the executors of this process when it ends, before it leaves its pools."""

    def __init__(self) -> None:
        self.exiting = False
        self._managers: WeakSet[Manager] = WeakSet()
        self._registered = False

    def include(self, manager: Manager) -> None:
        """End this one, too."""
        if not self._registered:
            self._registered = True
            # Before multiprocessing waits for its children, in the main program and in children.
            util.Finalize(None, self._end_all, exitpriority=100)
        self._managers.add(manager)

    def _end_all(self) -> None:
        self.exiting = True
        managers = list(self._managers)
        for manager in managers:
            manager.wake()
        for manager in managers:
            manager.join()

    def forget(self) -> None:
        """Forget all, in a forked child: they are its parent's."""
        self.__init__()  # type: ignore[misc]  # as new


_at_exit = _AtExit()
os.register_at_fork(after_in_child=_at_exit.forget)


def is_exiting() -> bool:
    """Tell whether this process is ending, so that no more calls are taken."""
    return _at_exit.exiting
