"""Which types are taken apart here, and by what: it grows with what the program loads."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._codec import ndarrays
from onecopy._codec.packing import is_being_loaded

if TYPE_CHECKING:
    from onecopy._codec.packing import Packing, Reducer

__all__ = ["Registry", "registry"]


class Registry:
    """The types of libraries that are loaded, and the functions that take them apart.

    Any thread may use it, also in a child that was forked while another thread used it. Nothing
    here loads a library that the program has not loaded. What only has a library's name (a module
    of the program's own, a stub), or is of a version that is not known here, has no such types: its
    objects are pickled as they say themselves.

    Attributes
    ----------
    kinds : tuple of type
        Whose instances `reduce` takes.
    """

    __slots__ = ("_met", "_reducers", "_waiting", "kinds")

    def __init__(self) -> None:
        self.kinds: tuple[type[Any], ...] = ()
        self._reducers: tuple[tuple[type[Any], Reducer], ...] = ()
        self._met: dict[str, tuple[tuple[type[Any], Reducer], ...]] = {
            "numpy": ((np.ndarray, ndarrays.reduce),)
        }
        self._waiting = {
            "numpy.ma": "onecopy._codec.ndarrays",  # numpy loads it when it is asked for
            "pyarrow": "onecopy.tables.arrow",
            "pandas": "onecopy.tables.pandas_columns",
            "polars": "onecopy.tables.polars_frames",
            "torch": "onecopy.tables.tensors",
        }
        self._arrange()

    def refresh(self) -> None:
        """Learn the types of libraries that the program has loaded since; costs next to nothing."""
        if not self._waiting.keys().isdisjoint(sys.modules.keys()):
            self._meet()

    def has(self, library: str) -> bool:
        """Tell whether a library is loaded, and is what its name says."""
        return bool(self._met.get(library))

    def _meet(self) -> None:
        for library, ours in list(self._waiting.items()):
            # Some thread may be just loading it: nobody can have an object of it yet.
            if getattr(sys.modules.get(library), "__spec__", None) is None:
                continue
            if is_being_loaded(library) or (_forked and is_being_loaded(ours)):
                continue
            self._met[library] = _types_of(library, ours)
            self._arrange()
            self._waiting.pop(library, None)

    def _arrange(self) -> None:
        # No lock, which a fork could leave taken: who finds that another thread has added something
        # meanwhile arranges it once more.
        while True:
            met = list(self._met.values())
            met.reverse()  # the more particular types first: masked arrays are arrays
            self._reducers = tuple(pair for types in met for pair in types)
            self.kinds = tuple(kind for kind, _ in self._reducers)
            if len(met) == len(self._met):
                return

    def reduce(self, obj: Any, packing: Packing) -> Any:
        """Take an object apart as its library's module says.

        Parameters
        ----------
        obj : object
            An instance of one of `kinds`.
        packing : Packing
            The pickler that asks.

        Returns
        -------
        tuple or NotImplemented
            As `pickle.Pickler.reducer_override` is to answer: what rebuilds it and from what, or
            that the library's own pickling does.
        """
        for kind, reducer in self._reducers:
            if isinstance(obj, kind):
                return reducer(obj, packing)
        return NotImplemented


def _types_of(library: str, module: str) -> tuple[tuple[type[Any], Reducer], ...]:
    try:
        types: tuple[tuple[type[Any], Reducer], ...]
        types = importlib.import_module(module).types_of(library)
        issubclass(object, tuple(kind for kind, _ in types))  # a TypeError for what is no type
    except Exception as error:  # noqa: BLE001 - whatever somebody's module does
        import logging  # not on the way of those who need it not

        logging.getLogger("onecopy").info(
            "process %d has loaded a module %r (%s) that is not that library, or one of a version "
            "that this onecopy does not know: objects of it are pickled as it says itself (%r)",
            os.getpid(),
            library,
            getattr(sys.modules.get(library), "__file__", None),
            error,
        )
        return ()
    return types


# In a child, a module that another thread was loading when it was forked stays half loaded, and
# locked: importing it would wait for ever.
_forked = False


def _note_fork() -> None:
    global _forked  # noqa: PLW0603 - of the process
    _forked = True


os.register_at_fork(after_in_child=_note_fork)

registry = Registry()
