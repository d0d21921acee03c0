"""`onecopy demo`: real pictures through one pool, next to multiprocessing.Queue."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

# The modules that the demo imports, and the names of their packages.
_NEEDED = {"cv2": "OpenCV", "matplotlib": "matplotlib", "rich": "rich"}


def demo(
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FOLDER|VIDEO",
            help="A folder of pictures of any sizes, or a video file. "
            "Left out: the photographs that scikit-image ships.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", "-w", min=1, max=64, help="Processes that run the pipeline.")
    ] = 2,
    frames: Annotated[
        int,
        typer.Option(
            "--frames",
            "-n",
            min=1,
            help="Pictures per run; a shorter folder or video starts again from its beginning.",
        ),
    ] = 300,
    rounds: Annotated[
        int, typer.Option("--rounds", "-r", min=1, help="Runs of each transport, in alternation.")
    ] = 2,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Where pictures, contact sheet and chart go."
        ),
    ] = Path("onecopy-demo"),
) -> None:
    """Send real pictures from two producers through workers to a writer, without a copy.

    Two processes decode pictures straight into a frame pool, workers read them there and run an
    OpenCV pipeline into pool memory, and a writer saves the results. The same job then runs over
    multiprocessing.Queue, in alternation; a table and a chart compare the two.
    """
    for module, package in _NEEDED.items():
        if importlib.util.find_spec(module) is None:
            _fail(f"{package} is not installed. Run: pip install 'onecopy[demo]'")

    from onecopy.demo.compare import compare
    from onecopy.demo.errors import DemoError

    try:
        compare(source=source, workers=workers, frames=frames, rounds=rounds, out=out)
    except DemoError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("onecopy demo: interrupted; no process and no pool is left behind", file=sys.stderr)
        raise typer.Exit(130) from None  # 128 + SIGINT, as shells report it


def _fail(message: str) -> None:
    """Print an error in one line, and exit with status 1."""
    print(f"onecopy demo: {message}", file=sys.stderr)
    raise typer.Exit(1)
