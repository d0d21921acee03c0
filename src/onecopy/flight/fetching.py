"""`fetch`: gets an object by a ticket, into a pool of this host."""

from __future__ import annotations

import ast
import json
import math
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from onecopy._codec.places import identity_of
from onecopy._core import membership, paths
from onecopy._core.tls import context_of, is_refusal
from onecopy.default import default_pool
from onecopy.errors import OneCopyError, StaleRef
from onecopy.flight import forks
from onecopy.flight.urls import DESCRIBE, PLACE, TAKEN, Address, import_flight
from onecopy.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onecopy._core.tls import TLS
    from onecopy._native import Ref

__all__ = ["fetch"]

_SPARE = 1 << 16  # bytes by which another version of pyarrow may need more for a table,
_SPARE_OF_BATCH = 1 << 12  # and for each batch
_MOST = 1 << 46  # bytes: as many as a pool can have
_MOST_TEXT = 1 << 16
_MOST_AXES = 32  # numpy 1 has no more


class Unexpected(Exception):  # noqa: N818 - becomes a ConnectionError with the address
    """What came is not what a server of onecopy sends."""


def fetch(
    url: str,
    pool: Pool | None = None,
    *,
    timeout: float | None = None,
    tls: TLS | None = None,
) -> Ref[Any]:
    """Get an object from a server by a ticket, and put it into a pool of this host.

    If the server's pool is on this host and this process may join it, no bytes are sent: the
    reference is to the server's own object.

    Parameters
    ----------
    url : str
        What `FlightServer.ticket` returned.
    pool : Pool, optional
        Where the object shall be. Default: the server's pool, if this process can join it by its
        pool directory; else the default pool.
    timeout : float, optional
        Seconds for all of it. Default: no limit.
    tls : TLS, optional
        The files for ``grpc+tls``.

    Returns
    -------
    Ref
        To the object. It holds it, as if it was put here.

    Raises
    ------
    StaleRef
        The ticket is not known there: it has expired, it was released, or no fetch is left.
    ConnectionError
        The server does not run, has ended during the fetch, or is another program; or one end does
        not accept the certificate of the other.
    TimeoutError
        It took longer than `timeout`.
    PoolFull
        The pool has no room for the object. Nothing is held.
    ImportError
        pyarrow is not installed, or pandas or polars for a data frame of that kind.
    ValueError, TypeError
        The URL, `timeout` or `tls` is not valid.
    RuntimeError
        This process was forked from one that had used `serve` or `fetch`: gRPC does not work there.
        Start such a process by ``"spawn"`` or ``"forkserver"``.

    Notes
    -----
    Nothing of what another host sends is unpickled. The bytes of arrays and tables are written
    into the pool as they come. Data frames and bytes are built in this process first, and then put.

    Examples
    --------
    >>> pool = oc.Pool("results", size="64MiB")
    >>> with oc.serve(pool) as server:
    ...     ref = oc.fetch(server.ticket(np.arange(1000)))  # on another host
    >>> ref.get().shape
    (1000,)
    """
    flight = import_flight()
    forks.check()
    target = Address.parse(url, tls)
    if not target.token:
        raise ValueError(f"{target} is the address of a server, and has no ticket")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: it is a number of seconds, or None")
    files: dict[str, Any] = {}
    if tls is not None:
        context_of(tls, server=False)  # says what is wrong with the files; gRPC would not
        certificate, key, authorities = tls.read()
        files = {"tls_root_certs": authorities, "cert_chain": certificate, "private_key": key}
        if tls.server_hostname is not None:
            files["override_hostname"] = tls.server_hostname
    with (
        _clear_errors(flight, target, tls, timeout),
        _connected(flight, target.location, files) as client,
    ):
        return _Fetch(flight, client, target.token, timeout).into(pool)


@contextmanager
def _connected(flight: Any, location: str, files: dict[str, Any]) -> Iterator[Any]:
    """Make a client, and close it at the end; not in a child that was forked meanwhile."""
    forks.begin()
    client = forks.keep(flight.FlightClient(location, **files))
    try:
        yield client
    finally:
        if not forks.is_barred():
            client.close()


