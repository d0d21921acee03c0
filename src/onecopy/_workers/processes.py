"""The worker processes of one front end: starts them, and reports which have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy._workers.ends import Ends
from onecopy._workers.signals import blocked, users_mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._workers.bells import Bell

__all__ = ["Processes"]


class Processes:
    """Worker processes, and the wait of the thread that manages them.

    Parameters
    ----------
    make : callable
        Makes a process that is not started yet.
    *bells : Bell
        What wakes the thread besides.

    Attributes
    ----------
    running : dict of int to Process
        By pid, those that were started and not taken off the list.
    """

    def __init__(self, make: Callable[[], Any], *bells: Bell) -> None:
        self._make = make
        self._ends = Ends(*bells)
        # Of the thread that makes this, for all workers: a thread of the engine has another one.
        self._mask = users_mask()
        self.running: dict[int, Any] = {}

    def start(self) -> Any:
        """Start a worker that is not watched yet.

        Returns
        -------
        Process

        Raises
        ------
        Exception
            It cannot be started: what it is given cannot be pickled, or there is no memory, process
            number or descriptor.
        """
        process = self._make()
        with blocked(self._mask):
            process.start()
        return process

    def watch(self, process: Any) -> None:
        """Watch a worker: `wait` gives it once it has ended."""
        self.running[process.pid] = process
        self._ends.add(process)

    def start_one(self) -> None:
        """Start a worker, and watch it; raises what `start` raises."""
        self.watch(self.start())

    def wait(self, timeout: float | None = None) -> list[Any]:
        """Wait until a worker has ended, a bell rings, or the time is up; see `Ends.wait`."""
        return self._ends.wait(timeout)

    def ring(self) -> None:
        """Wake the thread that waits."""
        self._ends.ring()

    def disband(self) -> None:
        """Drop the processes: a program may keep an object for long after its shutdown."""
        self._make = _none
        self.running = {}
        self._ends.close()


def _none() -> Any:
    raise AssertionError("the workers were disbanded")
