"""Which types are taken apart here, and by what: it grows with what the program loads."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy.tables import ndarrays

if TYPE_CHECKING:
    from onecopy.tables.packing import Packing, Reducer

__all__ = ["Registry", "registry"]


class Registry:
    """The types of libraries that are loaded, and the functions that take them apart.

    Any thread may use it. Nothing here loads a library that the program has not loaded.

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
            "numpy.ma": "ndarrays",  # numpy loads it when it is asked for
            "pyarrow": "arrow",
            "pandas": "pandas_columns",
            "polars": "polars_frames",
        }
        self._arrange()

    def refresh(self) -> None:
        """Learn the types of libraries that the program has loaded since; costs next to nothing."""
        if not self._waiting.keys().isdisjoint(sys.modules.keys()):
            self._meet()

    def _meet(self) -> None:
        for library, module in list(self._waiting.items()):
            spec = getattr(sys.modules.get(library), "__spec__", None)
            if spec is None or getattr(spec, "_initializing", False):
                continue  # some thread may be just loading it: nobody can have an object of it yet
            self._met[library] = importlib.import_module(f"onecopy.tables.{module}").types_of(
                library
            )
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


registry = Registry()
