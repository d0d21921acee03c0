"""Type variables of the generic classes: `Queue[int]`, `Ref[T]`, `Dict[str, float]`.

If a type argument is left out, a type checker uses `Any`. So a bare `Queue` is a queue of any
objects. Python has such defaults from 3.13 on. At run time these variables have no defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
    Scalar = TypeVar("Scalar", bound=np.generic, default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")
    K = TypeVar("K")
    V = TypeVar("V")
    Scalar = TypeVar("Scalar")

__all__ = ["K", "Scalar", "T", "V"]
