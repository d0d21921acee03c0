"""`TLS`: the files for connections to other hosts on which both ends show a certificate.

An `ssl.SSLContext` cannot be pickled, and is made for one side. So `TLS` has names of files, and
each process makes the contexts that it needs. Renewed files count for the next connection.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TLS", "context_of", "is_refusal"]


@dataclass(frozen=True)
class TLS:
    """The certificate of this process, and the authority that signed the certificates of its peers.

    Servers and clients use it alike, because both show a certificate. It has only names of files,
    so it can be pickled. The files are read when they are used, in each process by itself.

    Parameters
    ----------
    certfile : path
        The certificate of this process in PEM form, followed by intermediate ones if there are any.
        It must name the hosts by which clients reach this process (``subjectAltName``), if this
        process is a server.
    keyfile : path
        Its private key in PEM form, without a passphrase.
    cafile : path
        The certificates of the authorities in PEM form. A peer is accepted if one of them signed
        its certificate. The authorities of the system do not count.
    server_hostname : str, optional
        For clients: the name that the certificate of the server must have. Default: the host of the
        address.

    Raises
    ------
    TypeError
        A file is not given as a path.

    Notes
    -----
    Relative names are made absolute when it is made. Any thread and any process may use it.

    Examples
    --------
    >>> tls = oc.TLS("here.pem", "here.key", cafile="authority.pem")
    >>> pool = oc.Pool("results", size="16MiB")
    >>> server = oc.serve(pool, "grpc+tls://10.0.0.5:0", tls=tls)  # doctest: +SKIP
    >>> tls.read()  # what servers and clients do when they need the files
    Traceback (most recent call last):
        ...
    ValueError: the files for TLS cannot be used: ...
    """

    certfile: str | os.PathLike[str]
    keyfile: str | os.PathLike[str]
    cafile: str | os.PathLike[str]
    server_hostname: str | None = None

    def __post_init__(self) -> None:
        for name in ("certfile", "keyfile", "cafile"):
            path = os.fspath(getattr(self, name))
            if not isinstance(path, str):
                raise TypeError(f"TLS: {name} is a path of text, not {type(path).__name__}")
            object.__setattr__(self, name, str(Path(path).absolute()))

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Read the three files.

        Returns
        -------
        tuple of bytes
            The certificate, its key and the authorities, in PEM form.

        Raises
        ------
        ValueError
            A file cannot be read.
        """
        try:
            certificate, key, authorities = (
                Path(path).read_bytes() for path in (self.certfile, self.keyfile, self.cafile)
            )
        except OSError as error:
            raise _unusable(self, error) from error
        return certificate, key, authorities


# The last context of each side of each `TLS`, and when its files were changed.
_made: dict[tuple[TLS, bool], tuple[object, ssl.SSLContext]] = {}


def context_of(tls: TLS, *, server: bool) -> ssl.SSLContext:
    """Return the context of one side. Files that were changed are read again.

    Parameters
    ----------
    tls : TLS
        The files.
    server : bool
        Whether it is for the side that accepts connections.

    Returns
    -------
    ssl.SSLContext
        TLS 1.3 or newer. Both sides must show a certificate of one of the authorities.

    Raises
    ------
    ValueError
        A file cannot be read, is not in PEM form, or the key is not that of the certificate.
    """
    try:
        state = [_state(path) for path in (tls.certfile, tls.keyfile, tls.cafile)]
        known = _made.get((tls, server))
        if known is not None and known[0] == state:
            return known[1]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3  # both sides are onecopy
        context.verify_mode = ssl.CERT_REQUIRED
        if server:
            context.num_tickets = 0  # a client that closes early would have unread data
        context.load_cert_chain(tls.certfile, tls.keyfile, _no_passphrase)
        context.load_verify_locations(tls.cafile)
    except (OSError, ValueError) as error:
        raise _unusable(tls, error) from error
    _made[tls, server] = state, context
    return context


def is_refusal(error: ssl.SSLError) -> bool:
    """Return whether an error is an alert of the peer that it does not accept a certificate."""
    reason = error.reason or ""
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


def _state(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    found = Path(path).stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase; write it without one, readable by its user only")


def _unusable(tls: TLS, error: Exception) -> ValueError:
    return ValueError(
        f"the files for TLS cannot be used: {error}. They are certfile={tls.certfile!r}, "
        f"keyfile={tls.keyfile!r} and cafile={tls.cafile!r}. Each must be readable for this "
        "process and have PEM form, and the key must be that of the certificate"
    )
