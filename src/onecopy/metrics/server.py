"""The HTTP server of `onecopy metrics`."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server

from onecopy.metrics.prometheus import PoolCollector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["serving"]


@contextlib.contextmanager
def serving(
    pools: Sequence[str] | None, host: str, port: int, *, processes: bool, unnamed: bool
) -> Iterator[str]:
    """Serve the figures of pools until the block ends.

    Parameters
    ----------
    pools : sequence of str or None
        None: all pools of this user.
    host : str
        Where to listen.
    port : int
        0: any free port.
    processes, unnamed : bool
        As for `PoolCollector`.

    Yields
    ------
    str
        The address of the figures.

    Raises
    ------
    OSError
        It is not possible to listen there, for example because another program does.
    ValueError
        No pool can have one of these names.
    """
    registry = CollectorRegistry()
    registry.register(PoolCollector(pools, processes=processes, unnamed=unnamed))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:  # also of a wrong address
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            why = "another program listens there; choose another port by --port"
        raise OSError(f"cannot listen at {_address(host, port)}: {why}") from None
    try:
        yield f"http://{_address(host, server.server_port)}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
