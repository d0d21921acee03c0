"""The same transport over multiprocessing.Queue: every picture is pickled through a pipe."""

from __future__ import annotations

import multiprocessing
import queue
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onecopy.demo.transport import Transport

if TYPE_CHECKING:
    from onecopy.demo.transport import Image, Item, Layout

    Channel: TypeAlias = multiprocessing.Queue[Item | None]


class QueueTransport(Transport):
    """Queues of the standard library. They are as deep as the set of frames of the other transport.

    Parameters
    ----------
    layout : Layout
        The room that the run needs.
    """

    name = "multiprocessing.Queue"
    # The sender pickles the pixels into a byte string and writes the string into a pipe. The
    # receiver reads the string and unpickles it. Each of the four steps is at least one copy.
    # (CPython makes two more, inside pickling and in its read buffer. They are not counted.)
    copies_per_hop = 4

    def __init__(self, layout: Layout) -> None:
        context = multiprocessing.get_context("spawn")
        self._pictures: Channel = context.Queue(layout.depth)
        self._results: Channel = context.Queue(layout.depth)
        self._control = context.Queue(), context.Queue()
        super().__init__(*self._control)

    def picture_memory(self, nbytes: int) -> Image:
        """Allocate new memory: `put` pickles later, in a thread, so memory cannot be used again."""
        return np.empty(nbytes, np.uint8)

    def result_memory(self, shape: tuple[int, int, int]) -> Image:
        """Allocate new memory."""
        return np.empty(shape, np.uint8)

    def send_picture(self, item: Item) -> None:
        """Give the picture to the queue's thread, which pickles it into a pipe."""
        self._pictures.put(item)

    def next_picture(self) -> Item | None:
        """Read a picture from the pipe and unpickle it."""
        return _take(self._pictures)

    def end_pictures(self) -> bool:
        """Put the end mark."""
        return _end(self._pictures)

    def send_result(self, item: Item) -> None:
        """Give the result to the queue's thread, which pickles it into a pipe."""
        self._results.put(item)

    def next_result(self) -> Item | None:
        """Read a result from the pipe and unpickle it."""
        return _take(self._results)

    def end_results(self) -> bool:
        """Put the end mark."""
        return _end(self._results)

    def close(self) -> list[str]:
        """Close the pipes, also if they are not empty."""
        for channel in (self._pictures, self._results, *self._control):
            channel.cancel_join_thread()
            channel.close()
        return []


def _take(channel: Channel) -> Item | None:
    item = channel.get()
    if item is None:
        channel.put(None)  # there is one end mark; each consumer puts it back for the next one
    return item


def _end(channel: Channel) -> bool:
    try:
        channel.put_nowait(None)
    except queue.Full:
        return False
    return True
