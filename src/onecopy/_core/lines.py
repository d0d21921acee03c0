"""Texts of any characters as one line of a terminal: escaped, quoted, measured and cut."""

from __future__ import annotations

from unicodedata import combining, east_asian_width

__all__ = ["cut", "error_text", "escaped", "shown", "width"]


def escaped(text: str) -> str:
    """Escape unprintable characters, for example the end of a line, as Python does in a string.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        One line.
    """
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def shown(name: str) -> str:
    """Write a name as one word: in quotes if it has spaces or unusual characters.

    Parameters
    ----------
    name : str
        The name of anything.

    Returns
    -------
    str
        As Python would write it, in quotes, unless it is plain.
    """
    return name if name.isprintable() and not set(name) & set(" \"'\\,") and name else repr(name)


def error_text(error: Exception) -> str:
    """Return the text of an error, of an `OSError` without its number.

    Parameters
    ----------
    error : Exception
        Any error.

    Returns
    -------
    str
        It may have several lines and unprintable characters.
    """
    if isinstance(error, OSError) and error.strerror is not None:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return str(error)


def width(text: str) -> int:
    """Return the width of a text on a terminal, in columns."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(letter: str) -> int:
    return 0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1


def cut(text: str, columns: int, mark: str = "…") -> str:
    """Cut a text that is too wide.

    Parameters
    ----------
    text : str
        One line.
    columns : int
        How wide it may be.
    mark : str, optional
        What stands at the end of a text that was cut.

    Returns
    -------
    str
        The text, or its beginning and the mark.
    """
    if width(text) <= columns:
        return text
    if columns < width(mark):
        return ""
    room = columns - width(mark)
    kept = []
    for letter in text:
        room -= _columns(letter)
        if room < 0:
            break
        kept.append(letter)
    return "".join(kept) + mark