class _Fetch:
    """One fetch: the calls to the server."""

    def __init__(self, flight: Any, client: Any, token: str, timeout: float | None) -> None:
        self._flight, self._client, self._token = flight, client, token.encode()
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def into(self, pool: Pool | None) -> Ref[Any]:
        """Get the object."""
        about = self._ask(DESCRIBE)
        visible = _visible(about.get("pool"), pool)
        if visible is not None:
            handle = self._ask(PLACE).get("block")
            if type(handle) is not int:
                raise Unexpected("a place without a block")
            ref: Ref[Any] = visible.member.ref(handle)
            self._ask(TAKEN)
            return ref
        to = default_pool() if pool is None else pool
        receive = _RECEIVERS.get(str(about.get("kind")))
        if receive is None:
            raise Unexpected(f"an object of the kind {about.get('kind')!r:.80}")
        forks.check()
        reader = forks.keep(self._client.do_get(self._flight.Ticket(self._token), self._options()))
        try:
            return receive(to, about, reader)
        except BaseException:
            if not forks.is_barred():
                reader.cancel()
            raise

    def _ask(self, what: str) -> dict[str, Any]:
        forks.check()
        action = self._flight.Action(what, self._token)
        answers = list(self._client.do_action(action, self._options()))
        try:
            found = json.loads(answers[0].body.to_pybytes()) if answers else {}
        except (ValueError, RecursionError) as error:
            raise Unexpected(f"an answer that is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise Unexpected("an answer that is no description")
        return found

    def _options(self) -> Any:
        if self._deadline is None:
            return self._flight.FlightCallOptions()
        left = max(0.001, self._deadline - time.monotonic())
        return self._flight.FlightCallOptions(timeout=left)


def _visible(offered: Any, pool: Pool | None) -> Pool | None:
    """Return the server's pool, if this process has joined it or can join it."""
    match offered:
        case {
            "id": str(name),
            "path": str(path),
            "device": int(device),
            "inode": int(inode),
            "identity": str(text),
        }:
            pass
        case _:
            return None
    try:
        identity = bytes.fromhex(text)
        if pool is None:
            # As for managers: ONECOPY_DIR says where pools are.
            if str(Path(path).parent) != paths.pool_directory():
                return None
            pool = Pool.of(membership.join((bytes.fromhex(name), path, False, device, inode)))
            if identity_of(pool.member) != identity:
                return None
        return pool if pool.can_see(identity) else None
    except (OneCopyError, OSError, ValueError):
        return None


# ------------------------------------------------------------------ what comes, and where it is put


class _Receiver(Protocol):
    def __call__(self, pool: Pool, about: dict[str, Any], reader: Any) -> Ref[Any]: ...


def _chunks(reader: Any) -> Iterator[Any]:
    """Return the batches of a reader. In a child that was forked meanwhile, raise an error."""
    chunks = iter(reader)
    while True:
        forks.check()
        try:
            chunk = next(chunks)
        except StopIteration:
            return
        yield chunk


def _pieces(reader: Any, nbytes: int) -> Iterator[tuple[int, Any]]:
    """Return the pieces of an object that is sent as bytes, and where each one begins."""
    import pyarrow as pa

    position = 0
    for chunk in _chunks(reader):
        column = chunk.data.column(0) if chunk.data.num_columns == 1 else None
        if column is None or column.type != pa.uint8() or column.null_count:
            raise Unexpected("batches that are not bytes")
        if not len(column):
            continue
        try:
            part = np.frombuffer(column.buffers()[1], np.uint8, len(column), column.offset)
        except (ValueError, TypeError) as error:
            raise Unexpected(f"a batch without its bytes: {error}") from error
        if position + part.nbytes > nbytes:
            raise Unexpected(f"more than {nbytes} bytes")
        yield position, part
        position += part.nbytes
    if position != nbytes:
        raise Unexpected(f"{position} bytes instead of {nbytes}")


def _size(about: dict[str, Any], key: str = "nbytes") -> int:
    size = about.get(key)
    if type(size) is not int or not 0 <= size <= _MOST:
        raise Unexpected(f"{key}={size!r:.80}")
    return size


def _receive_array(pool: Pool, about: dict[str, Any], reader: Any) -> Ref[Any]:
    shape, text, order = about.get("shape"), about.get("dtype"), about.get("order")
    nbytes = _size(about)
    if (
        not isinstance(text, str)
        or len(text) > _MOST_TEXT
        or not isinstance(shape, list)
        or len(shape) > _MOST_AXES
        or not all(type(n) is int and 0 <= n <= _MOST for n in shape)
    ):
        raise Unexpected("an array without shape and dtype")
    try:
        dtype = np.lib.format.descr_to_dtype(ast.literal_eval(text))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise Unexpected(f"a dtype that is none: {error}") from error
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != nbytes or order not in {"C", "F"}:
        raise Unexpected("an array whose size is not that of its shape and dtype")
    straight = pool.empty(tuple(shape if order == "C" else shape[::-1]), dtype)
    flat = straight.reshape(-1).view(np.uint8) if nbytes else np.empty(0, np.uint8)
    for position, part in _pieces(reader, nbytes):
        flat[position : position + part.nbytes] = part
    return pool.put(straight if order == "C" else straight.T)


def _receive_bytes(pool: Pool, about: dict[str, Any], reader: Any) -> Ref[Any]:
    return pool.put(b"".join(part for _, part in _pieces(reader, _size(about))))


def _table(pool: Pool, about: dict[str, Any], reader: Any) -> Any:
    """Write the batches into the pool as a stream of Arrow, and return the table in this memory."""
    import pyarrow as pa

    room = _size(about) + _SPARE + _SPARE_OF_BATCH * _size(about, "batches")
    memory = pool.empty(min(room, _MOST), np.uint8)
    with pa.FixedSizeBufferWriter(pa.py_buffer(memory)) as sink:
        with pa.ipc.new_stream(sink, reader.schema) as writer:
            for chunk in _chunks(reader):
                if sink.tell() + chunk.data.nbytes > room:
                    raise Unexpected(f"more than {room} bytes")
                chunk.data.validate(full=True)  # offsets that lead out of it, text that is none
                writer.write_batch(chunk.data)
        used = sink.tell()
    memory.flags.writeable = False
    with pa.ipc.open_stream(pa.py_buffer(memory[:used])) as stream:
        return stream.read_all()


def _receive_table(pool: Pool, about: dict[str, Any], reader: Any) -> Ref[Any]:
    return pool.put(_table(pool, about, reader))


def _receive_batch(pool: Pool, about: dict[str, Any], reader: Any) -> Ref[Any]:
    batches = _table(pool, about, reader).to_batches()
    if len(batches) != 1:
        raise Unexpected(f"{len(batches)} batches instead of one")
    return pool.put(batches[0])


def _receive_pandas(pool: Pool, about: dict[str, Any], reader: Any) -> Ref[Any]:
    return pool.put(_table(pool, about, reader).to_pandas())


def _receive_polars(pool: Pool, about: dict[str, Any], reader: Any) -> Ref[Any]:
    import polars as pl

    return pool.put(pl.from_arrow(_table(pool, about, reader)))


_RECEIVERS: dict[str, _Receiver] = {
    "array": _receive_array,
    "bytes": _receive_bytes,
    "table": _receive_table,
    "batch": _receive_batch,
    "pandas": _receive_pandas,
    "polars": _receive_polars,
}


# ------------------------------------------------------------------------------------------- errors


@contextmanager
def _clear_errors(
    flight: Any, target: Address, tls: TLS | None, timeout: float | None
) -> Iterator[None]:
    """Raise the errors that `fetch` documents in place of those of Arrow."""
    import pyarrow as pa

    try:
        yield
    except flight.FlightTimedOutError as error:
        raise TimeoutError(
            f"the fetch from {target} was not complete after {timeout} s: nothing of it is kept"
        ) from error
    except pa.ArrowKeyError as error:
        raise StaleRef(
            f"the server at {target} does not know the ticket: it has expired, was released, or no "
            "fetch is left; or another server listens there now. Ask for a new one"
        ) from error
    except (
        flight.FlightUnavailableError,
        flight.FlightInternalError,
        flight.FlightCancelledError,
    ) as error:
        raise ConnectionError(_why_gone(target, tls, error)) from error
    except (flight.FlightError, pa.ArrowException, Unexpected) as error:
        raise ConnectionError(
            f"what listens at {target} does not answer as a server of onecopy: {_line(error)}"
        ) from error


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0].partition(". gRPC client debug")[0][:300]


