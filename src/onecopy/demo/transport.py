"""The interface that producers, workers and the writer need from a transport.

`onecopy.demo.onecopy_run` and `onecopy.demo.baseline_run` implement it. Nothing else differs: both
run the roles of `onecopy.demo.roles` on the same pictures.
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
    """A picture or a result that is sent to another process.

    Attributes
    ----------
    number : int
        The frame's number in this run: 0, 1, 2, …
    picture : int
        The index of the picture in the source. After the last picture the source starts again.
    image : numpy.ndarray
        (height, width, 3) uint8.
    """

    number: int
    picture: int
    image: Image


class Layout(NamedTuple):
    """The room that a run needs.

    Attributes
    ----------
    depth : int
        The greatest number of pictures in transit, and of results.
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
    """The methods of a queue for small messages. The queues of both libraries have them."""

    def put(self, obj: Any) -> None:
        """Send."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Receive. Raises `queue.Empty` if nothing arrives within `timeout` seconds."""


class Transport(ABC):
    """Carries pictures to workers, results to the writer, and reports to the conductor.

    Each process gets it as an argument of `multiprocessing.Process`.

    Parameters
    ----------
    events : Messages
        The queue for reports to the conductor.
    gate : Messages
        The queue with one message for each process that may start.
    """

    name: ClassVar[str]
    copies_per_hop: ClassVar[int]
    """Copies of the pixels for each transfer of an array to another process."""

    def __init__(self, events: Messages, gate: Messages) -> None:
        self._events = events
        self._gate = gate

    @abstractmethod
    def picture_memory(self, nbytes: int) -> Image:
        """Return `nbytes` of writable, contiguous memory for a picture. This may wait."""

    @abstractmethod
    def result_memory(self, shape: tuple[int, int, int]) -> Image:
        """Return writable memory for a result."""

    @abstractmethod
    def send_picture(self, item: Item) -> None:
        """Send a picture to the workers. This waits while `depth` pictures are in transit."""

    @abstractmethod
    def next_picture(self) -> Item | None:
        """Receive the next picture, or None after the last one."""

    @abstractmethod
    def end_pictures(self) -> bool:
        """Announce that no more pictures come. False: this must be tried again later."""

    @abstractmethod
    def send_result(self, item: Item) -> None:
        """Send a result to the writer. This waits while `depth` results are in transit."""

    @abstractmethod
    def next_result(self) -> Item | None:
        """Receive the next result, or None after the last one."""

    @abstractmethod
    def end_results(self) -> bool:
        """Announce that no more results come. False: this must be tried again later."""

    @abstractmethod
    def close(self) -> list[str]:
        """Release everything that the transport holds, when all other processes have ended.

        Returns
        -------
        list of str
            What still exists afterwards. It is empty, unless something is wrong.
        """

    def report(self, event: tuple[Any, ...]) -> None:
        """Send a report to the conductor."""
        self._events.put(event)

    def next_event(self, timeout: float) -> tuple[Any, ...] | None:
        """Receive the next report, or None if none arrives within `timeout` seconds."""
        try:
            event: tuple[Any, ...] = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        return event

    def wait_for_start(self) -> None:
        """Wait until all processes are ready."""
        self._gate.get()

    def start(self, processes: int) -> None:
        """Start `processes` waiting processes."""
        for _ in range(processes):
            self._gate.put("go")
