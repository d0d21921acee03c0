"""The three threads of a pool of workers: one keeps workers, one hands out, one takes results.

They have no reference to the pool's own object, so dropping that ends them. All that one call may
do (its callbacks, the iterable that its tasks come from, what its result takes to be rebuilt) is
caught here, and concerns that call. They end early only if the pool cannot work: then every call
that is left fails with the reason, and every later one.

Only the thread that takes results decides that workers cannot begin. It learns which workers have
begun and which have ended, and it reads what a worker has put before it hears of its end.
"""

from __future__ import annotations

import threading
from collections import deque
from multiprocessing import util
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from onecopy._workers.ends import Ends, exit_code
from onecopy._workers.processes import Processes
from onecopy._workers.signals import start_without_signals, with_users_mask
from onecopy.errors import Closed
from onecopy.multiprocessing._pool_errors import NO_MAIN_GUARD, PoolTerminated
from onecopy.multiprocessing._pool_queues import BEGAN, FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from onecopy.multiprocessing._pool_queues import Outstanding, Results, Tasks
    from onecopy.multiprocessing._pool_results import Feed

__all__ = [
    "CLOSE",
    "INIT",
    "RUN",
    "TERMINATE",
    "UNGUARDED",
    "Cache",
    "Core",
    "Sequence",
    "terminate",
    "terminated",
]

# The states of a pool and of its threads.
INIT, RUN, CLOSE, TERMINATE = "INIT", "RUN", "CLOSE", "TERMINATE"

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


class Worker(threading.Thread):
    """A thread of a pool, which ends when its state is not RUN any more."""

    def __init__(self, core: Core, target: Callable[[Core, Worker], None]) -> None:
        super().__init__(target=target, args=(core, self), daemon=True)
        self.state = RUN


class Core:
    """What the threads of a pool share, and the pool has too.

    Parameters
    ----------
    make_process : callable
        Makes a worker that is not started yet.
    count : int
        How many workers there should be.
    workers : list of Process
        Those that there are.
    tasks, results, outstanding
        What goes out, what comes back, and what is missing.

    Attributes
    ----------
    why : BaseException or None
        Why the pool cannot work any more.
    """

    def __init__(
        self,
        make_process: Callable[[], Any],
        count: int,
        workers: list[Any],
        tasks: Tasks,
        results: Results,
        outstanding: Outstanding,
    ) -> None:
        self.count = count
        self.workers = workers
        self.processes = Processes(make_process)
        self.tasks = tasks
        self.results = results
        self.outstanding = outstanding
        self.taskqueue: Any = SimpleQueue()
        self.cache = Cache(self.wake)
        self.why: BaseException | None = None
        self.reading = False  # an iterable of the user's is asked for the next item
        self.closed = False  # all tasks were handed out, and no more will come
        self.terminated = False  # `terminate` has come to its end
        self.news = Ends(results.bell)  # no process: what the thread that takes results waits for
        self._unwatched: deque[Any] = deque()  # workers that are new
        self._begun: set[int] = set()
        self._untold: deque[tuple[int, int | None]] = deque()  # ends, for the thread above
        # Ends that were seen, and those of them that were looked at; each is changed by one thread.
        self._told = self._heard = 0
        self._failures = 0  # workers in a row that ended before they were ready
        self._last_error: BaseException | None = None  # of an initializer
        self.keeping = Worker(self, _keep_workers)
        self.handing_out = Worker(self, _hand_out)
        self.taking = Worker(self, _take_results)

    def start(self) -> None:
        """Start the threads."""
        for thread in (self.keeping, self.handing_out, self.taking):
            start_without_signals(thread)

    def wake(self) -> None:
        """Wake the thread that keeps workers."""
        self.processes.ring()

    # ----------------------------------------------------------------------------------- workers

    def populate(self) -> None:
        """Start the workers that are missing."""
        for _ in range(self.count - len(self.workers)):
            worker = self.processes.start()
            self.workers.append(worker)
            self._unwatched.append(worker)

    def wait(self) -> list[Any]:
        """Wait until workers have ended, or there is something else to do."""
        while self._unwatched:
            self.processes.watch(self._unwatched.popleft())
        return self.processes.wait()

    def replace(self, ended: list[Any]) -> None:
        """Replace workers that have ended, unless none can begin."""
        for worker in ended:
            code = exit_code(worker)
            worker.join()
            self.workers.remove(worker)
            del self.processes.running[worker.pid]
            self._told += 1
            self._untold.append((worker.pid, code))
        if ended:
            self.tasks.take_back()
            self.news.ring()
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
        """Take note of what a worker said about itself."""
        if about == BEGAN:
            self._begun.add(pid)
            self._failures, self._last_error = 0, None
        else:
            self._last_error = content[1]

    def hear_of_ends(self, count: int) -> None:
        """Take note of so many workers that have ended."""
        for _ in range(count):
            pid, code = self._untold.popleft()
            self._heard += 1
            if pid in self._begun:
                self._begun.discard(pid)
            else:
                self._failed_to_begin(code)
            self.wake()

    @property
    def ends(self) -> int:
        """How many workers have ended that were not heard of."""
        return len(self._untold)

    def _failed_to_begin(self, exitcode: int | None) -> None:
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

    def close(self) -> None:
        """Watch nothing any more."""
        self.processes.disband()
        self.news.close()

    def is_stuck(self) -> bool:
        """Tell whether the pool was terminated while a user's iterable gives no next item."""
        return self.terminated and self.reading


