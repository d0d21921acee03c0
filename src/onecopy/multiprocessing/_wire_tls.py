"""Connections between managers and their proxies that are encrypted: mutual TLS.

The messages are those of `_wire`. Both ends show a certificate, and then prove that they have the
key of the manager (``authkey``), as without TLS.

*How the files come to all places that connect.* The standard library finds the functions that
listen and connect by the name of the serializer, and this name travels with proxies and to the
server's process. The name of a manager with TLS is a `TlsSerializer`, which has the names of the
files. A process that unpickles it can connect. In messages over TLS, the name is replaced by
`receivers_own`: the peer may be on another host, and has files of its own.

*How a message is sent.* 8 bytes with its length in network order, and then the message. TLS ensures
that nothing is changed, repeated or left out in between. If the connection is cut, the length shows
that the message is not complete.

*Waiting.* The server accepts a connection without a word. The handshake happens in the
connection's own thread, before the first message, and has a limit of time. So a client that says
nothing occupies one thread for a few seconds, and the server serves the others.
"""

from __future__ import annotations

import io
import os
import ssl
import struct
import time
from contextlib import suppress
from functools import partial
from multiprocessing import connection, util
from multiprocessing import context as standard_context
from multiprocessing import managers as standard
from typing import Any

from onecopy._core.tls import TLS, context_of, is_refusal
from onecopy.multiprocessing import _wire
from onecopy.multiprocessing._wire_errors import NoManagerError
from onecopy.multiprocessing._wire_objects import SERIALIZER, SerializerName

__all__ = ["TlsListener", "TlsSerializer", "checked", "connect", "serializer_of"]

LIMIT = 10  # seconds for a handshake at the server; a client waits for longer
PIECE = 256 << 10  # bytes that are encrypted, or read, at once
SMALL = 16 << 10  # bytes; up to here a message is sent in one piece with its length
LENGTH = struct.Struct("!Q")

# A client without TLS, and also one of the standard library, shows this text in its error.
PLEASE_USE_TLS = b"this manager uses TLS: give the client tls=onecopy.TLS(...)"


class TlsSerializer(SerializerName):
    """The name of the serializer of a manager with TLS. It has the files."""

    tls: TLS

    def __new__(cls, tls: TLS) -> TlsSerializer:
        self = super().__new__(cls, f"onecopy with {tls!r}")
        self.tls = tls
        return self

    def __reduce__(self) -> Any:
        return serializer_of, (self.tls,)


def checked(tls: Any, address: Any, serializer: str) -> TlsSerializer:
    """Return the serializer of a manager with TLS, if its other arguments allow TLS.

    Raises
    ------
    TypeError, ValueError
        As `BaseManager`.
    """
    if not isinstance(tls, TLS):
        raise TypeError(
            f"tls is a onecopy.TLS, not {type(tls).__name__}: each process makes contexts from the "
            "names of the files. An ssl.SSLContext cannot be sent to the server's process"
        )
    if not isinstance(address, tuple):
        raise ValueError(  # noqa: TRY004 - a path is an address, too
            f"tls is for an address of host and port, not for {address!r}: without host and port, "
            "a manager listens at a socket in the file system, which other machines cannot reach"
        )
    if serializer != SERIALIZER:
        raise ValueError(f"tls is for the serializer 'pickle', not {serializer!r}")
    return serializer_of(tls)


def serializer_of(tls: TLS) -> TlsSerializer:
    """Return the serializer for some files; this process can then listen and connect with it."""
    name = TlsSerializer(tls)
    known: dict[Any, Any] = standard.listener_client  # type: ignore[attr-defined]  # the registry of ways to talk
    known.setdefault(name, (partial(TlsListener, name), partial(connect, name)))
    return name


