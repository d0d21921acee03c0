"""The error for a file that is not valid."""

from __future__ import annotations

from onecopy._core.sizes import format_size
from onecopy.errors import OneCopyError

__all__ = ["BadFile", "bad_file"]


class BadFile(OneCopyError, ValueError):  # noqa: N818 - reads as what happened
    """A file is not what the caller expects: it is truncated, empty, or of another format.

    The message has the path, the size, and what was found in the file. Nothing was changed.
    """


def bad_file(path: str, size: int, found: str) -> BadFile:
    """Make the error that says what is wrong with a file.

    Parameters
    ----------
    path : str
        Of the file.
    size : int
        Its length in bytes.
    found : str
        What was found, and what to do. The text follows "PATH (SIZE): ".

    Returns
    -------
    BadFile
        The error, for the caller to raise.
    """
    exact = f", {size} bytes" if size >= 1024 else ""
    return BadFile(f"{path} ({format_size(size)}{exact}): {found}")
