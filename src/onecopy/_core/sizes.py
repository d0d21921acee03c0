"""Sizes in bytes, as text for people."""

from __future__ import annotations

import operator
import re
from typing import SupportsIndex

__all__ = ["format_size", "is_size", "parse_size"]

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([kmgt]?i?b?)\s*", re.IGNORECASE)
_PREFIXES = "kmgt"


def parse_size(size: SupportsIndex | str, what: str = "size") -> int:
    """Convert a size to a number of bytes.

    Parameters
    ----------
    size : int or str
        Bytes, or a number with a unit: ``"512MB"`` is 512,000,000, ``"2GiB"`` is 2 * 1024**3. Units
        are B, KB, MB, GB, TB (powers of 1000) and KiB, MiB, GiB, TiB (powers of 1024), in upper or
        lower case. The B is optional.
    what : str, optional
        The name of the parameter. Error messages begin with it.

    Returns
    -------
    int
        Bytes, at least 1.

    Raises
    ------
    ValueError
        There is no such unit, it is not a number, or it is not above zero.
    TypeError
        Neither an integer nor a string.
    """
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        if match is None:
            raise ValueError(
                f"{what}={size!r} is not a size; write bytes as an int, or '512MB', or '2GiB'"
            )
        number, unit = match[1], match[2].lower()
        base = 1024 if "i" in unit else 1000
        if unit.startswith("i"):
            raise ValueError(f"{what}={size!r}: there is no unit {match[2]!r}")
        scale = base ** (_PREFIXES.index(unit[0]) + 1) if unit and unit[0] in _PREFIXES else 1
        nbytes = int(number) * scale if number.isdigit() else int(float(number) * scale)
    elif isinstance(size, bool):
        raise TypeError(f"{what} is a number of bytes or a string like '2GiB', not {size!r}")
    else:
        try:
            nbytes = operator.index(size)
        except TypeError:
            raise TypeError(
                f"{what} is a number of bytes or a string like '2GiB', "
                f"not {type(size).__name__} {size!r}"
            ) from None
    if nbytes <= 0:
        raise ValueError(f"{what}={size!r}: it must be above zero")
    return nbytes


def is_size(text: object) -> bool:
    """Tell whether something is the text of a size with a unit, for example ``"2GiB"``."""
    try:
        return isinstance(text, str) and not text.strip().isdigit() and parse_size(text) > 0
    except ValueError:
        return False


def format_size(nbytes: int) -> str:
    """Write a number of bytes with a unit.

    Parameters
    ----------
    nbytes : int
        Bytes.

    Returns
    -------
    str
        For example ``"17 B"``, ``"1.5 KiB"``, ``"2.0 GiB"``.
    """
    if abs(nbytes) < 1024:
        return f"{nbytes} B"
    value = float(nbytes)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if abs(value) < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"
