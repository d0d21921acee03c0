"""The three threads of a pool of workers: one keeps workers, one hands out, one takes results.

They have no reference to the pool's own object, so dropping that ends them. All that one call may
do (its callbacks, the iterable that its tasks come from, what its result takes to be rebuilt) is
caught here, and concerns that call. What they end of is a pool that cannot work: then every call
that is left fails with the reason, and every later one.

Only the thread that takes results decides that workers cannot begin. It learns in one order, from
one queue, which workers have begun and which have ended.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from multiprocessing import pool as standard
from multiprocessing import util
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from onecopy.errors import Closed, OneCopyError
from onecopy.multiprocessing._pool_errors import NO_MAIN_GUARD, PoolTerminated
from onecopy.multiprocessing._pool_queues import BEGAN, ENDED, FAILED, work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from onecopy.multiprocessing._pool_queues import Outstanding, Results, Tasks
    from onecopy.multiprocessing._pool_results import Feed

__all__ = ["UNGUARDED", "Cache", "Core", "Sequence", "terminate", "terminated"]

UNGUARDED = 78  # the exit code of a worker whose main module makes the pool when it is imported
_MORE_TRIES = 3  # workers in a row that may fail to begin, beyond one for each of the pool's
_PATIENCE = 5.0  # seconds for an iterable of the user's to give its next item when the pool ends


class Cache(dict[int, Any]):
    """The calls that are not answered, by the numbers of their jobs."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def tell_if_empty(self) -> None:
        """Wake the thread that keeps workers, which may be waiting for the last call."""
        if not self:
            self._tell()

    def __delitem__(self, job: int) -> None:
        super().__delitem__(job)
        self.tell_if_empty()


class Sequence:
    """Tasks of one call, to be handed out.

    Parameters
    ----------
    call
        Its result, or its feed, which has `_set` and `_fail`.
    job : int
        Its number.
    function : callable
        What workers call.
    items : iterable of tuple
        The arguments of each task.
    kwargs : dict
        Keyword arguments of all.
    feed : Feed, optional
        How far the tasks may be read ahead.
    """

    def __init__(
        self,
        call: Any,
        job: int,
        function: Any,
        items: Iterable[tuple[Any, ...]],
        kwargs: Any,
        feed: Feed | None = None,
    ) -> None:
        self.call = call
        self.job = job
        self.function = function
        self.items: Iterator[tuple[Any, ...]] = iter(items)
        self.kwargs = kwargs
        self.feed = feed
        self.index = 0


