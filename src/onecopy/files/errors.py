"""What can be wrong with a file."""

from __future__ import annotations

from onecopy._core.sizes import format_size
from onecopy.errors import OneCopyError

__all__ = ["BadFile", "bad_file"]


class BadFile(OneCopyError, ValueError):  # noqa: N818 - reads as what happened
    """A file is not what it was opened as: truncated, empty, or of another kind.

    The message has its path, its size, and what was found in it. Nothing was changed.
    """


def bad_file(path: str, size: int, found: str) -> BadFile:
    """Say what is wrong with a file.

    Parameters
    ----------
    path : str
        Of the file.
    size : int
        Its length in bytes.
    found : str
        What was found, and what to do; it continues "PATH (SIZE): ".

    Returns
    -------
    BadFile
        To be raised.
    """
    exact = f", {size} bytes" if size >= 1024 else ""
    return BadFile(f"{path} ({format_size(size)}{exact}): {found}")
