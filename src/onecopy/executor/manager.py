"""The thread that hands out an executor's calls and takes the answers."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import process as standard
from contextlib import suppress
from functools import partial
from queue import Empty
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from onecopy.errors import OneCopyError
from onecopy.executor.channels import NEEDS_ROOM, NOT_BEGUN

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy.executor.channels import Calls, Results
    from onecopy.executor.executor import Executor
    from onecopy.executor.worker_set import WorkerSet

__all__ = ["CallFuture", "Manager", "forget"]

_LOOK_EVERY = 0.5  # second in which it looks around though nobody woke it: a full pool has no room
# for a wake-up
_END_WITHIN = 5.0  # seconds that a worker has to end after SIGTERM
_TRIES = 3  # of a call whose workers died
_DEATHS = 10  # and three per worker, in a row, without one answer: then workers cannot live here

# In the standard library's words.
_NOT_USABLE = "A child process terminated abruptly, the process pool is not usable anymore"
_ABRUPTLY = (
    "A process in the process pool was terminated abruptly while the future was running or pending."
)


class CallFuture(Future[Any]):
    """The future of a call, whose callbacks cannot end the thread that takes the answers."""

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Have a function called with the future when it is done.

        What it raises is reported and has no other effect, in the thread that takes the answers
        also `SystemExit` and `KeyboardInterrupt`.
        """
        super().add_done_callback(partial(_call_back, fn))


def _call_back(function: Callable[[Future[Any]], object], future: Future[Any]) -> None:
    try:
        function(future)
    except Exception:
        raise  # which the future reports
    except BaseException:
        if not isinstance(threading.current_thread(), Manager):
            raise
        threading.excepthook(
            threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
        )


