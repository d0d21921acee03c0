"""Decodes a picture file directly into existing memory.

``cv2.imread(path, dst)`` fills a contiguous array of the right shape and copies nothing. But it has
two problems:

* If it cannot read the file, it returns `dst` unchanged, with the earlier picture in it. So this
  module writes a random mark at both ends of the memory. If a mark is still there afterwards,
  nothing was decoded, or decoding stopped half-way.
* Older releases of OpenCV have no `dst`, and a photograph with an EXIF rotation is decoded into a
  new array. Then this module copies the picture, and counts the copy.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from onecopy.demo.errors import UnreadablePictureError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Image: TypeAlias = npt.NDArray[np.uint8]

_MARK = 16  # bytes; long enough that no picture contains the same bytes by chance


def decode_into(path: str, target: Image) -> int:
    """Decode the picture at `path` into `target`.

    Parameters
    ----------
    path : str
        A picture file that OpenCV reads.
    target : numpy.ndarray
        Contiguous memory of shape (height, width, 3), uint8. Colours are in OpenCV's order, BGR.

    Returns
    -------
    int
        How many copies of the picture were made after decoding: 0, or 1 if OpenCV could not decode
        in place.

    Raises
    ------
    UnreadablePictureError
        The file is missing, damaged, or has another shape than `target`.
    """
    flat = target.reshape(-1)
    head, tail = flat[:_MARK], flat[-_MARK:]
    mark = np.frombuffer(os.urandom(_MARK), np.uint8)[: flat.size]
    head[:] = mark
    tail[:] = mark
    head_before = head.copy()  # the two overlap in a tiny picture
    with codec_warnings_hidden():
        try:
            decoded = cv2.imread(path, target, cv2.IMREAD_COLOR)
        except (cv2.error, TypeError):
            decoded = None
        if decoded is not None and np.shares_memory(decoded, target):
            if np.array_equal(head, head_before) or np.array_equal(tail, mark):
                raise UnreadablePictureError(path)
            return 0
        picture = cv2.imread(path, cv2.IMREAD_COLOR)
    if picture is None or picture.shape != target.shape:
        raise UnreadablePictureError(path)
    np.copyto(target, np.asarray(picture, np.uint8))
    return 1


@contextlib.contextmanager
def codec_warnings_hidden() -> Iterator[None]:
    """Prevent libpng, libjpeg and FFmpeg from writing into the progress bars.

    They print to file descriptor 2 from C, and no setting of OpenCV changes this. The demo itself
    reports what is important.
    """
    saved = os.dup(2)
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
