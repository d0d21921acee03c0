"""Connections between managers and their proxies, which send arrays by reference.

A message is a pickle, as in the standard library. If both ends have joined one pool, the sender
puts an array of 64 KiB or more into it, and uses the block of an array that is in the pool already.
The pickle then has a stand-in: a call of `arrive` with the handles of the pool and of the block.
The receiver only unpickles. If there is no common pool, or if the pool is full, the pickle has the
bytes. The sender decides; all receivers work alike.

A stand-in is sent only to a peer that has joined the pool. A client asks the server for its pool,
and answers whether it has joined that pool. A server of the standard library answers this question
with an error. A client of the standard library never asks it. Both get messages without stand-ins.

A stand-in keeps no block alive. Therefore the sender holds the block until the next message arrives
on that connection. For a client, that message is the answer, which comes after the server has
unpickled the request. For a server, the next request may come much later. Therefore a client that
has unpickled an answer with stand-ins sends an empty message at once, which is not a request. Only
peers with a common pool send or get stand-ins, so both ends know this message. If the receiver dies
first, the connection ends, and the sender releases the block.

An array that was copied for a message belongs to the receiver, which may write to it. If the
receiver sends it, it is copied again. So two processes have the same memory only if neither may
write to it, or if it is a `SharedArray`.
"""

from __future__ import annotations

import errno
import io
import os
import pickle
import socket
import struct
from contextlib import suppress
from multiprocessing import connection, util
from multiprocessing import context as standard_context
from multiprocessing import managers as standard
from typing import TYPE_CHECKING, Any, NoReturn

from onecopy._core import membership, paths
from onecopy._core.current import default_member
from onecopy.errors import OneCopyError
from onecopy.multiprocessing._wire_errors import (
    NoManagerError,
    ServerEnded,
    ended,
    is_out_of_reach,
    reaching,
)
from onecopy.multiprocessing._wire_objects import SERIALIZER, Apart, MessagePickler, receiving

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._core.membership import PoolHandle
    from onecopy._native import Member

__all__ = ["SERIALIZER", "Client", "Connection", "Listener", "offer", "reaching"]

ACKNOWLEDGED = b""  # an answer with stand-ins was unpickled. No pickle is empty
SILENCE = 120  # seconds without an answer after which a machine counts as gone
HANDSHAKE_TIMEOUT = 30  # seconds to connect to a peer, and to authenticate it
BACKLOG = 128  # clients that may wait for `accept`; the standard library had 16 until 3.13

QUESTION = "#ONECOPY"  # a method that every object of a server of onecopy has


# ------------------------------------------------------------------------------------ the two ends


class Connection(connection.Connection):
    """The server's end of a connection.

    A message is unpickled only after the peer has proved that it has the key: the server of the
    standard library checks this before it calls `recv`.
    """

    handle: PoolHandle | None = None
    serializer: Any = None  # with TLS: what replaces the serializers of other ends in messages
    _ours: bool | None = False
    _pool: Member | None = None
    _offered: Member | None = None
    _unproved = False
    _in_flight: Any = None

    @classmethod
    def accepted(cls, plain: connection.Connection[Any, Any]) -> Connection:
        """Take over an accepted connection; its peer must prove within 30 s that it has the key.

        Parameters
        ----------
        plain : multiprocessing.connection.Connection
            Closed by this.

        Returns
        -------
        Connection
        """
        with plain:
            self = cls(os.dup(plain.fileno()))
        set_timeout(self.fileno(), HANDSHAKE_TIMEOUT)
        self._unproved = True
        # A forked child has no thread that serves the connection. If it kept the descriptor, the
        # client would not notice the death of this process.
        util.register_after_fork(self, cls.close)
        return self

    def pool(self) -> Member | None:
        """Return the pool that both ends have joined, or None."""
        return self._pool

    def pool_id(self) -> bytes | None:
        """Return the identity of the pool that both ends have joined, or None."""
        pool = self.pool()
        return None if pool is None else pool.id

    def is_ours(self) -> bool:
        """Return whether the peer uses onecopy."""
        return bool(self._ours)

    def answer(self, joined: bytes | None) -> Any:
        """Answer the question for the pool, or store that the client has joined it.

        Parameters
        ----------
        joined : bytes or None
            The identity of the pool that the client has joined; None: the client asks.

        Returns
        -------
        PoolHandle or None, or bool
            The pool; or whether the client has joined the right one.
        """
        if joined is None:
            self._ours = True
            self._offered = offer()
            return None if self._offered is None else membership.handle_of(self._offered)
        if self._offered is None or self._offered.id != joined:
            return False
        self._share(self._offered)
        return True

    def _share(self, pool: Member) -> None:
        self.handle = membership.handle_of(pool)
        self._pool = pool

    def send(self, obj: Any) -> None:
        """Send an object; large arrays go by reference if the peer has joined the pool.

        Raises
        ------
        OSError
            The connection has ended.
        Exception
            The object cannot be pickled; the error is pickle's. Nothing was sent.
        """
        file = io.BytesIO()
        pickler = MessagePickler(file, self)
        pickler.dump(obj)
        data: Any = file.getbuffer()
        if pickler.apart:
            assert self.handle is not None  # noqa: S101 - something was put there
            data = pickle.dumps(Apart(file.getvalue(), self.handle, pickler.apart), 5)
        self._in_flight = pickler.kept
        self.send_bytes(data)

    def recv(self) -> Any:
        """Wait for an object, and unpickle it.

        Raises
        ------
        EOFError
            The peer has ended.
        """
        if self._unproved:
            self._unproved = False
            set_timeout(self.fileno(), 0)
        while True:
            data = self.recv_bytes()
            self._in_flight = None
            if data != ACKNOWLEDGED or self._pool is None:
                break
        before = getattr(receiving, "serializer", None)
        receiving.serializer = self.serializer
        try:
            return pickle.loads(data)
        finally:
            receiving.serializer = before

    def close(self) -> None:
        """Close it."""
        self._in_flight = None
        super().close()


