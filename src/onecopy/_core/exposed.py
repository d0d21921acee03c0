"""Which addresses other machines can reach, and the warning if what goes there is not encrypted."""

from __future__ import annotations

import warnings

from onecopy.errors import NotEncryptedWarning

__all__ = ["is_exposed", "warn_of_readers"]


def is_exposed(host: str) -> bool:
    """Return whether other machines may reach what listens at a host.

    Parameters
    ----------
    host : str
        A name or a number. An empty one means all interfaces, as for a socket.

    Returns
    -------
    bool
        False: it is this machine's loopback interface alone, or nobody knows the name.
    """
    import ipaddress  # only here, so that imports stay fast
    import socket

    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None)  # noqa: S104 - as a socket means it
        return not all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)
    except (OSError, ValueError):
        return False


def warn_of_readers(what: str, stacklevel: int) -> None:
    """Warn that other machines can read and change what is sent.

    Parameters
    ----------
    what : str
        Such as "the manager at ('0.0.0.0', 80)".
    stacklevel : int
        As for `warnings.warn`, of the caller.
    """
    warnings.warn(
        f"other machines can reach {what}, and what is sent is not encrypted: each machine on the "
        "way can read and change it. Give tls=onecopy.TLS(...) at both ends, or use the address "
        "127.0.0.1",
        NotEncryptedWarning,
        stacklevel=stacklevel + 1,
    )
