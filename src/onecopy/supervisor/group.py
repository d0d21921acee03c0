"""A group of worker processes that is kept alive, and the thread that does so."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import util
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from onecopy._core import arguments
from onecopy._workers.ends import Ends, exit_code
from onecopy._workers.signals import blocked, start_without_signals, users_mask, with_users_mask
from onecopy.errors import CrashLoop
from onecopy.supervisor.records import Exit, Worker
from onecopy.supervisor.signals import termination
from onecopy.supervisor.work import in_one_line, read, work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

__all__ = ["Restart", "WorkerGroup", "supervise"]

_FOREVER = 1e9  # seconds: what a clock can still add
_ENDING = {signal.SIGINT, signal.SIGTERM}
_LONGEST = 86400.0  # seconds that one wait for descriptors can take

Restart: TypeAlias = Literal["on-failure", "always", "never"]


def supervise(
    target: Callable[..., object],
    n: int = 1,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    name: str | None = None,
    mp_context: Any = None,
    restart: Restart = "on-failure",
    backoff: float = 0.1,
    backoff_factor: float = 2.0,
    backoff_max: float = 10.0,
    max_restarts: int = 5,
    window: float = 60.0,
    grace: float = 5.0,
    on_exit: Callable[[Worker], object] | None = None,
) -> WorkerGroup:
    """Start worker processes that run a function, and replace those that fail.

    >>> with oc.supervise(detect, 4, args=(jobs, results)):  # doctest: +SKIP
    ...     for image in images:
    ...         jobs.put(image)
    ...     jobs.join()

    Parameters
    ----------
    target : callable
        What each worker runs. A worker is done when it returns, or raises `ShutDown`: its queue was
        shut down, and nothing is left in it.
    n : int, optional
        How many workers.
    args, kwargs : optional
        Arguments of `target`, the same for each worker and its successors.
    name : str, optional
        Of the group; its processes are called ``name-0`` and so on. Default: that of `target`.
    mp_context : context or str, optional
        Where processes come from: a context of `multiprocessing` or `onecopy.multiprocessing`, or a
        start method. Default: multiprocessing's.
    restart : {"on-failure", "always", "never"}, optional
        When a worker is replaced: when it fails (it is killed, raises, or exits with another status
        than 0), also when it returns, or never.
    backoff, backoff_factor, backoff_max : float, optional
        Seconds before the first restart; by how much each further one multiplies them; and the most
        that they become. A worker that has lived for `window` seconds starts with `backoff` again;
        so does one that returned.
    max_restarts, window : int and float, optional
        A worker that fails once more, after `max_restarts` restarts within `window` seconds, is in
        a crash loop: the group stops, and `CrashLoop` is raised.
    grace : float, optional
        Seconds that a worker has to end after SIGTERM. Then it is killed.
    on_exit : callable, optional
        Called with the `Worker` each time one of its processes has ended, in the group's thread;
        what it raises is reported as a thread's error is, and has no other effect.

    Returns
    -------
    WorkerGroup
        The group; all workers have been started. In a `with` statement it is stopped at the end of
        the block.

    Raises
    ------
    ValueError, TypeError
        A parameter makes no sense.
    Exception
        A worker cannot be started: the arguments cannot be pickled, there is no memory. Those that
        were started are stopped.

    Notes
    -----
    In a worker SIGTERM raises `SystemExit`, so that `with` blocks, `finally` and exit handlers run;
    Ctrl-C has no effect there: it stops the group through the supervisor. Workers end when the
    supervisor does, also if it is killed, and get their `grace` then too.

    Examples
    --------
    >>> import math
    >>> with oc.supervise(math.sqrt, 2, args=(4,), mp_context="fork") as group:
    ...     group.join(timeout=10)  # both have returned
    True
    """
    n = arguments.integer("n", n)
    if n < 1:
        raise ValueError(f"n={n!r}: a group has at least one worker")
    if not callable(target):
        arguments.refuse("target", "callable", target)
    if restart not in get_args(Restart):
        raise ValueError(f"restart={restart!r}: it is one of {', '.join(get_args(Restart))}")
    policy = Policy(
        restart=restart,
        backoff=_seconds("backoff", backoff),
        factor=arguments.number("backoff_factor", backoff_factor),
        most=_seconds("backoff_max", backoff_max),
        restarts=arguments.integer("max_restarts", max_restarts),
        window=_seconds("window", window),
        grace=_seconds("grace", grace),
    )
    if policy.factor < 1 or policy.restarts < 0:
        raise ValueError(
            f"backoff_factor={backoff_factor} must be at least 1, and max_restarts={max_restarts} "
            "at least 0"
        )
    arguments.function("on_exit", on_exit)
    mp_context = arguments.context("mp_context", mp_context)
    call = target, arguments.positional("args", args), arguments.mapping("kwargs", kwargs)
    if name is None:
        name = str(getattr(target, "__name__", type(target).__name__))
    elif not isinstance(name, str):
        arguments.refuse("name", "a string", name)
    return WorkerGroup(call, n, name, mp_context, policy, on_exit)


def _seconds(parameter: str, value: float) -> float:
    seconds = arguments.number(parameter, value, "a number of seconds")
    if not seconds >= 0:
        raise ValueError(f"{parameter}={value!r}: seconds, at least 0")
    return min(seconds, _FOREVER)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules for when workers are restarted."""

    restart: Restart
    backoff: float
    factor: float
    most: float
    restarts: int
    window: float
    grace: float

    def delay(self, failures: int) -> float:
        """Give the seconds to wait after so many failures in a row."""
        try:
            return min(self.most, self.backoff * self.factor ** max(0, failures - 1))
        except OverflowError:
            return self.most


