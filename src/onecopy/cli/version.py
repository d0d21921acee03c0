"""The options before the command: `onecopy --version`."""

from __future__ import annotations

from typing import Annotated

import typer

from onecopy import __version__

__all__ = ["options"]


def _say_version(asked: bool) -> None:
    if asked:
        print(f"onecopy {__version__}")
        raise typer.Exit


def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version, and exit.", callback=_say_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Accept the options that belong to no command."""
