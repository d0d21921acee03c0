"""The HTTP server of `onecopy metrics`."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server

from onecopy.metrics.prometheus import PoolCollector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["is_loopback", "serving"]


def is_loopback(host: str) -> bool:
    """Tell whether only processes of this machine can reach a host.

    Parameters
    ----------
    host : str
        An address, or a name that is looked up.

    Raises
    ------
    OSError
        There is no such host.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(f"cannot listen at {host}: {error.strerror}") from None
    return all(ipaddress.ip_address(str(each[4][0])).is_loopback for each in found)


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
