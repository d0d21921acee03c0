"""Tables of other libraries, and numpy's other kinds of array, on their way through a pool.

Most of what pandas, pyarrow and scipy have goes through pickle's protocol 5 as it should: numpy and
Arrow hand out their memory as buffers, and the codecs do the rest. Here is what does not: one
module for each library, loaded once the program has loaded the library itself.

==================  ==============================================================================
module              what it takes apart
==================  ==============================================================================
`ndarrays`          subclasses of `numpy.ndarray`, memory maps, masked arrays
`arrow`             slices of pyarrow's arrays, which would take their whole parents along
`pandas_columns`    pandas' Arrow-backed columns, which pandas would copy to pickle them
`polars_frames`     polars' frames and series, by way of Arrow
`text`              numpy arrays of Python strings
`writable`          no library: `onecopy.writable_copy`
==================  ==============================================================================
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy.tables import ndarrays

if TYPE_CHECKING:
    from onecopy.tables.packing import Packing, Reducer

__all__ = ["meet_libraries", "reduce", "taken_apart"]

# What is taken apart here: the types, and by what, the more particular ones first.
taken_apart: tuple[type[Any], ...] = (np.ndarray,)
_reducers: tuple[tuple[type[Any], Reducer], ...] = ((np.ndarray, ndarrays.reduce),)

_waiting = {
    "numpy.ma": "onecopy.tables.ndarrays",  # numpy itself loads it when it is asked for
    "pyarrow": "onecopy.tables.arrow",
    "pandas": "onecopy.tables.pandas_columns",
    "polars": "onecopy.tables.polars_frames",
}


def meet_libraries() -> None:
    """Learn the types of libraries that the program has loaded since it was last asked.

    Any thread may call it; it is cheap, and never loads a library by itself.
    """
    if not _waiting.keys().isdisjoint(sys.modules.keys()):
        _meet()


def _meet() -> None:
    global taken_apart, _reducers
    for library in [name for name in _waiting if name in sys.modules]:
        spec = getattr(sys.modules[library], "__spec__", None)
        if getattr(spec, "_initializing", False):
            continue  # some thread is just loading it: nobody can have an object of it yet
        if _waiting.get(library) is None:
            continue  # another thread was faster
        module = importlib.import_module(_waiting[library])
        met: tuple[tuple[type[Any], Reducer], ...] = module.types_of(library)
        _reducers = (*met, *_reducers)
        taken_apart = tuple(kind for kind, _ in _reducers)
        _waiting.pop(library, None)


def reduce(obj: Any, packing: Packing) -> Any:
    """Take an object apart as its library's module says.

    Parameters
    ----------
    obj : object
        An instance of one of `taken_apart`.
    packing : Packing
        The pickler that asks.

    Returns
    -------
    tuple or NotImplemented
        As `pickle.Pickler.reducer_override` is to answer: what rebuilds it and from what, or that
        the library's own pickling does.
    """
    for kind, reducer in _reducers:
        if isinstance(obj, kind):
            return reducer(obj, packing)
    return NotImplemented
