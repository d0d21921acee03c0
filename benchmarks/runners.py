"""Ways to give one table to worker processes, behind one small protocol.

Processes are started by fork, as `concurrent.futures.ProcessPoolExecutor` does on Linux up to
Python 3.13. This start is the cheapest, and costs the same for all contenders.
"""

from __future__ import annotations

import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import ExitStack
from multiprocessing.managers import SharedMemoryManager
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import RunFailed, apart

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future
    from multiprocessing.context import ForkContext
    from typing import Self

OURS, STANDARD, BY_HAND = "onecopy", "ProcessPoolExecutor", "by hand, SharedMemory"
LIMIT = 120.0


class Gate:
    """A gate where calls wait, each in its own worker, until all may continue."""

    def __init__(self, context: ForkContext) -> None:
        self.arrived = context.Semaphore(0)
        self.opened = context.Event()


_gate: Gate | None = None


def _set_gate(gate: Gate) -> None:
    global _gate  # noqa: PLW0603 - a worker has one
    _gate = gate


class Runner:
    """An executor and its workers, which get tables; a context manager.

    Parameters
    ----------
    workers
        The number of workers.
    gated
        Whether calls wait at `gate` when they are done and still have the table.
    """

    def __init__(self, workers: int, *, gated: bool = False) -> None:
        self.workers = workers
        self._context = multiprocessing.get_context("fork")
        self.gate = Gate(self._context) if gated else None

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            self._start(exits)
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._exits.__exit__(*exception)  # type: ignore[arg-type]  # the arguments of `with`

    def _start(self, exits: ExitStack) -> None:
        initializer = (_set_gate, (self.gate,)) if self.gate else (None, ())
        executor = self.make_executor(self.workers, None, self._context, *initializer)
        self.executor: Executor = exits.enter_context(executor)

    @staticmethod
    def make_executor(*args: Any) -> Any:
        raise NotImplementedError

    def place(self, table: Any) -> Any:
        """Return a copy of a table in shared memory, or the table, if the contender cannot."""
        return table

    def submit(self, function: Callable[[Any], Any], table: Any, count: int) -> list[Future[Any]]:
        """Submit `count` calls of `function(table)`."""
        return [self.executor.submit(_call, function, table) for _ in range(count)]

    def results(self, function: Callable[[Any], Any], table: Any, count: int) -> list[Any]:
        """Return the results of `submit`, in order."""
        return [future.result(LIMIT) for future in self.submit(function, table, count)]

    def arrived(self) -> None:
        """Wait until each worker has made a call and waits at the gate."""
        assert self.gate
        for _ in range(self.workers):
            assert self.gate.arrived.acquire(timeout=LIMIT), "a worker did not reach the gate"

    def visit(self, function: Callable[[Any], Any], table: Any) -> None:
        """Make one call in each worker, so that all have started and imported what they need."""
        assert self.gate
        futures = self.submit(function, table, self.workers)
        self.arrived()
        self.gate.opened.set()
        wait(futures, LIMIT)
        self.gate.opened.clear()


class StandardRunner(Runner):
    """The standard library's executor; calls get the table as an argument."""

    @staticmethod
    def make_executor(workers: int, _pool: None, *args: Any) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(workers, *args)


class OnecopyRunner(Runner):
    """`onecopy.Executor`; calls get the table as an argument."""

    @staticmethod
    def make_executor(*args: Any) -> Any:
        import onecopy

        return onecopy.Executor(*args)

    def place(self, table: Any) -> Any:
        import onecopy

        return onecopy.put(table).get()


class HandRunner(StandardRunner):
    """The standard library's executor; the recarray is in a SharedMemory block that calls attach.

    A `SharedMemoryManager` owns the block and removes it, as in the documentation.
    """

    _placed: tuple[Any, SharedMemory] | None = None

    def _start(self, exits: ExitStack) -> None:
        # Not with `enter_context`: its `start` would use the default start method.
        self._manager = SharedMemoryManager(ctx=self._context)
        self._manager.start()
        exits.callback(self._manager.shutdown)
        exits.callback(self._release)
        super()._start(exits)

    def place(self, table: Any) -> Any:
        segment = self._manager.SharedMemory(table.nbytes)
        # Copy bytes: numpy copies records field by field, which takes four times as long.
        segment.buf[: table.nbytes] = table.view(np.uint8).data
        shared = np.recarray(table.shape, table.dtype, buf=segment.buf)
        self._placed = shared, segment
        return shared

    def _release(self) -> None:
        if self._placed is not None:
            segment = self._placed[1]
            self._placed = None
            segment.close()

    def submit(self, function: Callable[[Any], Any], table: Any, count: int) -> list[Future[Any]]:
        if self._placed is None or self._placed[0] is not table:
            table = self.place(table)
        segment = self._placed[1]  # type: ignore[index]  # by `place`
        call = (_call_attached, function, segment.name, table.shape, table.dtype)
        return [self.executor.submit(*call) for _ in range(count)]


RUNNERS: dict[str, type[Runner]] = {
    OURS: OnecopyRunner,
    STANDARD: StandardRunner,
    BY_HAND: HandRunner,
}


def load(peer: str) -> type[Runner]:
    """Return a class of runners, and import its package before anything is timed."""
    if peer == OURS:
        importlib.import_module("onecopy.executor")
    return RUNNERS[peer]


def missing(*modules: str) -> str | None:
    """Return why one of these modules cannot be imported, or None if all can."""
    try:
        apart(_import, modules)
    except RunFailed as error:
        return str(error)
    return None


def _import(modules: tuple[str, ...]) -> None:
    for module in modules:
        importlib.import_module(module)


def _call(function: Callable[[Any], Any], table: Any) -> Any:
    result = function(table)
    if _gate is not None:
        _gate.arrived.release()
        _gate.opened.wait(LIMIT)
    return result


def _call_attached(
    function: Callable[[Any], Any], name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Any:
    segment = SharedMemory(name)
    try:
        return _call(function, np.recarray(shape, dtype, buf=segment.buf))
    finally:
        segment.close()
