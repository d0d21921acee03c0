"""The `onecopy` command: one file per command, each loaded only when the command line runs.

`main` is the console script. Importing this package costs nothing: typer and rich come with the
extras ``onecopy[cli]`` and ``onecopy[demo]`` and are imported inside `main`, so that their absence
is one clear line rather than a traceback.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

__all__ = ["main"]


def main() -> None:
    """Run the command line, and exit with its status."""
    for package in ("typer", "rich"):
        if importlib.util.find_spec(package) is None:
            extra = "demo" if sys.argv[1:2] == ["demo"] else "cli"
            sys.exit(
                f"onecopy: the command line needs {package}, which is not installed. "
                f"Run: pip install 'onecopy[{extra}]'"
            )
    build()(prog_name="onecopy")


def build() -> typer.Typer:
    """Assemble the commands.

    Returns
    -------
    typer.Typer
        The application; calling it parses ``sys.argv``.
    """
    import typer

    from onecopy.cli import demo, pools

    app = typer.Typer(
        help="Shared memory for Python processes: data is written once and read in place.",
        epilog="Each command explains itself: onecopy COMMAND --help",
        no_args_is_help=True,
        rich_markup_mode="markdown",  # lines of a docstring's paragraph flow together
        add_completion=False,
        # A bug should read like any other Python traceback, in reports and in logs.
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command("demo")(demo.demo)
    app.command("ls")(pools.ls)
    app.command("inspect")(pools.inspect_pool)
    app.command("holders")(pools.holders)
    app.command("gc")(pools.gc)
    app.command("doctor")(pools.doctor)
    return app