def _why_gone(target: Address, tls: TLS | None, error: BaseException) -> str:
    """Explain that there is no connection. To gRPC, a wrong certificate is as a dead server."""
    if tls is not None and (why := _wrong_certificate(target, tls)):
        return f"no connection to {target}: {why}"
    return (
        f"the server at {target} does not run, has ended during the fetch, or cannot be reached "
        f"({_line(error)}). Nothing of the object is kept"
    )


_REFUSED = (
    "the server ends the connection when it has the certificate of this process. Has an authority "
    "of the server's cafile= signed it, and is it valid today?"
)


def _wrong_certificate(target: Address, tls: TLS) -> str | None:
    """Try a handshake, and return what is wrong with a certificate; None: nothing is."""
    import socket
    import ssl

    context = context_of(tls, server=False)
    name = target.host if tls.server_hostname is None else tls.server_hostname
    try:
        with (
            socket.create_connection((target.host, target.port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            if connection.recv(1):  # a refusal comes after the handshake
                return None
            return _REFUSED
    except ConnectionResetError:
        return _REFUSED
    except ssl.SSLCertVerificationError as error:
        return (
            f"the certificate of the server is not accepted: {error.verify_message}. An authority "
            f"of cafile={tls.cafile!r} must have signed it, and it must have the name {name!r}"
        )
    except ssl.SSLError as error:
        if is_refusal(error):
            return f"the server does not accept the certificate of this process ({error.reason})"
        return f"the handshake for TLS fails ({error.reason}): does it use TLS?"
    except OSError:
        return None
