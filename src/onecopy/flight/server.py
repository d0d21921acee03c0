"""`serve`: a server from which other hosts fetch objects of a pool, by tickets."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from onecopy._core.exposed import is_exposed, warn_of_readers
from onecopy._native import Ref
from onecopy.errors import Closed
from onecopy.flight import forks, sockets
from onecopy.flight.tickets import Held, Tickets
from onecopy.flight.urls import Address, import_flight

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from onecopy._core.tls import TLS
    from onecopy.pool import Pool

__all__ = ["FlightServer", "serve"]

_ANY = {"0.0.0.0", "::"}  # noqa: S104 - it is compared
_LIMIT = 5.0  # seconds that gRPC has to end, after the connections were cut


def serve(
    pool: Pool,
    address: str = "grpc://127.0.0.1:0",
    *,
    tls: TLS | None = None,
    url_host: str | None = None,
) -> FlightServer:
    """Start a server from which processes of other hosts fetch objects of a pool.

    Parameters
    ----------
    pool : Pool
        Objects that are not in a pool yet are put into this one.
    address : str
        ``"grpc+tls://host:port"``, or ``"grpc://host:port"`` without encryption. Port 0: a free
        port. The default is for this machine alone.
    tls : TLS, optional
        The files for ``grpc+tls``. Clients must show a certificate of its authorities.
    url_host : str, optional
        The host in URLs. Default: that of `address`; if that means all interfaces, the name of this
        machine.

    Returns
    -------
    FlightServer
        It listens. Close it, or use it in ``with``.

    Raises
    ------
    ImportError
        pyarrow is not installed, or has no Flight.
    OSError
        The address is not available.
    ValueError
        The address is not valid; it and `tls` contradict each other; or the files of `tls` cannot
        be used.
    RuntimeError
        This process was forked from one that had used `serve` or `fetch`: gRPC does not work there.
        Start such a process by ``"spawn"`` or ``"forkserver"``.

    Warns
    -----
    NotEncryptedWarning
        Other machines can reach the address, and there is no `tls`.

    Examples
    --------
    >>> pool = oc.Pool("results", size="64MiB")
    >>> with oc.serve(pool) as server:
    ...     url = server.ticket(np.ones(1000))  # a text, to be sent to the other host
    ...     oc.fetch(url).get().shape
    (1000,)
    """
    import_flight()
    forks.check()
    asked = Address.parse(address, tls)
    if tls is None and is_exposed(asked.host):
        warn_of_readers(f"the server at {asked}", stacklevel=2)
    return FlightServer(pool, asked, tls, url_host)


class FlightServer:
    """Gives objects of a pool to clients that have a ticket; `serve` starts it.

    Threads of gRPC answer; no other thread is needed. When it is closed, when it is no longer
    referred to, and when the process ends, all its tickets end.

    Notes
    -----
    Any thread may use it. A forked child has no server: the object is closed there, its methods
    raise a `RuntimeError`, `close` does nothing, and the server of the parent continues. It cannot
    be pickled; send the URLs.

    Examples
    --------
    >>> pool = oc.Pool("results", size="64MiB")
    >>> server = oc.serve(pool)
    >>> url = server.ticket(np.arange(1000), expires=60)
    >>> int(oc.fetch(url).get()[-1])
    999
    >>> server.release(url)  # nobody can fetch it any more
    >>> server.close()
    """

    def __init__(self, pool: Pool, asked: Address, tls: TLS | None, url_host: str | None) -> None:
        from onecopy.flight.service import make_service

        self._pool = pool
        self._tickets = Tickets()
        self._service: Any = make_service(asked.location, self._tickets, tls)
        self._address = asked._replace(port=self._service.port)
        host = url_host or asked.host
        if url_host is None and host in _ANY:
            import socket

            host = socket.gethostname()
        self._shown = self._address._replace(host=host)
        self._closing = weakref.finalize(self, _close, self._service, self._tickets, 0.0)
        _servers.add(self)

    @property
    def address(self) -> str:
        """Where it listens, with the port."""
        return str(self._address)

    @property
    def closed(self) -> bool:
        """Whether it was closed, or belongs to the parent of this process."""
        return not self._closing.alive

    def __len__(self) -> int:
        """Return the number of tickets that are open."""
        return len(self._tickets)

    def ticket(
        self, obj: object, *, expires: float | None = 60.0, fetches: int | None = None
    ) -> str:
        """Make a ticket: a URL with which a client fetches an object.

        Parameters
        ----------
        obj : Ref, or an object
            A numpy array, bytes, a table or record batch of pyarrow, or a data frame of pandas or
            polars; or a reference to one. What is not in a pool is put into the server's pool.
        expires : float, optional
            Seconds after which the ticket ends. None: never.
        fetches : int, optional
            The number of fetches after which it ends. Default: any number. A fetch that fails does
            not count.

        Returns
        -------
        str
            The URL. With it, a client can fetch the object, so treat it like a password.

        Raises
        ------
        TypeError
            Objects of this type are not served.
        ValueError
            `expires` or `fetches` is not positive.
        PoolFull
            The pool has no room for it.
        Closed
            The server is closed.
        RuntimeError
            It is the server of the parent of this process.

        Notes
        -----
        The object stays in the pool until the ticket ends. A fetch that was begun before continues.
        """
        if expires is not None and not expires > 0:
            raise ValueError(f"expires={expires!r}: it is a number of seconds, or None")
        if fetches is not None and fetches < 1:
            raise ValueError(f"fetches={fetches!r}: it is a number from 1, or None")
        self._check_open()
        from onecopy.flight.contents import check_type, content_of

        if isinstance(obj, Ref):
            ref = obj
        else:
            check_type(obj)  # before it is put
            ref = self._pool.put(obj)
        content = content_of(ref.get())  # of the object in the pool: nothing else is kept
        deadline = None if expires is None else time.monotonic() + expires
        token = self._tickets.add(Held(ref.member.ref(ref.handle), content, deadline, fetches))
        host = f"[{self._shown.host}]" if ":" in self._shown.host else self._shown.host
        return f"{self._shown.scheme}://{host}:{self._shown.port}/{token}"

    def release(self, url: str) -> None:
        """End a ticket. Fetches that were begun continue. Releasing twice does nothing.

        Parameters
        ----------
        url : str
            What `ticket` returned.

        Raises
        ------
        RuntimeError
            It is the server of the parent of this process.
        """
        forks.check()
        self._tickets.release(url.rpartition("/")[2])

    def close(self, timeout: float = 1.0) -> None:
        """End all tickets, and listen no longer. Idempotent.

        Parameters
        ----------
        timeout : float
            Seconds that fetches have to end. Then their connections are cut.

        Notes
        -----
        It returns at the latest 5 s after `timeout`. If gRPC has not ended then, a daemon thread
        continues to end it.
        """
        if self._closing.detach() is not None:
            service, self._service = self._service, None  # gRPC has descriptors as long as it is
            _close(service, self._tickets, timeout)

    def __enter__(self) -> Self:
        """Return itself."""
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def __reduce__(self) -> NoReturn:
        """Refuse: it belongs to its process."""
        raise TypeError("a FlightServer belongs to its process; send the URLs of its tickets")

    def __repr__(self) -> str:
        """Tell where it listens."""
        if self.closed:
            return "<FlightServer, closed>"
        return f"<FlightServer at {self.address}, {len(self)} tickets>"

    def _check_open(self) -> None:
        forks.check()
        if self.closed:
            raise Closed("the server is closed: call onecopy.serve() again")

    def _forget(self) -> None:
        """Leave the server to the parent, in a forked child."""
        self._closing.detach()
        self._tickets.forget()


def _close(service: Any, tickets: Tickets, timeout: float) -> None:
    """End a server; after `timeout` also its fetches. It returns in any case."""
    port = service.port
    ends = threading.Thread(target=service.shutdown, name="onecopy: end of a server", daemon=True)
    try:
        ends.start()
    except RuntimeError:  # the interpreter ends, and starts no thread any more
        tickets.clear()  # so no new call can last
        sockets.cut(port)
        service.shutdown()
        return
    ends.join(timeout)
    tickets.clear()
    deadline = time.monotonic() + _LIMIT
    while ends.is_alive() and time.monotonic() < deadline:  # a client that was stopped, or is slow
        sockets.cut(port)
        ends.join(0.05)
    if ends.is_alive():
        forks.leave(service)


_servers: weakref.WeakSet[FlightServer] = weakref.WeakSet()


def _forked() -> None:
    for server in list(_servers):
        server._forget()


os.register_at_fork(after_in_child=_forked)
