"""Dask workers of one host that share large data by onecopy, instead of sending it.

>>> import onecopy.dask  # doctest: +SKIP
>>> onecopy.dask.enable(size="8GiB")  # before the cluster is made  # doctest: +SKIP
>>> client = Client()  # as ever  # doctest: +SKIP

For a cluster that runs already: ``onecopy.dask.attach(client)``. For processes that are started by
hand: ``dask worker --preload onecopy.dask``, and the same for the scheduler.
"""

from __future__ import annotations

try:
    import distributed as _distributed
except ImportError as _error:
    raise ImportError(
        "onecopy.dask is for Dask's distributed, which is not installed: "
        "pip install 'onecopy[dask]'"
    ) from _error

from onecopy.dask.counts import Counts, counts
from onecopy.dask.sides import dask_setup
from onecopy.dask.switch import attach, disable, enable, enabled
from onecopy.dask.versions import TESTED, UntestedVersionWarning

__all__ = [
    "TESTED",
    "Counts",
    "UntestedVersionWarning",
    "attach",
    "counts",
    "dask_setup",
    "disable",
    "enable",
    "enabled",
]

del _distributed
