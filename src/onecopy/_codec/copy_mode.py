"""How what is received is to be had: by reference, in private pages, or as a copy.

The core sees to what lies in its pools. What an object refers to by a name (memory of mapped files,
of pools that are open for reading only, and of other pools) is found while the object is rebuilt;
those that find it ask here whether it is to be private.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from onecopy._native import is_private

__all__ = ["CopyMode", "is_private"]

CopyMode: TypeAlias = Literal["on_write"] | bool | None
