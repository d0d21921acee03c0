"""What every workload needs: processes that start together, a time bound, and interleaved runs.

A *team* is the set of processes of one run of one contender. A module-level function sets up each
member. The member reports that it is ready, and then runs one *step* for each command. Members
share only a pipe with the harness, so that only the contender's own transport is measured.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

# CLOCK_MONOTONIC on Linux: instants taken in different processes may be subtracted.
clock = time.perf_counter

# A contender that failed this often is not started again: each failure may cost a whole time bound.
MAX_FAILURES = 2
START_LIMIT = 60.0
STOP_LIMIT = 3.0
# The length of a failure's text in the table: some exceptions print whole arrays.
LONGEST_MESSAGE = 300

# A step gets a count (items, rounds or seconds, as the workload defines). Its answer is pickled.
Step = Callable[[int], Any]
# One complete run of one contender. It returns named numbers.
Run = Callable[[], dict[str, float]]


class RunFailed(Exception):  # noqa: N818 - not an error of the harness, but a result in the table
    """A run has no result: a member raised, died, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much to measure.

    One measured run of one contender takes about `seconds`. The median is of `runs` runs. `peers`
    are the selected contenders (None: all).
    """

    runs: int = 5
    seconds: float = 1.0
    quick: bool = False
    peers: frozenset[str] | None = None
    say: Callable[[str], None] = print

    def wants(self, peer: str) -> bool:
        return self.peers is None or any(peer.startswith(wanted) for wanted in self.peers)


@dataclass(frozen=True, slots=True)
class Span:
    """One step of one member: its start and end, the number of items, and its findings."""

    start: float
    end: float
    count: int
    found: Any = None


def rate(spans: Iterable[Span], received: Iterable[Span]) -> float:
    """Items per second, from the start of the first member until the last item has arrived."""
    received = list(received)
    begin = min(span.start for span in (*spans, *received))
    return sum(span.count for span in received) / (max(span.end for span in received) - begin)


@dataclass(frozen=True, slots=True)
class Member:
    """A process of a team: `setup(*args)` runs in the child and returns its step."""

    name: str
    setup: Callable[..., Step]
    args: tuple[Any, ...] = ()


@dataclass(slots=True)
class Team:
    """Processes that are started and stopped together; a context manager.

    Parameters
    ----------
    members
        In the order in which they get the command to begin: receivers first, so that the measured
        time does not include their start.
    start_method
        As for `multiprocessing.get_context`. "spawn", unless a contender cannot use it: spawned
        members are unrelated, and inherit no warm memory.
    """

    members: Sequence[Member]
    start_method: str = "spawn"
    start_limit: float = START_LIMIT
    _processes: dict[str, BaseProcess] = field(default_factory=dict)
    _pipes: dict[str, Connection] = field(default_factory=dict)

    def __enter__(self) -> Team:
        context = multiprocessing.get_context(self.start_method)
        try:
            for member in self.members:
                ours, theirs = context.Pipe()
                process = context.Process(  # type: ignore[attr-defined]
                    target=_serve, args=(theirs, member), name=member.name, daemon=True
                )
                process.start()
                theirs.close()
                self._processes[member.name] = process
                self._pipes[member.name] = ours
            self._collect(self._pipes, self.start_limit, "start")
        except BaseException:
            self.stop(kill=True)
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.stop(kill=kind is not None)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by member name."""
        return {name: process.pid or 0 for name, process in self._processes.items()}

    def tell(self, count: int, names: Iterable[str] | None = None) -> None:
        """Start a step of members, without waiting for its end."""
        for name in names or self._pipes:
            self._pipes[name].send(count)

    def step(
        self, count: int, limit: float = 60.0, names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Run one step of members (default: all) and return their answers by name.

        Raises
        ------
        RunFailed
            If one raises, dies, or has not answered after `limit` seconds. The team is killed.
        """
        chosen = {name: self._pipes[name] for name in names or self._pipes}
        self.tell(count, chosen)
        return self._collect(chosen, limit, "finish")

    def collect(self, limit: float) -> dict[str, Any]:
        """The answers of all members, which began a step before.

        Raises
        ------
        RunFailed
            As `step` does.
        """
        return self._collect(self._pipes, limit, "finish")

    def answers(self) -> dict[str, Any]:
        """Return the answers of members that have finished by now."""
        waiting = {pipe: name for name, pipe in self._pipes.items()}
        ready = {waiting[pipe]: pipe for pipe in connection.wait(list(waiting), 0.0)}  # type: ignore[index]
        return self._collect(ready, STOP_LIMIT, "finish")  # type: ignore[arg-type]

    def stop(self, *, kill: bool = False) -> None:
        """End every process. Processes that do not end in time are killed."""
        for pipe in self._pipes.values():
            with contextlib.suppress(OSError):
                pipe.send(None)
        deadline = clock() + (0.0 if kill else STOP_LIMIT)
        for process in self._processes.values():
            process.join(max(0.0, deadline - clock()))
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        for pipe in self._pipes.values():
            pipe.close()
        self._processes.clear()
        self._pipes.clear()

    def _collect(self, pipes: Mapping[str, Connection], limit: float, what: str) -> dict[str, Any]:
        waiting = {pipe: name for name, pipe in pipes.items()}
        answers: dict[str, Any] = {}
        deadline = clock() + limit
        # A pipe whose other end is closed is readable and raises EOFError, so no sentinel is needed
        # to detect a death.
        while waiting:
            ready = connection.wait(list(waiting), max(0.0, deadline - clock()))
            if not ready:
                silent = ", ".join(waiting.values())
                raise RunFailed(f"{silent} did not {what} within {limit:.0f} s")
            for pipe in ready:
                name = waiting.pop(pipe)  # type: ignore[call-overload]
                try:
                    ok, answer = pipe.recv()  # type: ignore[union-attr]
                except (EOFError, ConnectionError):
                    process = self._processes[name]
                    process.join(STOP_LIMIT)
                    raise RunFailed(f"{name} died (exit code {process.exitcode})") from None
                if not ok:
                    raise RunFailed(f"{name}: {answer}")
                answers[name] = answer
        return answers


def _serve(pipe: Connection, member: Member) -> None:
    """Run in a member's process: set up, then run a step for each command, until the end
    command."""
    try:
        step = member.setup(*member.args)
        pipe.send((True, None))
        while (count := pipe.recv()) is not None:
            pipe.send((True, step(count)))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        return  # the harness has ended, or the user pressed Ctrl-C
    except BaseException as error:  # noqa: BLE001 - the parent must get any error
        with contextlib.suppress(OSError):
            pipe.send((False, _in_short(error)))


def _in_short(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
    return f"{type(error).__name__}: {error} ({place})"


def apart(function: Callable[..., Any], *args: Any, limit: float = 60.0) -> Any:
    """Call a function in a fresh process, which may have children; return its result.

    Members of a `Team` may not have children (they are daemons). If the process fails, or the user
    presses Ctrl-C, the process and its group are ended.

    Raises
    ------
    RunFailed
        If it raises, dies, or has not answered after `limit` seconds.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, function, args))
    process.start()
    theirs.close()
    done = False
    try:
        if not ours.poll(limit):
            raise RunFailed(f"{function.__name__} did not finish within {limit:.0f} s")
        try:
            ok, answer = ours.recv()
        except (EOFError, ConnectionError):
            process.join(STOP_LIMIT)
            raise RunFailed(f"{function.__name__} died (exit code {process.exitcode})") from None
        if not ok:
            raise RunFailed(answer)
        process.join(START_LIMIT)
        done = process.exitcode == 0
    finally:
        if not done:
            _end_group(process)
        process.close()
        ours.close()
    return answer


