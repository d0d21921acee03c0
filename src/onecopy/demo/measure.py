"""CPU time, memory and copies of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Measurement:
    """The cost of one run, or of several runs of one transport together.

    Attributes
    ----------
    name : str
        The name of the transport.
    frames : int
        Results that arrived at the writer.
    seconds : float
        From the start signal to the last result, without starting and ending processes.
    cpu_seconds : float
        User and system time of producers, workers and writer, from the start signal on.
    peak_memory : int
        Bytes: the highest sum of the proportional set sizes of these processes. A page that n
        processes share counts 1/n in each. 0 if the kernel does not report it.
    copies : int
        Copies of a picture or a result after it was decoded or computed, over all frames.
    rates : tuple of float
        Frames per second of each run.
    """

    name: str
    frames: int
    seconds: float
    cpu_seconds: float
    peak_memory: int
    copies: int
    rates: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Frames per second."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def cpu_per_frame(self) -> float:
        """CPU milliseconds per frame."""
        return 1000 * self.cpu_seconds / self.frames if self.frames else 0.0

    @property
    def copies_per_frame(self) -> float:
        """Copies per frame."""
        return self.copies / self.frames if self.frames else 0.0

    @staticmethod
    def of(runs: Iterable[Measurement]) -> Measurement:
        """Combine several runs of one transport."""
        several = list(runs)
        return Measurement(
            name=several[0].name,
            frames=sum(run.frames for run in several),
            seconds=sum(run.seconds for run in several),
            cpu_seconds=sum(run.cpu_seconds for run in several),
            peak_memory=max(run.peak_memory for run in several),
            copies=sum(run.copies for run in several),
            rates=tuple(run.rate for run in several),
        )


def proportional_memory(pids: Iterable[int]) -> int:
    """Sum the proportional set size of processes.

    Parameters
    ----------
    pids : iterable of int
        Processes of this user. Processes that have ended count 0.

    Returns
    -------
    int
        Bytes.
    """
    return sum(_proportional_set_size(pid) for pid in pids)


def _proportional_set_size(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
