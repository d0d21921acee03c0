"""Addresses of servers, and URLs of tickets. And the import of pyarrow, which may be missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from onecopy._core.tls import TLS

if TYPE_CHECKING:
    from typing import Self

__all__ = ["DESCRIBE", "PLACE", "TAKEN", "Address", "import_flight"]

# The names of the three calls of a client besides `do_get`. Each has the token as its body.
DESCRIBE = "onecopy.describe"  # what is it?
PLACE = "onecopy.place"  # begin a fetch by place
TAKEN = "onecopy.taken"  # end it: the client holds the object now

_SCHEMES = ("grpc+tls", "grpc")


def import_flight() -> Any:
    """Return pyarrow.flight.

    Raises
    ------
    ImportError
        It is not installed.
    """
    try:
        from pyarrow import flight
    except ImportError as error:
        raise ImportError(
            "oc.serve and oc.fetch need pyarrow with Arrow Flight, which is not installed here: "
            "pip install 'onecopy[flight]'"
        ) from error
    return flight


class Address(NamedTuple):
    """The parts of an address or URL."""

    scheme: str
    host: str
    port: int
    token: str  # of a ticket; "" for the address of a server

    @classmethod
    def parse(cls, url: str, tls: TLS | None) -> Self:
        """Take a URL apart, and check that TLS is asked for in the address and by files, or not.

        Raises
        ------
        ValueError
            It is not such a URL; or only one of scheme and `tls` asks for TLS.
        TypeError
            `url` is not text, or `tls` is not a `TLS`.
        """
        if not isinstance(url, str):
            raise TypeError(f"an address is a text, not {type(url).__name__}")
        if tls is not None and not isinstance(tls, TLS):
            raise TypeError(f"tls is a onecopy.TLS, not {type(tls).__name__}")
        try:
            parts = urlsplit(url)
            found = parts.scheme, parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"{_hidden(url)!r} is no address: {error}") from error
        scheme, host, port = found
        if scheme not in _SCHEMES or not host or port is None:
            raise ValueError(
                f"{_hidden(url)!r} is no address: it is 'grpc+tls://host:port', or "
                "'grpc://host:port' without encryption"
            )
        if scheme == "grpc+tls" and tls is None:
            raise ValueError(
                "grpc+tls:// needs tls=onecopy.TLS(certfile, keyfile, cafile): both ends show a "
                "certificate"
            )
        if scheme == "grpc" and tls is not None:
            raise ValueError("with tls=, the address begins with grpc+tls://, not with grpc://")
        return cls(scheme, host, port, parts.path.removeprefix("/"))

    @property
    def location(self) -> str:
        """Return the address for pyarrow, without the token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "grpc+tcp" if self.scheme == "grpc" else self.scheme
        return f"{scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        """Return the address for people, without the token: errors go to logs."""
        return self.location.replace("grpc+tcp", "grpc")


def _hidden(url: str) -> str:
    """Return a URL without what may be a token."""
    head, slashes, rest = url.partition("://")
    return f"{head}{slashes}{rest.partition('/')[0]}"