def key_for(address: Any) -> bytes | None:
    """Return the key of the manager at an address, if this thread unpickles its message."""
    of: ClientConnection | None = getattr(receiving, "connection", None)
    return of.key if of is not None and of.address == address else None


class ClientConnection(Connection):
    """A client's end of a connection.

    An exception in the middle of a message closes the connection. Otherwise a late answer could be
    taken for the answer to another request.
    """

    _ours = None  # until the server is asked
    _waiting = False  # for an answer
    owes = False  # the acknowledgement of an answer with stand-ins

    def __init__(self, descriptor: int, address: Any, key: bytes | None) -> None:
        super().__init__(descriptor)
        self.address = address
        self.key = key
        self._pid = os.getpid()

    def another(self) -> Any:
        """Connect to the same server again."""
        return Client(self.address, authkey=self.key)

    def begin(self) -> None:
        """Do what comes before the first message: nothing, without TLS."""

    @property
    def usable(self) -> bool:
        """Whether a request can be sent.

        It cannot after a request that was interrupted in the middle. It cannot in a child of
        `os.fork`: the connection belongs to the parent.
        """
        return not self.closed and not self._waiting and self._pid == os.getpid()

    def check_matches(self, ident: str) -> None:
        """Ask the server of this connection for its pool, and join that pool if possible.

        Parameters
        ----------
        ident : str
            Any object of the server.

        Raises
        ------
        ServerEnded
            It has ended.
        """
        try:
            offered = standard.dispatch(self, ident, QUESTION)  # type: ignore[attr-defined]  # undocumented
        except standard.RemoteError:
            self._ours = False
            return
        self._ours = True
        pool = _join(offered)
        if pool is not None and standard.dispatch(self, ident, QUESTION, (pool.id,)):  # type: ignore[attr-defined]  # as above
            self._share(pool)

    def pool(self) -> Member | None:
        """Ask the server for its pool; return the pool that both ends have joined, or None."""
        self.is_ours()
        return self._pool

    def is_ours(self) -> bool:
        """Ask whether the server uses onecopy.

        For connections that send only one request: a second connection asks.
        """
        if self._ours is None:
            self._ours = False
            with self.another() as other:
                try:
                    offered = standard.dispatch(other, None, "onecopy_pool")  # type: ignore[attr-defined]  # undocumented
                except standard.RemoteError:
                    return False
            self._ours = True
            pool = _join(offered)
            if pool is not None:
                self._share(pool)
        return self._ours

    def send(self, obj: Any) -> None:
        """Send a request.

        Raises
        ------
        ServerEnded
            The server has ended.
        Exception
            The object cannot be pickled; the error is pickle's. Nothing was sent.
        """
        super().send(obj)
        self._waiting = True

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Send bytes as a message; as `send`."""
        try:
            super().send_bytes(buf, offset, size)
        except BaseException as error:  # noqa: BLE001 - raised again, as itself or as `ServerEnded`
            self._break_off(error)

    def recv(self) -> Any:
        """Wait for the answer.

        Raises
        ------
        ServerEnded
            The server has ended.
        """
        before = getattr(receiving, "connection", None)
        receiving.connection = self
        self.owes = False
        try:
            return super().recv()
        finally:
            receiving.connection = before
            if self.owes and self._pool is not None and not self.closed:
                # If the server has ended in the meantime, the next request fails.
                with suppress(ServerEnded):
                    self.send_bytes(ACKNOWLEDGED)

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Wait for a message; as `recv`."""
        try:
            data = super().recv_bytes(maxlength)
        except BaseException as error:  # noqa: BLE001 - raised again, as itself or as `ServerEnded`
            self._break_off(error)
        self._waiting = False
        return data

    def _break_off(self, error: BaseException) -> NoReturn:
        self.close()
        if isinstance(error, ConnectionError | EOFError) or is_out_of_reach(error):
            raise ended(self.address, error) from error
        raise error


