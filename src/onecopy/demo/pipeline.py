"""The OpenCV work done on every picture: resize, blur, Canny, and the edges drawn over it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Image: TypeAlias = npt.NDArray[np.uint8]

LONGEST_SIDE = 640  # pixels of a result's longer side, at most
_EDGE_COLOUR = (0, 215, 255)  # amber, in OpenCV's order: blue, green, red

ResultMemory = Callable[[tuple[int, int, int]], "Image"]


def result_shape(height: int, width: int) -> tuple[int, int, int]:
    """Tell the shape of the result for a picture of `height` x `width` pixels.

    Returns
    -------
    tuple of int
        (height, width, 3), the longer side at most `LONGEST_SIDE`; pictures are not enlarged.
    """
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale)), 3


def find_edges(picture: Image, result_memory: ResultMemory) -> Image:
    """Shrink `picture`, find its edges, and draw them over a dimmed version of it.

    Parameters
    ----------
    picture : numpy.ndarray
        (height, width, 3) uint8, BGR; only read.
    result_memory : callable
        Gives writable memory for a shape: where the result shall be written.

    Returns
    -------
    numpy.ndarray
        The memory that `result_memory` gave, filled by the last steps of the work: nothing is
        copied there afterwards.
    """
    height, width = picture.shape[:2]
    shape = result_shape(height, width)
    small = cv2.resize(picture, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    blurred = cv2.GaussianBlur(grey, (5, 5), 1.4)
    edges = cv2.Canny(blurred, 60, 140)
    result = result_memory(shape)
    cv2.convertScaleAbs(small, dst=result, alpha=0.45)
    cv2.copyTo(_plain(shape), edges, result)
    return result


@functools.lru_cache(maxsize=16)
def _plain(shape: tuple[int, int, int]) -> Image:
    """Make a picture of nothing but the edges' colour; it is made once for each shape."""
    return np.full(shape, _EDGE_COLOUR, np.uint8)