class _Encrypted(connection.Connection):
    """What both ends have in common: bytes through TLS, over the descriptor of the connection."""

    serializer: TlsSerializer
    _engine: ssl.SSLObject | None = None

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Send bytes as a message.

        Raises
        ------
        OSError
            The connection has ended.
        ValueError
            Offset and size do not fit.
        """
        self._begin()
        view = memoryview(buf).cast("B")
        end = len(view) if size is None else offset + size
        if not 0 <= offset <= end <= len(view):
            raise ValueError(f"no {size} bytes at {offset} in a buffer of {len(view)} bytes")
        view = view[offset:end]
        length = LENGTH.pack(len(view))
        if len(view) <= SMALL:
            self._write(length + view)
            return
        self._write(length)
        for start in range(0, len(view), PIECE):
            self._write(view[start : start + PIECE])

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Wait for a message.

        Raises
        ------
        EOFError
            The peer has ended.
        OSError
            The connection was cut in the middle of a message, or the message is too long.
        """
        self._begin()
        (size,) = LENGTH.unpack(self._read(LENGTH.size, first=True))
        if maxlength is not None and size > maxlength:
            self.close()
            raise OSError(f"a message of {size} bytes; at most {maxlength} were expected")
        return self._read(size)

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Wait for a message, and write it into a buffer; return its length.

        Raises
        ------
        BufferTooShort
            The buffer is too short; the error has the message.
        """
        data = self.recv_bytes()
        view = memoryview(buf).cast("B")[offset:]
        if len(data) > len(view):
            raise standard_context.BufferTooShort(data)
        view[: len(data)] = data
        return len(data)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Tell whether bytes have arrived. They may be a part of a message."""
        self._begin()
        assert self._engine is not None  # noqa: S101 - it has begun
        return bool(self._engine.pending() or self._incoming.pending) or super().poll(timeout)

    def _make_engine(self) -> ssl.SSLObject:
        raise NotImplementedError

    def _begin(self) -> None:
        """Make the handshake, if it was not made yet."""
        if self._engine is None:
            self.fileno()  # raises if it is closed
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            engine = self._make_engine()
            self._shake_hands(engine, _wire.HANDSHAKE_TIMEOUT)
            self._engine = engine

    def _shake_hands(self, engine: ssl.SSLObject, limit: int) -> None:
        deadline = time.monotonic() + limit  # seconds
        while True:
            try:
                engine.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not self._fill():
                    raise EOFError("it has closed the connection") from None
                if time.monotonic() > deadline:  # it has sent single bytes
                    raise BlockingIOError("the handshake takes too long") from None
            except ssl.SSLError:
                with suppress(OSError):
                    self._flush()  # the peer learns the reason
                raise
            else:
                self._flush()
                return

    def _write(self, data: bytes | memoryview) -> None:
        assert self._engine is not None  # noqa: S101 - it has begun
        view = memoryview(data)
        while view:
            view = view[self._engine.write(view) :]
        self._flush()

    def _flush(self) -> None:
        """Send what was encrypted."""
        view = memoryview(self._outgoing.read())
        while view:
            view = view[os.write(self.fileno(), view) :]

    def _fill(self) -> bool:
        """Receive what is to be decrypted; False: the peer has ended."""
        data = os.read(self.fileno(), PIECE)
        self._incoming.write(data)
        return bool(data)

    def _read(self, size: int, *, first: bool = False) -> bytes:
        """Receive a number of bytes. Memory is used only for bytes that have arrived."""
        assert self._engine is not None  # noqa: S101 - it has begun
        found = io.BytesIO()
        missing = size
        while missing:
            try:
                data = self._engine.read(min(missing, PIECE))
            except ssl.SSLWantReadError:
                if self._fill():
                    continue
                data = b""
            except ssl.SSLError as error:
                if is_refusal(error):
                    raise refused(error) from error
                raise
            if not data:
                if first and missing == size:
                    raise EOFError
                raise OSError("the connection ended in the middle of a message")
            missing -= found.write(data)
        return found.getvalue()


