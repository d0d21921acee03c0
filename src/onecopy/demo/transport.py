"""What producers, workers and the writer need from a transport. Two classes offer it.

`onecopy.demo.onecopy_run` and `onecopy.demo.baseline_run` differ in nothing else: both run the
roles of `onecopy.demo.roles` on the same pictures.
"""

from __future__ import annotations

import queue
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Image: TypeAlias = npt.NDArray[np.uint8]


class Item(NamedTuple):
    """A picture, or the result made of it, on its way.

    Attributes
    ----------
    number : int
        The frame's number in this run: 0, 1, 2, …
    picture : int
        Which picture of the source it is; the source starts again when it has run out.
    image : numpy.ndarray
        (height, width, 3) uint8.
    """

    number: int
    picture: int
    image: Image


class Layout(NamedTuple):
    """How much room a run needs.

    Attributes
    ----------
    depth : int
        Pictures in flight at most, and as many results.
    picture_bytes : int
        Size of the largest picture.
    result_bytes : int
        Size of the largest result.
    processes : int
        How many processes take part.
    """

    depth: int
    picture_bytes: int
    result_bytes: int
    processes: int


class Messages(Protocol):
    """The part of a queue that small messages need; both libraries' queues have it."""

    def put(self, obj: Any) -> None:
        """Send."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Receive; `queue.Empty` when nothing came for `timeout` seconds."""


class Transport(ABC):
    """Carries pictures to workers, results to the writer, and reports to the conductor.

    It is handed to each process as an argument of `multiprocessing.Process`.

    Parameters
    ----------
    events : Messages
        For reports to the conductor.
    gate : Messages
        Holds one message for each process that may start.
    """

    name: ClassVar[str]
    copies_per_hop: ClassVar[int]
    """Copies of the pixels each time that an array changes process."""

    def __init__(self, events: Messages, gate: Messages) -> None:
        self._events = events
        self._gate = gate

    @abstractmethod
    def picture_memory(self, nbytes: int) -> Image:
        """Give `nbytes` of writable, contiguous memory to decode a picture into; waits for it."""

    @abstractmethod
    def result_memory(self, shape: tuple[int, int, int]) -> Image:
        """Give writable memory for a result."""

    @abstractmethod
    def send_picture(self, item: Item) -> None:
        """Hand a picture to whichever worker is free; waits while `depth` are in flight."""

    @abstractmethod
    def next_picture(self) -> Item | None:
        """Take the next picture, None after the last."""

    @abstractmethod
    def end_pictures(self) -> bool:
        """Say that no more pictures come; False when that must be tried again later."""

    @abstractmethod
    def send_result(self, item: Item) -> None:
        """Hand a result to the writer; waits while `depth` are in flight."""

    @abstractmethod
    def next_result(self) -> Item | None:
        """Take the next result, None after the last."""

    @abstractmethod
    def end_results(self) -> bool:
        """Say that no more results come; False when that must be tried again later."""

    @abstractmethod
    def close(self) -> list[str]:
        """Give back what the transport holds, when all other processes have ended.

        Returns
        -------
        list of str
            What is still there afterwards: nothing, unless something is wrong.
        """

    def report(self, event: tuple[Any, ...]) -> None:
        """Tell the conductor something."""
        self._events.put(event)

    def next_event(self, timeout: float) -> tuple[Any, ...] | None:
        """Take the next report, None when none came for `timeout` seconds."""
        try:
            event: tuple[Any, ...] = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        return event

    def wait_for_start(self) -> None:
        """Wait until all processes are ready."""
        self._gate.get()

    def start(self, processes: int) -> None:
        """Let `processes` waiting processes go."""
        for _ in range(processes):
            self._gate.put("go")
