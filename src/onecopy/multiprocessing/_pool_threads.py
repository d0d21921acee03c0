"""The three threads of a pool of workers.

One thread starts and replaces workers, one hands out tasks, and one takes results. They have no
reference to the pool object, so they end when the program drops the pool. An exception that belongs
to one call (of its callbacks, of the iterable of its tasks, of rebuilding its result) is caught
here, and only that call fails. The threads end early only if the pool cannot work. Then all calls
that are left, and all later calls, fail with the reason.

Only the thread that takes results decides that workers cannot begin. It knows which workers have
begun and which have ended. It reads the messages of a worker before it handles the worker's end.
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
_MORE_TRIES = 3  # workers in a row that may fail to begin, added to the number of workers
_ITERABLE_TIMEOUT = 5.0  # seconds that the end of a pool waits for the next item of an iterable


class Cache(dict[int, Any]):
    """The calls that are not answered, by job number."""

    def __init__(self, notify: Callable[[], None]) -> None:
        super().__init__()
        self._notify = notify

    def tell_if_empty(self) -> None:
        """Wake the thread that replaces workers: it may wait for the last call."""
        if not self:
            self._notify()

    def __delitem__(self, job: int) -> None:
        super().__delitem__(job)
        self.tell_if_empty()


class Sequence:
    """The tasks of one call that are not handed out yet.

    Parameters
    ----------
    call
        The result of the call, or its feed. Both have `_set` and `_fail`.
    job : int
        The number of the call.
    function : callable
        The function that workers call.
    items : iterable of tuple
        The arguments of each task.
    kwargs : dict
        The keyword arguments of all tasks.
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
    """A thread of a pool. It ends when its state is not RUN any more."""

    def __init__(self, core: Core, target: Callable[[Core, Worker], None]) -> None:
        super().__init__(target=target, args=(core, self), daemon=True)
        self.state = RUN


class Core:
    """The state that the threads of a pool and the pool itself share.

    Parameters
    ----------
    make_process : callable
        Makes a worker that is not started yet.
    count : int
        How many workers there should be.
    workers : list of Process
        The workers that exist.
    tasks, results, outstanding
        The tasks to hand out, the results, and the tasks without a result.

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
        self.reading = False  # the next item of a user's iterable is being read
        self.closed = False  # all tasks were handed out, and no more will come
        self.terminated = False  # `terminate` has finished
        self.news = Ends(results.bell)  # has no processes: the result thread waits for it
        self._unwatched: deque[Any] = deque()  # new workers
        self._begun: set[int] = set()
        # Ends of workers that the result thread has not handled yet.
        self._new_ends: deque[tuple[int, int | None]] = deque()
        # Ends that were seen, and ends that were handled. Only one thread changes each.
        self._ends_seen = self._ends_handled = 0
        self._failures = 0  # consecutive workers that ended before they were ready
        self._last_error: BaseException | None = None  # of an initializer
        self.keeping = Worker(self, _keep_workers)
        self.handing_out = Worker(self, _hand_out)
        self.taking = Worker(self, _take_results)

    def start(self) -> None:
        """Start the threads."""
        for thread in (self.keeping, self.handing_out, self.taking):
            start_without_signals(thread)

    def wake(self) -> None:
        """Wake the thread that replaces workers."""
        self.processes.ring()

    # ----------------------------------------------------------------------------------- workers

    def populate(self) -> None:
        """Start the workers that are missing."""
        for _ in range(self.count - len(self.workers)):
            worker = self.processes.start()
            self.workers.append(worker)
            self._unwatched.append(worker)

    def wait(self) -> list[Any]:
        """Wait until workers have ended, or until `wake` is called."""
        while self._unwatched:
            self.processes.watch(self._unwatched.popleft())
        return self.processes.wait()

    def replace(self, ended: list[Any]) -> None:
        """Replace workers that have ended, unless workers cannot begin."""
        for worker in ended:
            code = exit_code(worker)
            worker.join()
            self.workers.remove(worker)
            del self.processes.running[worker.pid]
            self._ends_seen += 1
            self._new_ends.append((worker.pid, code))
        if ended:
            self.tasks.take_back()
            self.news.ring()
        if self.why is not None or self._ends_seen - self._ends_handled > self._most_failures():
            return
        try:
            self.populate()
        except Exception as error:  # noqa: BLE001 - no memory, no process number, no descriptor
            if not self.workers:
                self.break_down(error)

    def _most_failures(self) -> int:
        return self.count + _MORE_TRIES

    def handle_report(self, about: int, pid: int, content: Any) -> None:
        """Handle the message of a worker that is ready, or that cannot begin."""
        if about == BEGAN:
            self._begun.add(pid)
            self._failures, self._last_error = 0, None
        else:
            self._last_error = content[1]

    def handle_ends(self, count: int) -> None:
        """Handle the ends of `count` workers."""
        for _ in range(count):
            pid, code = self._new_ends.popleft()
            self._ends_handled += 1
            if pid in self._begun:
                self._begun.discard(pid)
            else:
                self._failed_to_begin(code)
            self.wake()

    @property
    def ends(self) -> int:
        """How many ends of workers were not handled yet."""
        return len(self._new_ends)

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
        """Make all calls fail, and all later calls too."""
        why = why.with_traceback(None)
        why.__context__ = None
        self.why = why
        self.tasks.stop_waiting()
        self.fail_all(why)
        self.wake()

    def fail_all(self, why: BaseException, *, call: bool = True) -> None:
        """Make all calls that are left fail."""
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
        """Stop watching workers."""
        self.processes.disband()
        self.news.close()

    def is_stuck(self) -> bool:
        """Return whether the pool was terminated while a user's iterable gives no next item."""
        return self.terminated and self.reading


