"""Functions and classes that a worker cannot import, sent by value with cloudpickle.

Pickle sends a function by its name. A lambda, a function within a function, and what was typed into
a notebook have none that a worker could look up. cloudpickle, which is optional, sends their code.
"""

from __future__ import annotations

import pickle
from collections import ChainMap
from typing import TYPE_CHECKING, Any

from onecopy._codec import pickler
from onecopy._workers.pickling import CallPickler

try:
    import cloudpickle  # type: ignore[import-untyped, unused-ignore]  # it has no types
except ImportError:
    # What comes with older releases of joblib; if there is none, importing this module fails.
    from joblib.externals import cloudpickle  # type: ignore[no-redef, unused-ignore]

if TYPE_CHECKING:
    import io

    from onecopy._native import Member
    from onecopy._workers.pickling import Part

__all__ = ["Function", "ValuePickler"]

# Its own first, then what is registered with copyreg or with multiprocessing.
_TABLE: Any = ChainMap(cloudpickle.Pickler.dispatch_table, pickler._reducers)


class ValuePickler(CallPickler, cloudpickle.Pickler):  # type: ignore[misc, unused-ignore]  # it has no types
    """Pickle as an executor does, and any function and class.

    Parameters
    ----------
    file, buffers, member, keeps
        As for any `CallPickler`.
    """

    def __init__(
        self, file: io.BytesIO, buffers: list[Part], member: Member, keeps: bool = False
    ) -> None:
        super().__init__(file, buffers, member, keeps)
        # The compiled pickler looks at its own slot, which cloudpickle's class attribute hides.
        pickle.Pickler.dispatch_table.__set__(self, _TABLE)  # type: ignore[attr-defined]  # a slot

    def reducer_override(self, obj: Any) -> Any:
        """Take apart what the executor's pickler, or else cloudpickle, has a way for."""
        reduced = CallPickler.reducer_override(self, obj)
        if reduced is NotImplemented:
            return cloudpickle.Pickler.reducer_override(self, obj)
        return reduced


class Function:
    """A function that is pickled by value, where any pickle is at work: a process's arguments."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __reduce__(self) -> Any:
        return cloudpickle.loads, (cloudpickle.dumps(self._function),)
