"""What notebooks show of a thing in a pool: a small table, and a picture where there is one."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Any

from onecopy._core.pictures import find, png, small
from onecopy._core.showing import described

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["card", "preview", "thumbnail"]

_PICTURE = 160  # pixels: how wide and high a picture is shown at most


def card(title: str, rows: Iterable[tuple[str, str]], below: str = "") -> str:
    """Return HTML for ``_repr_html_``.

    Parameters
    ----------
    title : str
        The first line: text, not HTML.
    rows : iterable of (str, str)
        A property and its value: text, not HTML.
    below : str, optional
        HTML that follows the table.

    Returns
    -------
    str
        A table without style sheets or scripts, so that it looks like the notebook.
    """
    lines = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<div><strong>{html.escape(title)}</strong><table>{lines}</table>{below}</div>"


def preview(message: Any) -> str:
    """Return HTML that shows a message: its picture, and one line.

    Parameters
    ----------
    message : object
        Any message. If it contains an array that looks like a picture, that is shown.

    Returns
    -------
    str
        It refers to no memory of the pool.
    """
    return f"{thumbnail(message)}<div><code>{html.escape(described(message))}</code></div>"


def thumbnail(message: Any) -> str:
    """Return HTML with the picture in a message.

    Parameters
    ----------
    message : object
        Any message. The first array in it that looks like a picture is shown.

    Returns
    -------
    str
        It refers to no memory of the pool. "": there is no such array.
    """
    array = find(message)
    if array is None:
        return ""
    picture = small(array)
    data = base64.b64encode(png(picture.pixels)).decode()
    return (
        f"<div><img alt='{html.escape(picture.text)}' src='data:image/png;base64,{data}' "
        f"style='max-width:{_PICTURE}px;max-height:{_PICTURE}px'></div>"
    )
