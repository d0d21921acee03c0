"""Methods of the core's classes pickle and copy as Python's own methods do.

So ``Process(target=queue.put)``, ``functools.partial(event.set)`` and ``executor.submit(ref.get)``
work. nanobind, which makes these methods, gives them no way to be pickled.

Importing this module registers it.
"""

from __future__ import annotations

import copyreg
from typing import Any

from onecopy._native import QueueBase

__all__: list[str] = []


def _reduce_bound(method: Any) -> tuple[Any, ...]:
    """Take apart ``queue.put``: the queue, and the name."""
    return getattr, (method.__self__, method.__name__)


def _reduce_function(function: Any) -> str:
    """Take apart ``Queue.put``: found again by its module and qualified name."""
    name: str = function.__qualname__
    return name


# Neither type has a name that could be imported.
_put: Any = QueueBase.put
copyreg.pickle(type(_put.__get__(object(), object)), _reduce_bound)
copyreg.pickle(type(_put), _reduce_function)