class TlsConnection(_wire.Connection, _Encrypted):
    """The server's end of a connection with TLS."""

    _ours = True  # no other program has such a connection

    @classmethod
    def with_tls(cls, plain: connection.Connection[Any, Any], name: TlsSerializer) -> TlsConnection:
        """Take over an accepted connection. The handshake comes with the first message."""
        self = cls.accepted(plain)
        assert isinstance(self, TlsConnection)  # noqa: S101 - as `cls` says
        self.serializer = name
        return self

    def _make_engine(self) -> ssl.SSLObject:
        context = context_of(self.serializer.tls, server=True)
        return context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def _shake_hands(self, engine: ssl.SSLObject, limit: int) -> None:
        _wire.set_timeout(self.fileno(), LIMIT)
        try:
            super()._shake_hands(engine, LIMIT)
        except Exception as error:
            util.info("a client was refused, because its handshake for TLS failed: %r", error)
            if isinstance(error, BlockingIOError) and not self._spoke:
                with suppress(OSError):
                    _say_in_the_clear(self.fileno(), PLEASE_USE_TLS)
            self.close()
            raise
        _wire.set_timeout(self.fileno(), limit)

    _spoke = False  # the client has sent something

    def _fill(self) -> bool:
        more = super()._fill()
        self._spoke = self._spoke or more
        return more


def _say_in_the_clear(descriptor: int, text: bytes) -> None:
    """Send a message as the standard library does."""
    with connection.Connection(os.dup(descriptor)) as plain:
        plain.send_bytes(text)


class TlsClientConnection(_wire.ClientConnection, _Encrypted):
    """A client's end of a connection with TLS."""

    def __init__(
        self, serializer: TlsSerializer, descriptor: int, address: Any, key: bytes | None
    ) -> None:
        super().__init__(descriptor, address, key)
        self.serializer = serializer

    def another(self) -> Any:
        """Connect to the same server again."""
        return connect(self.serializer, self.address, authkey=self.key)

    def begin(self) -> None:
        """Make the handshake.

        Raises
        ------
        AuthenticationError
            One end does not accept the certificate of the other.
        NoManagerError
            What listens there does not use TLS.
        TimeoutError
            There was no answer for 30 s.
        """
        try:
            self._begin()
        except BlockingIOError as error:
            raise _wire.no_answer(self.address) from error
        except ssl.SSLCertVerificationError as error:
            raise standard_context.AuthenticationError(
                f"the certificate of what listens at {self.address!r} is not accepted: "
                f"{error.verify_message}. It must be signed by an authority of "
                f"cafile={self.serializer.tls.cafile!r}, be valid today, and have the name "
                f"{self._hostname!r} (else give TLS(server_hostname=...))"
            ) from error
        except ssl.SSLError as error:
            if is_refusal(error):
                raise refused(error) from error
            raise NoManagerError(
                f"what listens at {self.address!r} does not use TLS ({error.reason}). A manager "
                "that was made without tls= is reached without tls=; or it is another program"
            ) from error
        except (EOFError, OSError) as error:
            raise NoManagerError(
                f"what listens at {self.address!r} has ended the connection during the handshake "
                f"for TLS: is it a manager with tls=? ({error})"
            ) from error

    @property
    def _hostname(self) -> str:
        named = self.serializer.tls.server_hostname
        return str(self.address[0]) if named is None else named

    def _make_engine(self) -> ssl.SSLObject:
        context = context_of(self.serializer.tls, server=False)
        return context.wrap_bio(
            self._incoming, self._outgoing, server_side=False, server_hostname=self._hostname
        )


def refused(error: ssl.SSLError) -> standard_context.AuthenticationError:
    """Make the error for an alert of the peer."""
    return standard_context.AuthenticationError(
        f"the manager does not accept the certificate of this process ({error.reason}): an "
        "authority of the manager's cafile= must have signed it, and it must be valid today, also "
        "by the clock of the manager's host"
    )


class TlsListener(_wire.Listener):
    """Listens for clients with TLS. `accept` does not wait for the handshake."""

    def __init__(
        self,
        serializer: TlsSerializer,
        address: Any = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        context_of(serializer.tls, server=True)  # raises if the files cannot be used
        self._serializer = serializer
        super().__init__(address, family, backlog, authkey)

    def take(self, plain: connection.Connection[Any, Any]) -> TlsConnection:
        """Take over a connection."""
        return TlsConnection.with_tls(plain, self._serializer)


def connect(
    serializer: TlsSerializer,
    address: Any,
    family: str | None = None,
    authkey: bytes | None = None,
) -> Any:
    """Connect to a server with TLS; as `_wire.Client`, and with the errors of `begin`."""
    return _wire.reach(partial(TlsClientConnection, serializer), address, family, authkey)
