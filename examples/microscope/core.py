"""A stand-in for a microscope's camera, with the calls of pymmcore that `acquire.py` uses.

With a microscope: ``import pymmcore``, and ``core = pymmcore.CMMCore()`` with your configuration.
"""

from __future__ import annotations

import threading
import time
from collections import deque

import numpy as np


class CMMCore:
    """Takes pictures in a thread, and keeps those that were not fetched, as the real one does."""

    def __init__(self, images_in_buffer: int = 64, size: int = 512) -> None:
        self._buffer: deque[np.ndarray] = deque()
        self._limit = images_in_buffer
        self._scene = np.random.default_rng(7).integers(100, 4000, (size, size), np.uint16)
        self._overflowed = False
        self._camera: threading.Thread | None = None

    def startSequenceAcquisition(self, count: int, interval_ms: float, _stop: bool) -> None:  # noqa: N802
        self._camera = threading.Thread(target=self._run, args=(count, interval_ms / 1000))
        self._camera.start()

    def _run(self, count: int, interval: float) -> None:
        start = time.monotonic()
        for number in range(count):
            time.sleep(max(0, start + number * interval - time.monotonic()))
            if len(self._buffer) == self._limit:
                self._overflowed = True  # an image is lost
                continue
            image = self._scene.copy()
            image[0, 0] = number
            self._buffer.append(image)

    def isSequenceRunning(self) -> bool:  # noqa: N802
        return self._camera is not None and self._camera.is_alive()

    def isBufferOverflowed(self) -> bool:  # noqa: N802
        return self._overflowed

    def getRemainingImageCount(self) -> int:  # noqa: N802
        return len(self._buffer)

    def getBufferTotalCapacity(self) -> int:  # noqa: N802
        return self._limit

    def popNextImage(self) -> np.ndarray:  # noqa: N802
        return self._buffer.popleft()

    def getImageHeight(self) -> int:  # noqa: N802
        return self._scene.shape[0]

    def getImageWidth(self) -> int:  # noqa: N802
        return self._scene.shape[1]
