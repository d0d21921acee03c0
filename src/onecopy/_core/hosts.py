"""Hosts at which a server listens, and whether other machines can reach them."""

from __future__ import annotations

import ipaddress
import socket

__all__ = ["is_loopback"]


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
