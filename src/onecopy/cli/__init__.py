"""The `onecopy` command. Its modules are loaded only when the command line runs.

`main` is the console script. The extras ``onecopy[cli]`` and ``onecopy[demo]`` install typer and
rich. `main` imports them, not this package, so that a missing one gives one clear line instead of a
traceback.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

__all__ = ["main"]


def main() -> None:
    """Run the command line, and exit with its status."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        # It was closed when the program began (`>&-`).
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for good
    for stream in (sys.stdout, sys.stderr):
        # Escape characters that the terminal's encoding does not have, instead of raising an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if sys.argv[1:] == ["--version"]:  # works without the extras, too
        from onecopy import __version__

        print(f"onecopy {__version__}")
        return
    for package in ("typer", "rich"):
        if importlib.util.find_spec(package) is None:
            extra = "demo" if sys.argv[1:2] == ["demo"] else "cli"
            sys.exit(
                f"onecopy: the command line needs {package}, which is not installed. "
                f"Run: pip install 'onecopy[{extra}]'"
            )
    try:
        build()(prog_name="onecopy")
    except BrokenPipeError:
        _forget_stdout()
        sys.exit(_SIGPIPE)
    finally:
        _flush()


_SIGPIPE = 128 + 13  # as shells report it


def _flush() -> None:
    """Flush now. At exit, a reader that has ended (``| head``) would cause a traceback."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()


def _forget_stdout() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def build() -> typer.Typer:
    """Assemble the commands.

    Returns
    -------
    typer.Typer
        The application; calling it parses ``sys.argv``.
    """
    import typer

    from onecopy.cli import (
        demo,
        metrics,
        observing,
        peek,
        pools,
        recordings,
        tail,
        top,
        version,
        web,
    )
    from onecopy.cli.output import EXIT_CODES

    app = typer.Typer(
        help="Shared memory for Python processes: data is written once and read in place.",
        epilog="Each command explains itself: onecopy COMMAND --help. It exits with "
        + EXIT_CODES
        + ".",
        no_args_is_help=True,
        rich_markup_mode="markdown",  # joins the lines of a docstring's paragraph
        # A bug should print an ordinary Python traceback, in reports and in logs.
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    app.callback()(version.options)
    app.command("demo")(demo.demo)
    app.command("ls")(pools.ls)
    app.command("inspect")(pools.inspect_pool)
    app.command("holders")(pools.holders)
    app.command("show")(observing.show)
    app.command("why")(observing.why)
    app.command("top")(top.top)
    app.command("metrics")(metrics.metrics)
    app.command("web")(web.web)
    app.command("tail")(tail.tail)
    app.command("peek")(peek.peek)
    app.command("record")(recordings.record)
    app.command("replay")(recordings.replay)
    app.command("gc")(pools.gc)
    app.command("doctor")(pools.doctor)
    return app