class Core:
    """What the threads of a pool share, and the pool has too.

    Attributes
    ----------
    why : BaseException or None
        Why the pool cannot work any more.
    """

    def __init__(
        self,
        context: Any,
        make_process: Callable[..., Any],
        count: int,
        workers: list[Any],
        tasks: Tasks,
        results: Results,
        outstanding: Outstanding,
        notifier: Any,
        arguments: tuple[Any, ...],
    ) -> None:
        self.context = context
        self.make_process = make_process
        self.count = count
        self.workers = workers
        self.tasks = tasks
        self.results = results
        self.outstanding = outstanding
        self.notifier = notifier
        self.arguments = arguments  # of `work`
        self.taskqueue: Any = SimpleQueue()
        self.cache = Cache(self.wake)
        self.why: BaseException | None = None
        self.reading = False  # an iterable of the user's is asked for the next item
        self.terminated = False  # `terminate` has come to its end
        self._begun: set[int] = set()
        self._untold: list[tuple[int, int | None]] = []  # ends that nobody has been told of
        # Ends that were told, and those of them that were looked at; each is changed by one thread.
        self._told = self._heard = 0
        self._failures = 0  # workers in a row that ended before they were ready
        self._last_error: BaseException | None = None  # of an initializer
        self.keeping = self._thread(_keep_workers)
        self.handing_out = self._thread(_hand_out)
        self.taking = self._thread(_take_results)

    def _thread(self, target: Callable[[Core, Any], None]) -> Any:
        thread: Any = threading.Thread(target=target, daemon=True)
        thread._args = (self, thread)
        thread._state = standard.RUN
        return thread

    def wake(self) -> None:
        """Wake the thread that keeps workers."""
        self.notifier.put(None)

    # ----------------------------------------------------------------------------------- workers

    def populate(self) -> None:
        """Start the workers that are missing."""
        for _ in range(self.count - len(self.workers)):
            worker = self.make_process(self.context, target=work, args=self.arguments)
            worker.name = worker.name.replace("Process", "PoolWorker")
            worker.daemon = True
            worker.start()
            self.workers.append(worker)

    def maintain(self) -> None:
        """Replace workers that have ended, unless none can begin."""
        for i in reversed(range(len(self.workers))):
            worker = self.workers[i]
            if worker.exitcode is not None:
                worker.join()
                self._untold.append((worker.pid, worker.exitcode))
                del self.workers[i]
        with suppress(OneCopyError):  # no room, or closed: at the next opportunity
            while self._untold:
                self.results.tell_ended(*self._untold[0])
                del self._untold[0]
                self._told += 1
        if self.why is not None or self._told - self._heard > self._most_failures():
            return
        try:
            self.populate()
        except Exception as error:  # noqa: BLE001 - no memory, no process number, no descriptor
            if not self.workers:
                self.break_down(error)

    def _most_failures(self) -> int:
        return self.count + _MORE_TRIES

    def hear(self, about: int, pid: int, content: Any) -> None:
        """Take note of what was said about a worker."""
        if about == BEGAN:
            self._begun.add(pid)
            self._failures, self._last_error = 0, None
        elif about == FAILED:
            self._last_error = content[1]
        else:
            self._heard += 1
            if pid in self._begun:
                self._begun.discard(pid)
            else:
                self._failed_to_begin(content)
            self.wake()

    def _failed_to_begin(self, exitcode: int) -> None:
        self._failures += 1
        if exitcode == UNGUARDED:
            self.break_down(RuntimeError(NO_MAIN_GUARD))
        elif self._failures >= self._most_failures():
            error = self._last_error
            if error is None:
                error = RuntimeError(
                    f"{self._failures} workers in a row ended before they were ready for tasks "
                    f"(the last one with exit code {exitcode}); no more are started. What they "
                    "wrote to stderr says why. Likely causes: the main module, which they import, "
                    "raises or ends there; an initializer ends the process; there is no memory"
                )
            self.break_down(error)

    def break_down(self, why: BaseException) -> None:
        """Have all calls fail, and all that come later."""
        why = why.with_traceback(None)
        why.__context__ = None
        self.why = why
        self.tasks.stop_waiting()
        self.fail_all(why)
        self.wake()

    def fail_all(self, why: BaseException, *, call: bool = True) -> None:
        """Have all calls that are left fail."""
        for each in list(self.cache.values()):
            each._fail(why, call=call)

    # ------------------------------------------------------------------------------------ the end

    def join(self) -> None:
        """Wait for the threads and the workers."""
        for thread in (self.keeping, self.handing_out, self.taking):
            if thread is not self.handing_out or not self.is_stuck():
                thread.join()
        for worker in self.workers:
            worker.join()

    def is_stuck(self) -> bool:
        """Tell whether the pool was terminated while an iterable of the user's does not go on."""
        return self.terminated and self.reading


def _keep_workers(core: Core, thread: Any) -> None:
    """Keep as many workers as there should be, until the pool is closed and all calls answered."""
    running, terminate = standard.RUN, standard.TERMINATE
    while thread._state == running or (core.cache and thread._state != terminate):
        core.maintain()
        _wait_for_news(core)
    core.taskqueue.put(None)


def _wait_for_news(core: Core) -> None:
    sentinels = [worker.sentinel for worker in core.workers if hasattr(worker, "sentinel")]
    standard.wait([*sentinels, core.notifier._reader])  # type: ignore[attr-defined]  # undocumented
    while not core.notifier.empty():
        core.notifier.get()


