"""The server as pyarrow sees it: it answers calls in threads of gRPC."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import flight

from onecopy.flight import forks
from onecopy.flight.urls import DESCRIBE, PLACE, TAKEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from onecopy._core.tls import TLS
    from onecopy.flight.tickets import Held, Tickets

__all__ = ["make_service"]


class Service(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """Answers clients. It listens as soon as it is made."""

    def __init__(self, location: str, tickets: Tickets, **options: Any) -> None:
        self._tickets = tickets
        forks.begin()
        self.listens: bool = False
        forks.watch(self)  # before: another thread may fork at any time
        super().__init__(location, **options)
        self.listens = True

    def do_action(self, _: Any, action: Any) -> Iterator[bytes]:
        """Answer one of the three small calls."""
        token = _token(action.body.to_pybytes())
        if action.type == DESCRIBE:
            return iter([json.dumps(_about(self._tickets.find(token))).encode()])
        if action.type == PLACE:
            return iter([json.dumps({"block": self._tickets.begin(token).ref.handle}).encode()])
        if action.type == TAKEN:
            self._tickets.end(token, complete=True)
            return iter([])
        raise NotImplementedError(f"there is no action {action.type!r}")

    def do_get(self, _: Any, ticket: Any) -> Any:
        """Send the batches of an object."""
        stream = _Stream(self._tickets, _token(ticket.ticket))
        return flight.RecordBatchStream(pa.RecordBatchReader.from_batches(stream.schema, stream))


class _Stream:
    """The batches of one fetch. Its end, in whatever way, is the end of the fetch."""

    def __init__(self, tickets: Tickets, token: str) -> None:
        self._open = False
        held = tickets.begin(token)
        self._open = True
        self._tickets, self._token = tickets, token
        self._ref = held.ref  # the object stays until the fetch ends, whatever the ticket does
        self.schema = held.content.schema
        self._batches = held.content.batches()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._batches)
        except StopIteration:
            self._end(complete=True)
            raise

    def __del__(self) -> None:
        self._end(complete=False)

    def _end(self, *, complete: bool) -> None:
        if self._open:
            self._open = False
            self._tickets.end(self._token, complete=complete)


def _token(text: bytes) -> str:
    return text.decode("ascii", "replace")


def _about(held: Held) -> dict[str, Any]:
    """Describe an object, and its pool for clients on this host."""
    from onecopy._codec.places import identity_of
    from onecopy._core.membership import handle_of

    member = held.ref.member
    identity, path, _, device, inode, *_ = handle_of(member)
    pool = {
        "id": identity.hex(),
        "path": path,
        "device": device,
        "inode": inode,
        "identity": identity_of(member).hex(),
    }
    return {**held.content.description, "pool": pool}


def make_service(location: str, tickets: Tickets, tls: TLS | None) -> Any:
    """Make a server that listens.

    Raises
    ------
    OSError
        The address is not available.
    ValueError
        The files of `tls` cannot be used.
    """
    options: dict[str, Any] = {}
    if tls is not None:
        from onecopy._core.tls import context_of

        context_of(tls, server=True)  # says what is wrong with the files; gRPC would not
        certificate, key, authorities = tls.read()
        options = {
            "tls_certificates": [flight.CertKeyPair(certificate, key)],
            "verify_client": True,
            "root_certificates": authorities,
        }
    try:
        return Service(location, tickets, **options)
    except (pa.ArrowException, flight.FlightError, OSError) as error:
        raise OSError(f"no server can listen at {location}: {error}") from error
