"""Pictures of messages on a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["INDENT", "Pictures", "are_wanted", "drawn"]

INDENT = "        "  # before each line of a picture
_COLUMNS, _LINES = 48, 16
_GREYS = " .:-=+*#%@"
Pictures = Annotated[
    bool | None,
    typer.Option(
        "--pictures/--no-pictures",
        help="Draw arrays that may be pictures. Default: on a terminal.",
        show_default=False,
    ),
]


def are_wanted(pictures: bool | None) -> bool:
    """Tell whether pictures are drawn; None: if the output is a terminal."""
    return sys.stdout.isatty() if pictures is None else pictures


def drawn(array: npt.NDArray[Any]) -> list[str]:
    """Draw a picture: in colours if the terminal says that it has them, else in characters.

    Parameters
    ----------
    array : ndarray
        As `onecopy._core.pictures.find` returns it.

    Returns
    -------
    list of str
        At most 16 lines of at most 48 columns.
    """
    import numpy as np

    from onecopy._core import pictures

    pixels = pictures.small(array).pixels
    height, width = pixels.shape[:2]
    scale = min(_COLUMNS / width, 2 * _LINES / height, 1.0)
    columns = (np.arange(max(1, round(width * scale))) / scale).astype(int).clip(0, width - 1)
    rows = (np.arange(max(2, round(height * scale))) / scale).astype(int).clip(0, height - 1)
    few = pixels[np.ix_(rows, columns)]
    if few.shape[2] == 1:
        few = few.repeat(3, axis=2)
    upper, lower = few[: len(few) // 2 * 2 : 2], few[1::2]
    if os.environ.get("COLORTERM") in {"truecolor", "24bit"} and sys.stdout.isatty():
        return [
            "".join(
                f"\x1b[38;2;{a[0]};{a[1]};{a[2]};48;2;{b[0]};{b[1]};{b[2]}m▀"
                for a, b in zip(top, bottom, strict=True)
            )
            + "\x1b[0m"
            for top, bottom in zip(upper.tolist(), lower.tolist(), strict=True)
        ]
    grey = (upper[:, :, :3].mean(2) + lower[:, :, :3].mean(2)) / 2
    return ["".join(_GREYS[int(each * (len(_GREYS) - 1) / 255)] for each in line) for line in grey]
