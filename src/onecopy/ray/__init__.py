"""Ray's tasks and actors of one host, which share large arrays by onecopy.

>>> import onecopy.ray  # doctest: +SKIP
>>> onecopy.ray.init()  # instead of ray.init()  # doctest: +SKIP

An array that lies in the pool then travels through Ray by its place. Nothing else changes.
"""

from __future__ import annotations

try:
    from ray import put as _put  # a folder of that name has none
except ImportError as _error:
    raise ImportError(
        "onecopy.ray is for Ray, which is not installed: pip install 'onecopy[ray]'"
    ) from _error

from onecopy.ray.counts import Counts, counts
from onecopy.ray.switch import enabled, init, setup
from onecopy.ray.versions import TESTED, UntestedVersionWarning

__all__ = [
    "TESTED",
    "Counts",
    "UntestedVersionWarning",
    "counts",
    "enabled",
    "init",
    "setup",
]

del _put