class Listener(connection.Listener):
    """Listens for clients; as the standard library's, but `accept` returns `Connection`s."""

    def __init__(
        self,
        address: Any = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        super().__init__(address, family, max(backlog, BACKLOG), authkey)

    def accept(self) -> Connection:
        """Wait for a client."""
        return self.take(super().accept())

    def take(self, plain: connection.Connection[Any, Any]) -> Connection:
        """Take over a connection that was accepted."""
        return Connection.accepted(plain)

    def close_in_child(self) -> None:
        """Close the socket in a forked child; the listener of the parent, and its file, stay."""
        self._listener._socket.close()  # type: ignore[attr-defined]  # there is no other way to it


def Client(address: Any, family: str | None = None, authkey: bytes | None = None) -> Any:
    """Connect to a server.

    Parameters
    ----------
    address : tuple or str
        Host and port, or the path of a socket.
    family : str, optional
        For example ``"AF_INET"``. Default: the family that the address has the form of.
    authkey : bytes, optional
        The key that both ends must have.

    Returns
    -------
    ClientConnection

    Raises
    ------
    ConnectionRefusedError, FileNotFoundError, OSError
        No process listens there.
    TimeoutError
        There was no answer for 30 s.
    AuthenticationError
        The server has another key.
    ConnectionError
        The process that listens there is not a manager, or ended before it answered.
    TypeError
        The key is not of type bytes.
    """
    return reach(ClientConnection, address, family, authkey)


def reach(
    kind: Callable[[int, Any, bytes | None], ClientConnection],
    address: Any,
    family: str | None,
    authkey: bytes | None,
) -> ClientConnection:
    """Connect to a server as `Client` does, by a connection of some kind."""
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError(f"authkey is bytes, not {type(authkey).__name__}")
    family = family or connection.address_type(address)  # type: ignore[attr-defined]  # undocumented
    with socket.socket(getattr(socket, family)) as sock:
        sock.setblocking(True)
        set_timeout(sock.fileno(), HANDSHAKE_TIMEOUT)
        try:
            sock.connect(address)
        except BlockingIOError as error:
            what = (
                f"nobody at {address!r} has taken a connection for {HANDSHAKE_TIMEOUT} s: is it "
                "the address of a manager, and can it be reached from here?"
            )
            if family == "AF_UNIX":
                raise TimeoutError(what) from error  # a server exists, and is busy
            raise TimeoutError(errno.ETIMEDOUT, what) from error
        self = kind(sock.detach(), address, authkey)
    try:
        self.begin()
        if authkey is not None:
            _prove(self, authkey)
        set_timeout(self.fileno(), 0)
    except BaseException:
        self.close()
        raise
    return self


def _prove(self: ClientConnection, authkey: bytes) -> None:
    """Prove to the server that this process has the key, and check that the server has it."""
    try:
        connection.answer_challenge(self, authkey)
        connection.deliver_challenge(self, authkey)
    except standard_context.AuthenticationError:
        raise
    except BlockingIOError as error:
        raise no_answer(self.address) from error
    except (AssertionError, EOFError, OSError) as error:
        raise NoManagerError(
            f"what listens at {self.address!r} is no manager, or has ended just now: it did not "
            f"answer as one ({error})"
        ) from error


def no_answer(address: Any) -> TimeoutError:
    """Make the error for a process that listens, and says nothing."""
    return TimeoutError(
        f"what listens at {address!r} has not answered for {HANDSHAKE_TIMEOUT} s: is it a manager? "
        "A manager with tls= waits for clients with tls=, and one without for clients without"
    )


def set_timeout(descriptor: int, seconds: int) -> None:
    """Make reads and writes of a socket fail (EAGAIN) after a time; 0: never."""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        sock.setblocking(True)  # also after socket.setdefaulttimeout
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", seconds, 0))
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A machine without power closes no connection. The kernel probes an idle connection
            # after one minute, and then up to four times. It does not probe while sent data is not
            # acknowledged. Without a limit it would send that data again for about 15 minutes.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE // 2)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE // 8)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE * 1000)


# --------------------------------------------------------------------------------------- which pool


def offer() -> Member | None:
    """Return the pool of this process that clients may join; None: no pool can be made."""
    try:
        return default_member()
    except (OneCopyError, OSError, ValueError):
        return None


def _join(offered: PoolHandle | None) -> Member | None:
    """Join the pool of a server; None: other machine, user or pool directory.

    Only a pool in this process's own pool directory is joined: ``ONECOPY_DIR`` says where pools
    are. The pool's identity shows that it is the server's: 16 random bytes.
    """
    if offered is None:
        return None
    try:
        if os.path.dirname(offered[1]) != paths.pool_directory():  # noqa: PTH120 - pathlib is not loaded for this
            return None
        return membership.join(offered)
    except (OneCopyError, OSError):
        return None


standard.listener_client[SERIALIZER] = Listener, Client  # type: ignore[attr-defined]  # the registry of ways to talk