def _hand_out(core: Core, thread: Any) -> None:
    """Hand out tasks, call by call, until there are none."""
    while True:
        sequence = core.taskqueue.get()
        if sequence is None or not _hand_out_sequence(core, thread, sequence):
            break
        del sequence
    with suppress(OSError, OneCopyError):
        core.results.put(None)
        for _ in core.workers:
            core.tasks.put(None)


def _hand_out_sequence(core: Core, thread: Any, sequence: Sequence) -> bool:
    """Hand out a call's tasks, all or as far as it is read ahead; False: the pool is terminated."""
    feed = sequence.feed
    while True:
        if thread._state != standard.RUN:
            return False
        if core.why is not None:
            return True  # the call has failed
        if feed is not None and not feed.may_read(sequence):
            return True
        core.reading = True
        try:
            arguments = next(sequence.items)
        except StopIteration:
            if feed is not None:
                feed.set_length(sequence.index)
            return True
        except BaseException as error:  # noqa: BLE001 - it is the user's
            if feed is None:
                sequence.call._fail(error)
            else:
                feed.set_length(sequence.index, error)
            return True
        finally:
            core.reading = False
        job, i = sequence.job, sequence.index
        sequence.index += 1
        try:
            core.tasks.put((job, i, sequence.function, arguments, sequence.kwargs))
        except Exception as error:  # noqa: BLE001 - pickling runs anybody's code
            call = core.cache.get(job)
            if call is not None:
                call._set(i, (False, error))
        del arguments


def _take_results(core: Core, thread: Any) -> None:
    """Take results, until the pool is closed and all calls are answered, or it is terminated."""
    closed = False
    while not closed or core.cache:
        try:
            result = core.results.get()
        except Closed:
            return
        except BaseException as error:  # noqa: BLE001 - and no result of one call
            core.break_down(error)
            return
        if thread._state != standard.RUN:
            return
        if result is None:
            closed = True
            continue
        job, i, outcome = result
        if job in (BEGAN, ENDED, FAILED):
            core.hear(job, i, outcome)
            continue
        if job is None:
            job, i = core.outstanding.task_at(i)
        if core.outstanding.arrived(job, i):
            call = core.cache.get(job)
            if call is not None:
                call._set(i, outcome)
            del call
        del result, outcome


def terminate(core: Core) -> None:
    """End the threads and the workers at once; calls that are left fail.

    It may be called again, by a signal handler, while it is at work: each step may be done twice.
    """
    this = threading.current_thread()
    for thread in (core.keeping, core.handing_out):
        thread._state = standard.TERMINATE
    core.wake()
    core.taskqueue.put(None)
    if this is not core.handing_out:
        _end_handing_out(core)
    core.taking._state = standard.TERMINATE
    core.wake()
    core.results.put(None)
    if this is not core.keeping:
        core.keeping.join()  # so that no worker is replaced meanwhile
    for worker in core.workers:
        if hasattr(worker, "terminate") and worker.exitcode is None:
            worker.terminate()
    if this is not core.taking:
        core.taking.join()
    core.terminated = True
    if not util.is_exiting():  # daemon threads that wait for a result end with the interpreter
        core.fail_all(terminated(), call=False)
    for worker in core.workers:
        if hasattr(worker, "terminate") and worker.is_alive():
            worker.join()


def terminated() -> PoolTerminated:
    """Make the error of a call that is not done when the pool is terminated."""
    return PoolTerminated("the pool was terminated before this call was done")


def _end_handing_out(core: Core) -> None:
    """Empty the task queue, so that the thread that fills it comes to its end.

    It does not if an iterable of the user's does not give its next item; perhaps it waits for this
    very thread. Then the thread is left, and ends when the iterable goes on.
    """
    thread = core.handing_out
    core.tasks.drain_while(lambda: thread.is_alive() and not core.reading)
    if thread.is_alive():
        thread.join(_PATIENCE)
    core.tasks.drain_while(lambda: thread.is_alive() and not core.reading)