class Manager(standard._ExecutorManagerThread):
    """The standard library's manager thread, which waits at a queue in shared memory instead.

    It may replace workers that die, and hand out anew what they had in hand.
    """

    call_queue: Calls  # type: ignore[assignment]  # not the standard library's
    result_queue: Results  # type: ignore[assignment]
    processes: Any

    def __init__(self, executor: Executor, workers: WorkerSet, restart: bool) -> None:
        super().__init__(executor)
        self.name = "onecopy-executor"
        self._workers = workers
        self._pool = executor._pool
        self._copies = executor._copies
        self._restart = restart
        self._most_workers = executor._max_workers
        self._deaths = 0  # in a row
        self._one_has_died = False
        self._tries: Counter[int] = Counter()
        self._not_begun: str | None = None  # what an initializer raised, last
        self.call_queue.refuse = self._refuse
        self.call_queue.more_wait = lambda: not self.work_ids_queue.empty()
        self.call_queue.hold_back = partial(setattr, self._copies, "hold_back")

    def run(self) -> None:
        """Work until the executor is shut down, or gone, and all calls are answered."""
        calls, results = self.call_queue, self.result_queue
        try:
            super().run()
        except BaseException as error:  # noqa: BLE001 - nobody else would hear of it
            self._give_up(error)
        finally:
            calls.let_go()  # which forgets this thread, and with it the processes
            results.close()
            if self._one_has_died:
                with suppress(OneCopyError):  # closed meanwhile
                    self._pool.member.collect()
            self._workers.disband()

    def wait_result_broken_or_wakeup(self) -> tuple[Any, bool, Any]:
        """Take an answer, or find that there is something else to do, or that a worker has died."""
        self._replace_those_that_left()
        while True:
            # What a worker has answered comes before its death: it is in the queue by then.
            one_is_gone = bool(self._workers.gone)
            try:
                answer = self.result_queue.get(not one_is_gone, _LOOK_EVERY)
            except Empty:
                answer = None
            except BaseException as error:  # noqa: BLE001 - rebuilding runs anybody's code
                return None, True, format_exception(error)
            else:
                if answer is None:
                    self.thread_wakeup.clear()
                    if self._workers.gone:
                        continue
                    return None, False, None
                item = self._item_of(answer)
                if item is None:
                    continue
                return item, False, None
            if not one_is_gone:
                self.thread_wakeup.clear()
                return None, False, None
            broken = self._process_ended(self._workers.gone.popleft())
            return None, broken is not None, broken or None

    def _replace_those_that_left(self) -> None:
        """Start workers in place of such as had their share of calls, where nobody else does.

        As long as the executor is there and takes calls, `submit` and the end of each worker start
        those that are missing.
        """
        executor = self.executor_reference()
        on_its_own = executor is None or executor._shutdown_thread
        del executor
        waiting = len(self.pending_work_items)
        wanted = min(self._most_workers if on_its_own else 1, waiting)
        while len(self.processes) < wanted:
            with self.shutdown_lock:
                self._workers.start_one()

    def _item_of(self, answer: Any) -> Any:
        """Turn an answer into the standard library's; None: that is none."""
        if isinstance(answer, int):  # who leaves says so, in some releases
            return answer
        number, done, value, leaves = answer
        if number == NEEDS_ROOM[0]:
            self._copies.clear()
            return None
        if number == NOT_BEGUN:
            self._not_begun = value
            return None
        self.call_queue.answered(number)
        if done is None:
            self._again(number)
            return None
        self._deaths, self._not_begun = 0, None
        self._tries.pop(number, None)
        if done:
            return standard._ResultItem(number, result=value, exit_pid=leaves)
        return standard._ResultItem(number, exception=value, exit_pid=leaves)

    def flag_executor_shutting_down(self) -> None:
        """Cancel calls, if that was asked for, and let go of what they had in the pool."""
        executor = self.executor_reference()
        if executor is None or not executor._cancel_pending_futures:
            super().flag_executor_shutting_down()
            return
        items = list(self.pending_work_items.values())
        super().flag_executor_shutting_down()
        executor._pending_work_items = self.pending_work_items  # exchanged for a new one there
        for item in items:
            if item.future.cancelled():
                forget(item)

    def terminate_broken(self, cause: Any) -> None:
        """Have all calls fail, each with an error of its own, and end all workers."""
        if self.is_shutting_down():
            self.flag_executor_shutting_down()  # what is to be cancelled is cancelled, not broken
        executor = self.executor_reference()
        if executor is not None:
            executor._broken = _NOT_USABLE
            executor._shutdown_thread = True
            del executor
        text = _ABRUPTLY
        if self._not_begun is not None:
            text = f"the initializer of a worker raised {self._not_begun.splitlines()[-1]}"
            cause = [self._not_begun, *(cause or ())]
        self._fail_all(text, None if cause is None else "".join(cause))
        super().terminate_broken(cause)

    def _fail_all(self, text: str, cause: str | BaseException | None) -> None:
        """Fail each call that is left.

        One error for all would gather the tracebacks of all who ask for a result, and keep what
        their frames hold. No lock is held: callbacks of futures may use the executor.
        """
        self._drop_cancelled()
        for item in list(self.pending_work_items.values()):
            why = standard.BrokenProcessPool(text)
            if isinstance(cause, str):
                remote: Any = standard._RemoteTraceback
                why.__cause__ = remote(f"\n'''\n{cause}'''")
            else:
                why.__cause__ = cause
            with suppress(InvalidStateError):  # cancelled, or done
                item.future.set_exception(why)
        self.pending_work_items.clear()

    def _drop_cancelled(self) -> None:
        # Early releases stumble over them.
        for number, item in list(self.pending_work_items.items()):
            if item.future.cancelled():
                self.pending_work_items.pop(number, None)

    def _give_up(self, error: BaseException) -> None:
        """End all of it after an error that nobody has thought of: no call may wait for ever."""
        why = f"the executor broke down: {error!r}"
        executor = self.executor_reference()
        if executor is not None:
            executor._broken = why
            executor._shutdown_thread = True
            del executor
        self._fail_all(why, error)
        for process in list(self.processes.values()):
            process.terminate()
        for process in list(self.processes.values()):
            process.join(_END_WITHIN)
            if process.is_alive():  # deaf to SIGTERM
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                process.join()
        with self.shutdown_lock:
            self.thread_wakeup.close()

    def stop_restarting(self) -> None:
        """Take the next death of a worker for the end: it is asked for."""
        self._restart = False

    def _process_ended(self, process: Any) -> list[str] | None:
        """See to a worker that is no more; what is returned says why all have to go."""
        if self.processes.get(process.pid) is not process:
            return None  # it left in order
        self._one_has_died = True
        if not self._restart:
            return []
        del self.processes[process.pid]
        process.join()
        self._deaths += 1
        if self._deaths > _DEATHS + 3 * self._most_workers:
            why = (
                f"{self._deaths} workers died one after the other, and none of them finished a "
                f"call (the last one: exit code {process.exitcode}): look at what the calls and "
                "the initializer do, and at the machine's memory"
            )
            return [why]
        self._pool.member.collect()  # what it had in hand is given back now
        try:
            with self.shutdown_lock:
                self._workers.start_one()
        except Exception as error:  # noqa: BLE001 - no memory, no process number, no descriptor
            return ["a worker died and cannot be replaced: ", *format_exception(error)]
        return None

    def _again(self, number: int) -> None:
        """Hand out a call anew that a dead worker had in hand, unless it has killed enough."""
        item = self.pending_work_items.get(number)
        if item is None:  # it was answered before the worker died
            return
        self._tries[number] += 1
        if self._tries[number] < _TRIES:
            task: Any = item.fn
            self.call_queue.again(number, task)
            return
        self._deaths = 0  # it was this call, not the workers
        self._refuse(
            number,
            standard.BrokenProcessPool(
                f"{_TRIES} workers died in this call, one after the other; it is not tried again"
            ),
        )

    def _refuse(self, number: int, error: BaseException) -> None:
        """Answer a call that no worker will."""
        self._tries.pop(number, None)
        item = self.pending_work_items.pop(number, None)
        if item is not None:
            item.future.set_exception(error)


def forget(item: Any) -> None:
    """Let go of what a call that nobody waits for has in the pool."""
    item.fn.forget()
