"""The transport written with onecopy: a picture stays in place, and a reference travels."""

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
        The room that the run needs.
    """

    name = "onecopy"
    copies_per_hop = 0

    def __init__(self, layout: Layout) -> None:
        # Results in transit: those on the queue, and two for each process (the one it holds and the
        # one it makes). Half as much again, because the heap needs free space to place them.
        results = (layout.depth + 2 * layout.processes) * layout.result_bytes * 3 // 2
        self._pool = oc.Pool.create(size=layout.depth * layout.picture_bytes + results + 64 * _MIB)
        super().__init__(
            events=self._pool.queue("events", maxsize=1024),
            gate=self._pool.queue("gate", maxsize=1024),
        )
        # Each frame is a row of bytes as long as the largest picture. Its beginning, reshaped, is a
        # contiguous picture of any smaller size.
        self._frames = self._pool.frames(
            "frames", shape=(layout.picture_bytes,), dtype="uint8", count=layout.depth
        )
        self._pictures = self._pool.queue("pictures", maxsize=layout.depth)
        self._results = self._pool.queue("results", maxsize=layout.depth)

    def picture_memory(self, nbytes: int) -> Image:
        """Acquire a frame, wait until one is free, and return its beginning."""
        return cast("Image", self._frames.acquire()[:nbytes])

    def result_memory(self, shape: tuple[int, int, int]) -> Image:
        """Allocate in the pool."""
        return cast("Image", self._pool.empty(shape, "uint8"))

    def send_picture(self, item: Item) -> None:
        """Send a reference to the frame."""
        self._pictures.put(tuple(item))

    def next_picture(self) -> Item | None:
        """Receive a view of a frame. The frame becomes free when the view is released."""
        return _take(self._pictures)

    def end_pictures(self) -> bool:
        """Shut the queue down: workers take the remaining pictures, and then get None."""
        self._pictures.shutdown()
        return True

    def send_result(self, item: Item) -> None:
        """Send a reference to the result."""
        self._results.put(tuple(item))

    def next_result(self) -> Item | None:
        """Receive a view of a result. Its memory becomes free when the view is released."""
        return _take(self._results)

    def end_results(self) -> bool:
        """Shut the queue down: the writer takes the remaining results, and then gets None."""
        self._results.shutdown()
        return True

    def close(self) -> list[str]:
        """Leave the pool, which is removed with its last process; check that it is gone."""
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
