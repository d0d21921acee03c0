"""The registry of codecs: which code takes which objects apart. It knows none of that code.

The package that has a codec registers it when it is imported:

==========================  =======================================  ==========================
what registers              with                                     where
==========================  =======================================  ==========================
types of a library          `register`                               `_codec.ndarrays` (numpy),
                                                                     `tables.registration`
memory in mapped files      `register_files`                         `files.passing`
==========================  =======================================  ==========================

A codec for a library is registered by the name of the library, and by the names of modules of the
package that registers it. These modules are imported when the program has loaded the library and
sends something. So `import onecopy` loads no other library.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from onecopy._codec.packing import is_being_loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from onecopy._codec.packing import Packing, Reducer

__all__ = [
    "Codec",
    "MemoryInFiles",
    "Registry",
    "codecs",
    "has_tables",
    "register",
    "register_files",
    "registry",
]


class Codec(NamedTuple):
    """The code for the types of one library, as it was registered; see `register`."""

    reducers: str | None
    built: str | None
    builders: Mapping[int, str]
    tables: bool


class MemoryInFiles(NamedTuple):
    """Functions that know which memory lies in a mapped file. It travels by the file's name."""

    reduce_array: Callable[[npt.NDArray[Any]], tuple[Any, ...] | None]
    span_of: Callable[[memoryview[Any]], tuple[Any, ...] | None]
    bytes_of: Callable[..., memoryview[Any]]


codecs: dict[str, Codec] = {}  # by the name of the library; only `register` changes it


def register(
    library: str,
    *,
    reducers: str | None = None,
    built: str | None = None,
    builders: Mapping[int, str] | None = None,
    tables: bool = False,
) -> None:
    """Register the code that takes the types of a library apart.

    The modules are imported when the program has loaded the library. If that raises an error, the
    library's objects are pickled in their own way.

    Parameters
    ----------
    library : str
        The name of the library's module. It is in `sys.modules` when the library is loaded.
    reducers : str, optional
        The module for types that travel in a pickle. Its function ``types_of(library)`` returns
        pairs of a type and a `Reducer`.
    built : str, optional
        The module for types that travel without pickle; see `_codec.built`. Its function
        ``types_of()`` returns a dict: for each type the function that takes objects apart.
    builders : mapping of int to str, optional
        The functions of the module `built` that put such objects together again, by their numbers.
        A number is part of messages, so it never gets another meaning.
    tables : bool
        Whether the library has tables. The extra "tables" installs such a library, and its objects
        own memory that is not the memory of an array.

    Raises
    ------
    ValueError
        If the library, or the number of a builder, is registered already.
    """
    taken = [number for codec in codecs.values() for number in codec.builders]
    ours = dict(builders or {})
    if library in codecs or not ours.keys().isdisjoint(taken):
        raise ValueError(f"{library!r}, or one of the builders {[*ours]}, is registered already")
    codecs[library] = Codec(reducers, built, ours, tables)
    if reducers is not None:
        registry.expect(library, reducers)


def has_tables(library: str) -> bool:
    """Tell whether a library is one of those with tables; see `register`."""
    codec = codecs.get(library)
    return codec is not None and codec.tables


def register_files(files: MemoryInFiles) -> None:
    """Register the functions for memory in mapped files. A process that has mapped one does so."""
    registry.files = files


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
    files : MemoryInFiles or None
        None: this process has not mapped a file.
    """

    __slots__ = ("_loaded", "_reducers", "_waiting", "files", "kinds")

    def __init__(self) -> None:
        self.kinds: tuple[type[Any], ...] = ()
        self.files: MemoryInFiles | None = None
        self._reducers: tuple[tuple[type[Any], Reducer], ...] = ()
        self._loaded: dict[str, tuple[tuple[type[Any], Reducer], ...]] = {}
        self._waiting = {
            library: codec.reducers for library, codec in codecs.items() if codec.reducers
        }

    def expect(self, library: str, module: str) -> None:
        """Take the types of a library from this module, when the program has loaded the library."""
        self._waiting[library] = module

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
