"""`onecopy metrics`: the figures of pools over HTTP, for Prometheus."""

from __future__ import annotations

import importlib.util
import sys
import threading
from typing import Annotated

import typer

from onecopy.cli.output import PROBLEM, one_line
from onecopy.cli.pools import pool_names

__all__ = ["metrics"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def metrics(
    pools: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[POOL]...",
            help="Names of pools, or paths of their files; they may appear later. "
            "Default: all pools of this user.",
            autocompletion=pool_names,
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", min=0, max=65535, help="The port to listen at; 0: any free one."),
    ] = 9786,
    public: Annotated[
        bool,
        typer.Option(
            "--public",
            help="Allow a --host that other machines can reach. There is no password: all of them "
            "can read the names of pools and channels.",
        ),
    ] = False,
    processes: Annotated[
        bool,
        typer.Option("--processes", help="Also report each process: this makes many time series."),
    ] = False,
    unnamed: Annotated[
        bool, typer.Option("--unnamed", help="Also report channels that have no name.")
    ] = False,
) -> None:
    """Serve figures of pools in Prometheus's format, until you press Ctrl-C.

    Each scrape takes a snapshot of each pool. It joins no pool, takes no lock and changes nothing.
    A pool that is damaged or gone is reported as onecopy_pool_up 0.
    """
    if importlib.util.find_spec("prometheus_client") is None:
        print(
            "onecopy: metrics needs prometheus-client, which is not installed. "
            "Run: pip install 'onecopy[metrics]'",
            file=sys.stderr,
        )
        raise typer.Exit(PROBLEM)
    from onecopy._core.hosts import is_loopback
    from onecopy.metrics.server import serving

    with one_line():
        try:
            if not public and not is_loopback(host):
                raise ValueError(
                    f"other machines can reach {host}; if that is wanted, add --public. "
                    "The figures have no password"
                )
            with serving(
                pools or None, host, port, processes=processes, unnamed=unnamed
            ) as address:
                print(f"serving {address}; Ctrl-C ends it", flush=True)
                threading.Event().wait()
        except KeyboardInterrupt:
            raise typer.Exit(_INTERRUPTED) from None
