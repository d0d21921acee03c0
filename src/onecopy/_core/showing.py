"""Messages of any type as one line of text."""

from __future__ import annotations

import reprlib
from itertools import islice
from typing import Any

import numpy as np

__all__ = ["described"]

_WIDTH = 100  # characters of a value that is not an array
_WITH_RANGE = "biufmM"  # kinds of dtypes that have a smallest and a largest element
_LARGEST = 1 << 26  # bytes of an array of which all elements are looked at


class _Shortened(reprlib.Repr):
    """Represents values by few characters, and arrays by their description."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 6
        self.maxstring = self.maxother = self.maxlong = 60

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, np.ndarray):
            return f"<{_of_array(x)}>"
        return super().repr1(x, level)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """As in reprlib, which sorts the keys. Here they keep their order."""
        if x and level <= 0:
            return f"{{{self.fillvalue}}}"
        pairs = [
            f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}"
            for key, value in islice(x.items(), self.maxdict)
        ]
        if len(x) > self.maxdict:
            pairs.append(self.fillvalue)
        return f"{{{', '.join(pairs)}}}"


_shortened = _Shortened()


def described(value: Any) -> str:
    """Describe a message in one line.

    Parameters
    ----------
    value : object
        Any message.

    Returns
    -------
    str
        About 100 characters at most.
    """
    if isinstance(value, np.ndarray):
        return _of_array(value)
    try:
        text = _shortened.repr(value)
    except Exception as error:  # noqa: BLE001 - a __repr__ may raise anything
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _of_array(array: np.ndarray[Any, Any]) -> str:
    dtype = array.dtype.name if array.dtype.names is None else f"record{array.dtype.names}"
    text = f"{type(array).__name__} " if type(array) is not np.ndarray else ""
    text += f"{dtype} {array.shape}"
    if array.dtype.kind in _WITH_RANGE and array.size and array.nbytes <= _LARGEST:
        text += f", {array.min()} to {array.max()}"
    return text
