"""The OpenCV pipeline for every picture: resize, blur, Canny, draw the edges."""

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
    """Return the shape of the result for a picture of `height` x `width` pixels.

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
        Returns writable memory of a given shape, for the result.

    Returns
    -------
    numpy.ndarray
        The memory from `result_memory`. The last steps of the pipeline write directly into it,
        without another copy.
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
    """Make a picture that has only the edges' colour. It is made once for each shape."""
    return np.full(shape, _EDGE_COLOUR, np.uint8)
