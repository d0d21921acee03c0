"""`onecopy web`: a page that shows pools in a browser."""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onecopy.cli.output import one_line
from onecopy.cli.pools import pool_names

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["web"]


def web(
    pool: Annotated[
        str | None,
        typer.Argument(
            metavar="[POOL]",
            help="The only pool to show: its name, or the path of its file. Default: all pools of "
            "this user.",
            autocompletion=pool_names,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="The address to serve at.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port. 0: a free one.")
    ] = 0,
    public: Annotated[
        bool,
        typer.Option(
            "--public",
            help="Allow a --host that other machines can reach. The traffic is not encrypted.",
        ),
    ] = False,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Also open the page in the browser.")
    ] = False,
) -> None:
    """Show pools on a page in a browser, until Ctrl-C.

    Prints the page's URL, which contains a secret: a request without it is refused. The page shows
    memory, processes and what they wait for, queues, streams, frames and locks, with charts. It
    does not join a pool and changes nothing. Only if you press its button "Join", it joins the pool
    to show the newest picture of a stream.
    """
    for package in ("starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            sys.exit(
                f"onecopy: the page needs {package}, which is not installed. "
                "Run: pip install 'onecopy[web]'"
            )
    from onecopy._core.hosts import is_loopback
    from onecopy.observer import observe
    from onecopy.web.guard import is_loopback_name
    from onecopy.web.server import app, bound, serve

    with one_line():
        if not public and not is_loopback(host):
            raise ValueError(
                f"other machines can reach {host}; if that is wanted, add --public. The traffic "
                "contains the token, and is not encrypted"
            )
        if pool is not None:
            with observe(pool) as observer:  # an error now is better than a page that shows it
                observer.snapshot()
        token = secrets.token_urlsafe(24)
        application = app([] if pool is None else [pool], token=token, host=host)
        listening = bound(host, port)
        name = f"[{host}]" if ":" in host else host
        url = f"http://{name}:{listening.getsockname()[1]}/#token={token}"
        if not is_loopback_name(host):
            print(
                f"onecopy: warning: other machines can reach {host}. The traffic contains the "
                "token, and is not encrypted",
                file=sys.stderr,
            )
        print(f"Open {url}\nCtrl-C ends it.", flush=True)
        with _opened(url) if open_browser else contextlib.nullcontext():
            try:
                serve(application, listening)
            except KeyboardInterrupt:
                raise typer.Exit(130) from None  # 128 + SIGINT, as shells report it


@contextlib.contextmanager
def _opened(url: str) -> Iterator[None]:
    """Open a browser. It gets a private file: other users can see the arguments of processes."""
    import webbrowser

    with tempfile.TemporaryDirectory(prefix="onecopy-web-") as folder:
        page = Path(folder, "open.html")
        page.write_text(
            f'<!doctype html><meta http-equiv="refresh" content="0;url={url}">', encoding="ascii"
        )
        if not webbrowser.open(page.as_uri()):
            print("onecopy: there is no browser; open the URL yourself", file=sys.stderr)
        yield