def _answer(pipe: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Run in the process of `apart`."""
    os.setpgid(0, 0)
    try:
        pipe.send((True, function(*args)))
    except BaseException as error:  # noqa: BLE001 - the parent must get any error
        with contextlib.suppress(OSError):
            pipe.send((False, _in_short(error)))


def _end_group(process: BaseProcess) -> None:
    """End a process and its children: first by SIGTERM, so that they remove their shared memory."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, number)
        process.join(STOP_LIMIT)
    process.kill()  # the process may have no group yet
    process.join()


def calibrated(pilot: int, pilot_seconds: float, seconds: float, multiple: int = 1) -> int:
    """Return how many items take about `seconds`, if `pilot` items took `pilot_seconds`.

    The result is a multiple of `multiple`, and at least `pilot`.
    """
    wanted = pilot * seconds / max(pilot_seconds, 1e-9)
    return max(pilot, multiple, round(wanted / multiple) * multiple)


@dataclass(slots=True)
class Outcome:
    """All runs of one contender: the values of each number in order, and the failures."""

    values: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def given_up(self) -> bool:
        return len(self.failures) >= MAX_FAILURES


def interleave(
    contenders: Mapping[str, Run], runs: int, say: Callable[[str], None] = print
) -> dict[str, Outcome]:
    """Run A B C, A B C, ... so that a change of the machine's speed affects all contenders.

    A contender that fails is reported and tried again, until it has failed `MAX_FAILURES` times.
    """
    outcomes = {name: Outcome() for name in contenders}
    for number in range(1, runs + 1):
        for name, run in contenders.items():
            outcome = outcomes[name]
            if outcome.given_up:
                continue
            try:
                numbers = run()
            except Exception as error:  # noqa: BLE001 - one contender must not end the others' runs
                text = str(error) if isinstance(error, RunFailed) else repr(error)
                failure = " ".join(text.split())[:LONGEST_MESSAGE]
                outcome.failures.append(failure)
                say(f"  run {number}/{runs}  {name}: FAILED: {failure}")
                continue
            for key, value in numbers.items():
                outcome.values.setdefault(key, []).append(value)
            shown = "  ".join(f"{key} {value:,.4g}" for key, value in numbers.items())
            say(f"  run {number}/{runs}  {name}: {shown}")
    return outcomes