def _keep_workers(core: Core, thread: Worker) -> None:
    """Keep as many workers as there should be, until the pool is closed and all calls answered."""
    ended: list[Any] = []
    while thread.state == RUN or (core.cache and thread.state != TERMINATE):
        core.replace(ended)
        ended = core.wait()
    core.taskqueue.put(None)


def _hand_out(core: Core, thread: Worker) -> None:
    """Hand out tasks, call by call, until there are none."""
    while True:
        sequence = core.taskqueue.get()
        if sequence is None or not _hand_out_sequence(core, thread, sequence):
            break
        del sequence
    core.closed = True
    core.news.ring()
    core.tasks.end()


def _hand_out_sequence(core: Core, thread: Worker, sequence: Sequence) -> bool:
    """Hand out a call's tasks, all or as far as it is read ahead; False: the pool is terminated."""
    if sequence.feed is None:
        return _hand_out_tasks(core, thread, sequence)
    with with_users_mask():  # an iterable of the user's may start processes
        return _hand_out_tasks(core, thread, sequence)


def _hand_out_tasks(core: Core, thread: Worker, sequence: Sequence) -> bool:
    feed = sequence.feed
    while True:
        if thread.state != RUN:
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


def _take_results(core: Core, thread: Worker) -> None:
    """Take results, until the pool is closed and all calls are answered, or it is terminated."""
    while not core.closed or core.cache:
        # What a worker has put comes before its end: it is in the queue by now.
        ends = core.ends
        try:
            while _take_result(core):
                if thread.state != RUN:
                    return
            core.hear_of_ends(ends)
            if thread.state == RUN and (core.cache or not core.closed) and not core.ends:
                core.results.wait(core.news.wait)
        except Closed:
            return
        except BaseException as error:  # noqa: BLE001 - and no result of one call
            core.break_down(error)
            return
        if thread.state != RUN:
            return


def _take_result(core: Core) -> bool:
    """Take a result, and give it to its call; False: there is none."""
    result = core.results.take()
    if result is None:
        return False
    job, i, outcome = result
    if job in (BEGAN, FAILED):
        core.hear(job, i, outcome)
        return True
    if job is None:
        job, i = core.outstanding.task_at(i)
    if core.outstanding.arrived(job, i):
        call = core.cache.get(job)
        if call is not None:
            call._set(i, outcome)
    return True


def terminate(core: Core) -> None:
    """End the threads and the workers at once; calls that are left fail.

    It may be called again, by a signal handler, while it is at work: each step may be done twice.
    """
    this = threading.current_thread()
    for thread in (core.keeping, core.handing_out):
        thread.state = TERMINATE
    core.wake()
    core.taskqueue.put(None)
    if this is not core.handing_out:
        _end_handing_out(core)
    core.taking.state = TERMINATE
    core.wake()
    core.news.ring()
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
    very thread. Then the thread is left. It ends when the iterable gives its next item.
    """
    thread = core.handing_out
    core.tasks.drain_while(lambda: thread.is_alive() and not core.reading)
    if thread.is_alive():
        thread.join(_PATIENCE)
    core.tasks.drain_while(lambda: thread.is_alive() and not core.reading)
