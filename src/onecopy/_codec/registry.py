"""The types that onecopy takes apart, and by which functions. It grows as libraries are loaded."""

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

    Any thread may use it, also in a child that was forked while another thread used it. It loads no
    library that the program has not loaded. A module that only has a library's name (a module of
    the program, a stub), or an unknown version of a library, has no such types. Objects of it are
    pickled in their own way.

    Attributes
    ----------
    kinds : tuple of type
        The types whose instances `reduce` accepts.
    """

    __slots__ = ("_loaded", "_reducers", "_waiting", "kinds")

    def __init__(self) -> None:
        self.kinds: tuple[type[Any], ...] = ()
        self._reducers: tuple[tuple[type[Any], Reducer], ...] = ()
        self._loaded: dict[str, tuple[tuple[type[Any], Reducer], ...]] = {
            "numpy": ((np.ndarray, ndarrays.reduce),)
        }
        self._waiting = {
            "numpy.ma": "onecopy._codec.ndarrays",  # numpy loads it on first use
            "pyarrow": "onecopy.tables.arrow",
            "pandas": "onecopy.tables.pandas_columns",
            "polars": "onecopy.tables.polars_frames",
            "torch": "onecopy.tables.tensors",
        }
        self._arrange()

    def refresh(self) -> None:
        """Add the types of libraries that the program has loaded since. The cost is negligible."""
        if not self._waiting.keys().isdisjoint(sys.modules.keys()):
            self._add_loaded()

    def has(self, library: str) -> bool:
        """Tell whether a library is loaded, and is not another module of the same name."""
        return bool(self._loaded.get(library))

    def _add_loaded(self) -> None:
        for library, ours in list(self._waiting.items()):
            # A thread may be importing it. No object of it can exist yet.
            if getattr(sys.modules.get(library), "__spec__", None) is None:
                continue
            if is_being_loaded(library) or (_forked and is_being_loaded(ours)):
                continue
            self._loaded[library] = _types_of(library, ours)
            self._arrange()
            self._waiting.pop(library, None)

    def _arrange(self) -> None:
        # There is no lock, because a fork could leave it locked. If another thread has added a
        # library meanwhile, the loop runs again.
        while True:
            loaded = list(self._loaded.values())
            loaded.reverse()  # the more specific types first: masked arrays are arrays
            self._reducers = tuple(pair for types in loaded for pair in types)
            self.kinds = tuple(kind for kind, _ in self._reducers)
            if len(loaded) == len(self._loaded):
                return

    def reduce(self, obj: Any, packing: Packing) -> Any:
        """Take an object apart by the function for its library.

        Parameters
        ----------
        obj : object
            An instance of one of `kinds`.
        packing : Packing
            The pickler that calls.

        Returns
        -------
        tuple or NotImplemented
            A result for `pickle.Pickler.reducer_override`: the function that rebuilds the object
            and its arguments; or NotImplemented, if the library's own pickling does it.
        """
        for kind, reducer in self._reducers:
            if isinstance(obj, kind):
                return reducer(obj, packing)
        return NotImplemented


def _types_of(library: str, module: str) -> tuple[tuple[type[Any], Reducer], ...]:
    try:
        types: tuple[tuple[type[Any], Reducer], ...]
        types = importlib.import_module(module).types_of(library)
        issubclass(object, tuple(kind for kind, _ in types))  # a TypeError if it is not a type
    except Exception as error:  # noqa: BLE001 - a foreign module may raise anything
        import logging  # only when needed, so that imports stay fast

        logging.getLogger("onecopy").info(
            "process %d has loaded a module %r (%s) that is not that library, or is a version of "
            "it that this onecopy does not know. Its objects are pickled in their own way (%r)",
            os.getpid(),
            library,
            getattr(sys.modules.get(library), "__file__", None),
            error,
        )
        return ()
    return types


# If another thread was importing a module at the fork, the module stays half loaded in the child,
# and locked: importing it would wait for ever.
_forked = False


def _note_fork() -> None:
    global _forked  # noqa: PLW0603 - of the process
    _forked = True


os.register_at_fork(after_in_child=_note_fork)

registry = Registry()