def _keep_workers(core: Core, thread: Worker) -> None:
    """Replace workers, until the pool is closed and all calls are answered."""
    ended: list[Any] = []
    while thread.state == RUN or (core.cache and thread.state != TERMINATE):
        core.replace(ended)
        ended = core.wait()
    core.taskqueue.put(None)


def _hand_out(core: Core, thread: Worker) -> None:
    """Hand out tasks, one call after the other, until the pool ends."""
    while True:
        sequence = core.taskqueue.get()
        if sequence is None or not _hand_out_sequence(core, thread, sequence):
            break
        del sequence
    core.closed = True
    core.news.ring()
    core.tasks.end()


def _hand_out_sequence(core: Core, thread: Worker, sequence: Sequence) -> bool:
    """Hand out the tasks of a call, up to its limit; False: the pool is terminated."""
    if sequence.feed is None:
        return _hand_out_tasks(core, thread, sequence)
    with with_users_mask():  # a user's iterable may start processes
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
        except BaseException as error:  # noqa: BLE001 - the user's iterable raised it
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
        except Exception as error:  # noqa: BLE001 - pickling runs code of any class
            call = core.cache.get(job)
            if call is not None:
                call._set(i, (False, error))
        del arguments


def _take_results(core: Core, thread: Worker) -> None:
    """Take results, until the pool is closed and all calls are answered, or it is terminated."""
    while not core.closed or core.cache:
        # A worker's messages come before its end: they are in the queue now.
        ends = core.ends
        try:
            while _take_result(core):
                if thread.state != RUN:
                    return
            core.handle_ends(ends)
            if thread.state == RUN and (core.cache or not core.closed) and not core.ends:
                core.results.wait(core.news.wait)
        except Closed:
            return
        except BaseException as error:  # noqa: BLE001 - not of one call: the pool cannot work
            core.break_down(error)
            return
        if thread.state != RUN:
            return


def _take_result(core: Core) -> bool:
    """Take a result, and deliver it to its call; False: there is no result."""
    result = core.results.take()
    if result is None:
        return False
    job, i, outcome = result
    if job in (BEGAN, FAILED):
        core.handle_report(job, i, outcome)
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

    A signal handler may call this while it is running: each step may be done twice.
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
        core.keeping.join()  # so that no worker is replaced in the meantime
    for worker in core.workers:
        if hasattr(worker, "terminate") and worker.exitcode is None:
            worker.terminate()
    if this is not core.taking:
        core.taking.join()
    core.terminated = True
    if not util.is_exiting():  # else waiting daemon threads end with the interpreter
        core.fail_all(terminated(), call=False)
    for worker in core.workers:
        if hasattr(worker, "terminate") and worker.is_alive():
            worker.join()


def terminated() -> PoolTerminated:
    """Make the error of a call that is not done when the pool is terminated."""
    return PoolTerminated("the pool was terminated before this call was done")


def _end_handing_out(core: Core) -> None:
    """Empty the task queue, so that the thread that fills it can end.

    That thread cannot end while it waits for the next item of a user's iterable, and the iterable
    may wait for the calling thread. Then the thread stays. It ends when the iterable gives its next
    item.
    """
    thread = core.handing_out
    core.tasks.drain_while(lambda: thread.is_alive() and not core.reading)
    if thread.is_alive():
        thread.join(_ITERABLE_TIMEOUT)
    core.tasks.drain_while(lambda: thread.is_alive() and not core.reading)
