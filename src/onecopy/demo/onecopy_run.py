"""The transport written with onecopy: a picture stays where it was decoded, its address travels."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import onecopy as oc
from onecopy.demo.transport import Item, Transport

if TYPE_CHECKING:
    from onecopy.demo.transport import Image, Layout

_MIB = 1 << 20


class OneCopyTransport(Transport):
    """Frames, results and messages in one pool.

    Parameters
    ----------
    layout : Layout
        How much room the run needs.
    """

    name = "onecopy"
    copies_per_hop = 0

    def __init__(self, layout: Layout) -> None:
        # Results in flight: those on the queue, one in each process's hands, and the one being
        # made. Half as much again leaves the heap room to place them.
        results = (layout.depth + 2 * layout.processes) * layout.result_bytes * 3 // 2
        self._pool = oc.Pool.create(size=layout.depth * layout.picture_bytes + results + 64 * _MIB)
        super().__init__(
            events=self._pool.queue("events", maxsize=1024),
            gate=self._pool.queue("gate", maxsize=1024),
        )
        # Each frame is a row of bytes as long as the largest picture, whatever its proportions:
        # the beginning of it, reshaped, is a contiguous picture of any smaller size.
        self._frames = self._pool.frames(
            "frames", shape=(layout.picture_bytes,), dtype="uint8", count=layout.depth
        )
        self._pictures = self._pool.queue("pictures", maxsize=layout.depth)
        self._results = self._pool.queue("results", maxsize=layout.depth)

    def picture_memory(self, nbytes: int) -> Image:
        """Acquire a frame, waiting until one is home; its beginning is long enough."""
        return cast("Image", self._frames.acquire()[:nbytes])

    def result_memory(self, shape: tuple[int, int, int]) -> Image:
        """Allocate in the pool."""
        return cast("Image", self._pool.empty(shape, "uint8"))

    def send_picture(self, item: Item) -> None:
        """Hand over the frame's address."""
        self._pictures.put(tuple(item))

    def next_picture(self) -> Item | None:
        """Take a view of a frame; the frame goes home when the view is let go."""
        return _take(self._pictures)

    def end_pictures(self) -> bool:
        """Let workers take what is left, and tell each of them when nothing is."""
        self._pictures.shutdown()
        return True

    def send_result(self, item: Item) -> None:
        """Hand over the result's address."""
        self._results.put(tuple(item))

    def next_result(self) -> Item | None:
        """Take a view of a result; its memory is free when the view is let go."""
        return _take(self._results)

    def end_results(self) -> bool:
        """Let the writer take what is left, and tell it when nothing is."""
        self._results.shutdown()
        return True

    def close(self) -> list[str]:
        """Leave the pool, which goes with its last process; check that it is gone."""
        name = self._pool.name
        self._pool.close()
        try:
            oc.Pool.open(name).unlink()
        except oc.PoolNotFound:
            return []
        return [name]


def _take(channel: oc.Queue) -> Item | None:
    try:
        return Item(*channel.get())
    except oc.ShutDown:
        return None
