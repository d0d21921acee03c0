"""One run: start the processes, watch them, measure, and leave nothing behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from onecopy.demo import roles
from onecopy.demo.errors import DemoError
from onecopy.demo.measure import Measurement, proportional_memory
from onecopy.demo.pipeline import result_shape
from onecopy.demo.transport import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from onecopy.demo.sources import Source
    from onecopy.demo.transport import Transport

PRODUCERS = 2
_POLL = 0.1  # seconds between checks of the processes
_SAMPLE = 0.2  # seconds between measurements of their memory
_SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP  # signals that may end a run early
_GRACE = 5.0  # seconds that a process has to end after SIGTERM


@dataclass(frozen=True)
class Job:
    """A job for one run.

    Attributes
    ----------
    source : Source
        The pictures.
    workers : int
        How many processes run the pipeline.
    frames : int
        How many pictures are processed.
    out : pathlib.Path
        The folder where the writer saves results.
    """

    source: Source
    workers: int
    frames: int
    out: Path

    @property
    def layout(self) -> Layout:
        """The room for the job: a few pictures per process, because some may be slow."""
        height, width = self.source.largest
        result = result_shape(height, width)
        return Layout(
            depth=PRODUCERS + 2 * self.workers + 2,
            picture_bytes=height * width * 3,
            # Use the longest side: the result of a panorama is smaller than that of a square.
            result_bytes=max(result) * max(result) * 3,
            processes=PRODUCERS + self.workers + 1,
        )


@dataclass
class Outcome:
    """The results of a run.

    Attributes
    ----------
    measurement : Measurement
        Time, memory, copies.
    unreadable : set of str
        Names of pictures that could not be decoded.
    checksums : dict of int to int
        CRC-32 of each picture's result.
    lost, repeated, damaged : int
        Frames that did not arrive, arrived twice, or differ from an earlier result.
    left_behind : list of str
        Pools that still exist afterwards.
    """

    measurement: Measurement
    unreadable: set[str]
    checksums: dict[int, int]
    lost: int
    repeated: int
    damaged: int
    left_behind: list[str] = field(default_factory=list)


def run(
    make_transport: Callable[[Layout], Transport],
    job: Job,
    advance: Callable[[str, int], None],
) -> Outcome:
    """Run the job over one transport.

    Parameters
    ----------
    make_transport : callable
        `OneCopyTransport` or `QueueTransport`.
    job : Job
        The job.
    advance : callable
        Called with a role and a number of frames when frames are done.

    Returns
    -------
    Outcome
        The outcome of a run in which every process succeeded.

    Raises
    ------
    DemoError
        A process failed or was killed. All other processes have been ended.
    """
    # Start the tracker of multiprocessing's semaphores first, because its start unblocks the
    # signals again (Python 3.11).
    resource_tracker.ensure_running()
    transport: Transport | None = None
    left_behind: list[str] = []
    try:
        with held(*_SIGNALS):  # a half-made transport could not be closed
            transport = make_transport(job.layout)
        outcome = _Run(transport, job, advance).run()
    finally:
        with held(*_SIGNALS):
            if transport is not None:
                left_behind = transport.close()
    outcome.left_behind = left_behind
    return outcome


class _Run:
    """The state of one run."""

    def __init__(self, transport: Transport, job: Job, advance: Callable[[str, int], None]) -> None:
        self._transport = transport
        self._job = job
        self._advance = advance
        self._ready = 0
        self._started: float | None = None
        self._done: dict[str, tuple[float, dict[str, Any]]] = {}
        self._peak = 0
        self._sampled = 0.0
        # spawn, not fork: OpenCV's and the queues' threads would not survive a fork.
        context = multiprocessing.get_context("spawn")

        def process(name: str, role: str, *rest: Any) -> SpawnProcess:
            return context.Process(target=roles.run, args=(name, role, transport, *rest), name=name)

        self._producers = [
            process(
                f"producer {index + 1}",
                roles.PRODUCE,
                roles.produce,
                job.source,
                range(index, job.frames, PRODUCERS),
            )
            for index in range(PRODUCERS)
        ]
        self._workers = [
            process(f"worker {index + 1}", roles.WORK, roles.work) for index in range(job.workers)
        ]
        self._writers = [
            process("writer", roles.WRITE, roles.write, job.source, job.out),
        ]
        self._all = [*self._producers, *self._workers, *self._writers]

    def run(self) -> Outcome:
        try:
            self._start()
            self._watch()
        finally:
            with held(*_SIGNALS):
                self._end()
        return self._outcome()

    def _start(self) -> None:
        # A spawned child inherits the mask, so it starts with these signals blocked, too. Otherwise
        # Ctrl-C during its imports would end it with a traceback. `roles.run` unblocks the signals
        # that a child must handle.
        with held(*_SIGNALS):
            for process in self._all:
                process.start()

    def _watch(self) -> None:
        """Handle reports until the writer has ended."""
        pictures_ended = results_ended = False
        while not self._ended(self._writers):
            # A process that ended before this check has sent all its reports. If the queue is empty
            # after this, a missing report will never arrive.
            gone = [process for process in self._all if process.exitcode is not None]
            event = self._transport.next_event(_POLL)
            if event is not None:
                self._handle(event)
            else:
                for process in gone:
                    if process.name not in self._done:
                        raise DemoError(f"{process.name} {_how_it_ended(process.exitcode)}")
            # The last pictures of a producer are in the queue when its process has ended.
            if not pictures_ended and self._ended(self._producers):
                pictures_ended = self._transport.end_pictures()
            if not results_ended and self._ended(self._workers):
                results_ended = self._transport.end_results()
            self._sample()

    def _ended(self, processes: list[SpawnProcess]) -> bool:
        return all(
            process.name in self._done and process.exitcode is not None for process in processes
        )

    def _handle(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("ready", _):
                self._ready += 1
                if self._ready == len(self._all):
                    self._started = time.monotonic()
                    self._transport.start(len(self._all))
            case ("progress", role, frames):
                self._advance(role, frames)
            case ("done", name, cpu_seconds, details):
                self._done[name] = (cpu_seconds, details)
            case ("failed", _, reason):
                raise DemoError(reason)

    def _sample(self) -> None:
        now = time.monotonic()
        if self._started is not None and now - self._sampled >= _SAMPLE:
            self._sampled = now
            pids = [process.pid for process in self._all if process.pid is not None]
            self._peak = max(self._peak, proportional_memory(pids))

    def _end(self) -> None:
        """End every process, in whatever state it is."""
        started = [process for process in self._all if process.pid is not None]
        for process in started:
            if process.name not in self._done:
                process.terminate()
        for process in started:
            process.join(_GRACE)
            if process.exitcode is None:
                process.kill()
                process.join()
            process.close()

    def _outcome(self) -> Outcome:
        written = self._done["writer"][1]
        produced = [details for _, details in self._done.values() if "copies" in details]
        frames: int = written["frames"]
        if not frames:
            raise DemoError("no picture could be decoded")
        seconds = written["last"] - (self._started or 0.0)
        # Each frame is sent twice: as a picture to a worker, and as a result to the writer.
        copies = 2 * frames * self._transport.copies_per_hop
        measurement = Measurement(
            name=self._transport.name,
            frames=frames,
            seconds=seconds,
            cpu_seconds=sum(cpu for cpu, _ in self._done.values()),
            peak_memory=self._peak,
            copies=copies + sum(details["copies"] for details in produced),
            rates=(frames / seconds,),
        )
        return Outcome(
            measurement=measurement,
            unreadable={name for details in produced for name in details["unreadable"]},
            checksums=written["checksums"],
            lost=self._job.frames - frames,
            repeated=written["repeated"],
            damaged=written["damaged"],
        )


@contextlib.contextmanager
def held(*signals: signal.Signals) -> Iterator[None]:
    """Delay these signals until the end of the block.

    The mask is for processes that are started in the block: they inherit it. It does not keep the
    signals from this process, because threads of OpenCV and numpy receive them. So handlers record
    the signals, and they are raised again at the end.
    """
    noted: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _frame: noted.append(number))
        for number in signals
    }
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for late in dict.fromkeys(noted):
            signal.raise_signal(late)


def _how_it_ended(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"was killed by signal {-exitcode} ({signal.Signals(-exitcode).name})"
    return f"ended early, with status {exitcode}"
