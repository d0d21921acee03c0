"""The thread that hands out an executor's calls and takes the answers."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import process as standard
from contextlib import suppress
from queue import Empty
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from onecopy.executor.channels import Calls, Results
    from onecopy.executor.crew import Crew
    from onecopy.executor.executor import Executor

__all__ = ["Manager"]

_LOOK_EVERY = 0.5  # second in which it looks around though nobody woke it: a full pool has no room
# for a wake-up
_TRIES = 3  # of a call whose workers died
_DEATHS_PER_WORKER = 3  # in a row, without one answer: then workers cannot live here


class Manager(standard._ExecutorManagerThread):
    """The standard library's manager thread, which waits at a queue in shared memory instead.

    It may replace workers that die, and hand out anew what they had in hand.
    """

    call_queue: Calls  # type: ignore[assignment]  # not the standard library's
    result_queue: Results  # type: ignore[assignment]
    processes: Any

    def __init__(self, executor: Executor, crew: Crew, restart: bool) -> None:
        super().__init__(executor)
        self.name = "onecopy-executor"
        self._crew = crew
        self._pool = executor._pool
        self._restart = restart
        self._deaths = 0
        self._most_deaths = _DEATHS_PER_WORKER * executor._max_workers
        self._tries: Counter[int] = Counter()
        self.call_queue.refuse = self._refuse

    def run(self) -> None:
        """Work until the executor is shut down, or gone, and all calls are answered."""
        calls, results = self.call_queue, self.result_queue
        try:
            super().run()
        finally:
            calls.close()  # which forgets this thread, and with it the processes
            results.close()
            if self._crew.gone:
                with suppress(OneCopyError):  # closed meanwhile
                    self._pool.member.collect()
            self._crew.disband()

    def wait_result_broken_or_wakeup(self) -> tuple[Any, bool, Any]:
        """Take an answer, or find that there is something else to do, or that a worker has died."""
        gone = self._crew.gone
        while True:
            try:
                # What a worker has answered comes before its death.
                answer = self.result_queue.get(not gone, _LOOK_EVERY)
            except Empty:
                if gone:
                    broken = self._process_ended(gone.popleft())
                    return None, broken is not None, broken or None
                answer = None
            except BaseException as error:  # noqa: BLE001 - rebuilding runs anybody's code
                return None, True, format_exception(error)
            if answer is None:
                self.thread_wakeup.clear()
                if gone:
                    continue
                return None, False, None
            if isinstance(answer, int):  # who leaves says so, in some releases
                return answer, False, None
            number, done, value, leaves = answer
            self.call_queue.answered(number)
            if done is None:
                self._again(number)
                continue
            self._deaths = 0
            self._tries.pop(number, None)
            if done:
                item = standard._ResultItem(number, result=value, exit_pid=leaves)
            else:
                item = standard._ResultItem(number, exception=value, exit_pid=leaves)
            return item, False, None

    def _process_ended(self, process: Any) -> list[str] | None:
        """See to a worker that is no more; what is returned says why all have to go."""
        if self.processes.get(process.pid) is not process:
            return None  # it left in order
        if not self._restart:
            return []
        del self.processes[process.pid]
        process.join()
        self._deaths += 1
        if self._deaths > self._most_deaths:
            why = (
                f"{self._deaths} workers died one after the other, and none of them finished a "
                f"call (the last one: exit code {process.exitcode}): look at what the calls and "
                "the initializer do, and at the machine's memory"
            )
            return [why]
        self._pool.member.collect()  # what it had in hand is given back now
        with self.shutdown_lock:
            self._crew.start_one()
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
        del self._tries[number]
        self._refuse(
            number,
            standard.BrokenProcessPool(
                f"{_TRIES} workers died in this call, one after the other; it is not tried again"
            ),
        )

    def _refuse(self, number: int, error: BaseException) -> None:
        """Answer a call that no worker will."""
        item = self.pending_work_items.pop(number, None)
        if item is not None:
            item.future.set_exception(error)
