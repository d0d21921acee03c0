"""How arrays are received: by reference, in private pages, or as a copy.

The core handles the memory in its pools. An object may also refer to memory by name: in mapped
files, in pools that are open for reading only, and in other pools. The functions that find this
memory while the object is rebuilt call `is_private` to know whether it must be private.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from onecopy._native import is_private

__all__ = ["CopyMode", "is_private"]

CopyMode: TypeAlias = Literal["on_write"] | bool | None
