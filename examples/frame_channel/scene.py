"""A simulated camera: a moving picture in which the pixels depend on the frame number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SHAPE = (720, 1080, 3)

Frame = npt.NDArray[np.uint8]


def draw(number: int, frame: Frame) -> None:
    """Draw frame `number` into existing memory, as a camera's driver would."""
    height, width = frame.shape[:2]
    # Diagonal colours that move from frame to frame. Every pixel depends on the number, so
    # `is_frame` detects a frame that mixes two frames, or is incomplete.
    columns = np.arange(width, dtype=np.uint16) + 3 * number
    rows = np.arange(height, dtype=np.uint16)[:, None]
    frame[..., 0] = columns + rows
    frame[..., 1] = columns * 2
    frame[..., 2] = rows + 5 * number


def is_frame(number: int, frame: Frame) -> bool:
    """Tell whether each pixel of `frame` is as `draw` makes it for `number`."""
    expected = np.empty(frame.shape, np.uint8)
    draw(number, expected)
    return np.array_equal(frame, expected)
