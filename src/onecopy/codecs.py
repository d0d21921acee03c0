"""Objects to bytes and back, with the large parts left where they are.

None, bool, int, float, str, bytes, small tuples of them, and arrays by themselves are encoded by the
native core. This module does the rest with pickle's protocol 5: what it yields is a short pickle and a
list of buffers. The core copies a buffer into the pool, unless it already lies there: then only its
place travels.

Arrays inside other objects (`{"id": 7, "image": image}`, a list of them, a data frame's columns):

========================================  =======================================================
array                                     how it travels
========================================  =======================================================
in a pool, any strides                    by reference: block, offset, strides; nothing is copied
elsewhere, 4 KiB or more                  one copy into the pool (C order, or F if it is F-contiguous)
elsewhere, less than 4 KiB                inside the pickle; the receiver gets a private, writable copy
of Python objects, or a subclass          as pickle does it
========================================  =======================================================

What lies in a pool is read-only for the receiver, except a `SharedArray`.
"""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._native import Lease
from onecopy.arrays import SharedArray, lease_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from typing_extensions import Buffer

__all__ = ["OUT_OF_BAND", "decode", "encode"]

OUT_OF_BAND = 4096  # bytes from which a buffer leaves the pickle