@dataclass(slots=True, eq=False)
class _Place:
    """A worker, whichever process it is at the moment."""

    index: int
    name: str
    process: Any = None
    report: Any = None
    began: float = 0.0
    restarts: int = 0
    due: float | None = None  # when it is to be started again
    in_a_row: int = 0  # failures
    failed_at: deque[float] = field(default_factory=deque)  # within the window
    last_exit: Exit | None = None

    def record(self) -> Worker:
        pid = None if self.process is None else self.process.pid
        return Worker(self.index, self.name, pid, self.restarts, self.last_exit)


class WorkerGroup:
    """Workers that are kept alive; made by `supervise`.

    Any thread may call its methods. In a forked child they have no effect on the workers, which are
    its parent's.

    Attributes
    ----------
    name : str
        Of the group.

    Examples
    --------
    >>> jobs, results = oc.Queue(), oc.Queue()
    >>> def work(jobs, results):
    ...     for job in jobs:
    ...         results.put(job * job)
    >>> group = oc.supervise(work, 2, args=(jobs, results), mp_context="fork")
    >>> len(group.pids), [worker.name for worker in group.workers]
    (2, ['work-0', 'work-1'])
    >>> jobs.put_many([1, 2, 3])
    >>> sorted(results.get() for _ in range(3))
    [1, 4, 9]
    >>> jobs.shutdown()  # the workers return when the queue is empty
    >>> group.join(timeout=10)
    True
    >>> group.stop()  # at once; here they have ended already
    """

    def __init__(
        self,
        call: tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]],
        n: int,
        name: str,
        context: Any,
        policy: Policy,
        on_exit: Callable[[Worker], object] | None,
    ) -> None:
        self.name = name
        self._call = call
        self._context = context
        self._policy = policy
        self._on_exit = on_exit
        self._owner = os.getpid()
        # For the places' fields and those below, while they change. It is re-entrant: a signal
        # handler may call `stop` while the main thread has it, or waits.
        self._lock = threading.Condition(threading.RLock())
        self._places = [_Place(index, f"{name}-{index}") for index in range(n)]
        self._kill_at: float | None = None  # None: it is not being stopped
        # Blocked in workers; the thread itself has all signals blocked.
        self._mask = users_mask()
        self._attended = False  # whether a thread runs `_run`
        self._sent: signal.Signals | None = None  # what they have got
        self._failure: BaseException | None = None
        self._is_over = False
        self._ends = Ends()
        self._thread = threading.Thread(
            target=self._run, name=f"onecopy-supervise-{name}", daemon=True
        )
        # Before multiprocessing waits for its children, in the main program and in children alike.
        self._at_exit = util.Finalize(None, self.stop, exitpriority=100)
        # The first workers are started here: errors are raised to the caller, and forks find no
        # thread of this group.
        try:
            termination.take_over(self)
            for place in self._places:
                self._start(place)
            start_without_signals(self._thread)
        except BaseException:
            self._ask(policy.grace)
            self._run()  # if the thread does not
            self.stop()
            raise

    # ------------------------------------------------------------------------------------- queries

    @property
    def workers(self) -> tuple[Worker, ...]:
        """A record of each worker, as it is now."""
        with self._lock:
            return tuple(place.record() for place in self._places)

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that run now."""
        return tuple(worker.pid for worker in self.workers if worker.pid is not None)

    @property
    def failure(self) -> BaseException | None:
        """Why the group gave up; None: it has not."""
        return self._failure

    def __repr__(self) -> str:
        state = "ended" if self._is_over else f"{len(self.pids)} running"
        return f"<onecopy.WorkerGroup {self.name!r}, {len(self._places)} workers, {state}>"

    # ------------------------------------------------------------------------------------- its end

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all workers have ended and are not restarted: done, stopped, or failed.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.

        Returns
        -------
        bool
            Whether they have.

        Raises
        ------
        CrashLoop
            A worker failed again and again, so all were stopped.
        """
        self._check_owner()
        limit = arguments.seconds("timeout", timeout)
        if not self._wait(None if limit is None else min(limit, _FOREVER)):
            return False
        self._settle()
        if self._failure is not None:
            raise self._failure
        return True

    def stop(self, timeout: float | None = None) -> None:
        """End all workers: SIGTERM, and SIGKILL for those that have not ended in time.

        It returns when they have ended. An exception in between, of Ctrl-C for example, has them
        killed at once. Stopping twice does nothing.

        Parameters
        ----------
        timeout : float, optional
            Seconds that they have. Default: the group's `grace`. 0 kills at once.
        """
        if os.getpid() != self._owner:
            return
        self._ask(self._policy.grace if timeout is None else _seconds("timeout", timeout))
        if threading.current_thread() is self._thread:
            return  # in `on_exit`: what is asked is done after it
        with termination.stopping():
            try:
                self._wait()
            except BaseException:
                self._ask(0)
                self._wait()
                raise
            finally:
                self._settle()

    def __enter__(self) -> Self:
        """Stop the group at the end of the block."""
        self._check_owner()
        try:
            termination.enter(self)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(
        self, kind: object, error: BaseException | None = None, traceback: object = None
    ) -> None:
        """Stop the group; raise why it gave up, if it did."""
        try:
            termination.leave(self)
        finally:
            self.stop()
        failure = self._failure
        if os.getpid() != self._owner or failure is None or failure is error:
            return
        if error is None:
            raise failure
        error.add_note(f"Also: {failure}")

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} cannot be pickled: its workers are children of this process. Give workers "
            "what they need as args"
        )

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError(f"the workers of {self.name!r} are those of process {self._owner}")

    def _wait(self, timeout: float | None = None) -> bool:
        with self._lock:
            return self._lock.wait_for(lambda: self._is_over, timeout)

    def _ask(self, grace: float) -> None:
        with self._lock:
            if self._is_over:
                return
            kill_at = time.monotonic() + grace
            self._kill_at = kill_at if self._kill_at is None else min(kill_at, self._kill_at)
            self._ends.ring()

    def _settle(self) -> None:
        """Restore the state of the process when the group has ended."""
        if self._is_over:
            self._at_exit.cancel()
            termination.give_back(self)

    # ---------------------------------------------------------------------------------- its thread

    def _run(self) -> None:
        with self._lock:
            if self._attended:
                return
            self._attended = True
        try:
            while self._tend():
                for process in self._ends.wait(self._timeout()):
                    self._look_at(process)
        except BaseException as error:  # noqa: BLE001 - raised by `join`
            self._failure = error
            self._kill_all()
        finally:
            with self._lock:  # no thread rings after this
                self._is_over = True
                self._ends.close()
                self._lock.notify_all()

    def _tend(self) -> bool:
        """Do the work that is due. False: no process runs, and none will be started."""
        now = time.monotonic()
        with self._lock:
            kill_at = self._kill_at
        for place in self._places:
            if kill_at is not None:
                place.due = None
            elif place.due is not None and place.due <= now:
                self._restart(place)
        if kill_at is not None:
            wanted = signal.SIGKILL if now >= kill_at else signal.SIGTERM
            if self._sent not in {wanted, signal.SIGKILL}:
                self._sent = wanted
                self._send(wanted)
        return any(place.process is not None or place.due is not None for place in self._places)

    def _timeout(self) -> float | None:
        """Return the seconds until the next work is due; None: no work is due."""
        times = [place.due for place in self._places if place.due is not None]
        with self._lock:
            if self._kill_at is not None and self._sent != signal.SIGKILL:
                times.append(self._kill_at)
        now = time.monotonic()
        return min((min(max(0.0, each - now), _LONGEST) for each in times), default=None)

    def _send(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.process is not None:
                self._ends.send(place.process, number)

    def _kill_all(self) -> None:
        self._send(signal.SIGKILL)
        while any(place.process is not None for place in self._places):
            for process in self._ends.wait():
                self._take_apart(self._place_of(process))

    # ------------------------------------------------------------------------------------- a worker

    def _start(self, place: _Place) -> None:
        reader, writer = self._context.Pipe(duplex=False)
        try:
            process = self._context.Process(
                target=work,
                args=(writer, self._policy.grace, self._mask, *self._call),
                name=place.name,
            )
            process.daemon = False  # it may have children of its own
            # A forked worker has this process's handlers until it sets its own. Others have the
            # default ones, and a fork server would keep what it inherits.
            forks = self._context.get_start_method() == "fork"
            with blocked(self._mask | _ENDING if forks else self._mask):
                process.start()
        except BaseException:
            reader.close()
            raise
        finally:
            writer.close()
        with self._lock:
            place.process, place.report = process, reader
        place.began = time.monotonic()
        self._ends.add(process)

    def _restart(self, place: _Place) -> None:
        place.due = None
        with self._lock:
            place.restarts += 1
        try:
            self._start(place)
        except Exception as error:  # noqa: BLE001 - no memory, no process number, no descriptor
            self._has_ended(place, Exit(None, None, in_one_line(error)))

    def _place_of(self, process: Any) -> _Place:
        return next(place for place in self._places if place.process is process)

    def _look_at(self, process: Any) -> None:
        """Handle a process that has ended."""
        place = self._place_of(process)
        pid, code = process.pid, exit_code(process)
        begun, error = read(place.report)
        end = Exit(pid, code, error)
        self._take_apart(place, end)
        if begun or place.restarts or code is None or code < 0:
            self._has_ended(place, end)
        else:
            self._has_ended(place, end, self._cannot_begin(place, end))

    def _take_apart(self, place: _Place, end: Exit | None = None) -> None:
        # Invariant: a thread that has the lock finds a process that is not closed, or none, and
        # then how the last one ended.
        with self._lock:
            process, report = place.process, place.report
            place.process = place.report = None
            if end is not None:
                place.last_exit = end
        with suppress(ValueError):  # its status is unknown, so it is taken to be alive
            process.close()
        report.close()

    def _has_ended(self, place: _Place, end: Exit, failure: CrashLoop | None = None) -> None:
        with self._lock:
            place.last_exit = end
            stopping = self._kill_at is not None
        if not stopping and failure is None:
            try:
                place.due = self._next_start(place, end)
            except CrashLoop as error:
                failure = error
        if not stopping and failure is not None:
            self._failure = failure
            self._ask(self._policy.grace)
            termination.interrupt(self)
        if self._on_exit is not None:
            try:
                with with_users_mask():
                    self._on_exit(place.record())
            except Exception:  # noqa: BLE001 - the workers are kept alive all the same
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), self._thread)))

    def _next_start(self, place: _Place, end: Exit) -> float | None:
        """Decide when a worker is started again; None: never."""
        policy, now = self._policy, time.monotonic()
        if policy.restart == "never" or (policy.restart == "on-failure" and not end.failed):
            return None
        if not end.failed or now - place.began >= policy.window:
            place.in_a_row = 0
        if not end.failed:
            return now + policy.backoff
        place.in_a_row += 1
        place.failed_at.append(now)
        while place.failed_at[0] < now - policy.window:
            place.failed_at.popleft()
        if len(place.failed_at) > policy.restarts:
            raise self._crash_loop(place, end)
        return now + policy.delay(place.in_a_row)

    # -------------------------------------------------------------------------------------- errors

    def _crash_loop(self, place: _Place, end: Exit) -> CrashLoop:
        policy, failures = self._policy, len(place.failed_at)
        return CrashLoop(
            f"worker {place.name} failed {failures} times within {policy.window:g} s, and "
            f"max_restarts={policy.restarts} allows no further restart. The last time, it {end}"
            f"{_of_process(end)}. {self._all_stopped()} Tracebacks are on stderr. If a message of "
            "a queue that redelivers ends each worker that takes it, its Message.deliveries grows: "
            "finish such a message instead of working on it. If workers may fail so often, raise "
            "max_restarts",
            place.record(),
        )

    def _cannot_begin(self, place: _Place, end: Exit) -> CrashLoop:
        return CrashLoop(
            f"worker {place.name} {end}{_of_process(end)} before {self._call[0]!r} was called, so "
            f"it is not started again. {self._all_stopped()} Its traceback is on stderr. Likely "
            "causes: the target or its arguments cannot be unpickled there; or, with the start "
            "methods spawn and forkserver, the program makes the group without "
            "`if __name__ == '__main__':`",
            place.record(),
        )

    def _all_stopped(self) -> str:
        return f"All workers of {self.name!r} ({len(self._places)}) are stopped."


def _of_process(end: Exit) -> str:
    return "" if end.pid is None else f" (process {end.pid})"
